"""Plans: what a sync reads of each half and where it goes, worked out from the spec and the source's own description.

Belongs here: columns after normalisation, the rule that assigns rows to partitions, the identity of all rules.
Does not: opening connections, reading rows, committing (`engine`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import psycopg
import pyarrow as pa

from analytics_pipeline.errors import (
    ColumnMissing,
    IncrementalColumnUnfit,
    KeyEqualityWider,
    KeyInexact,
    KeysDoNotJoin,
    SourceQueryRefused,
    TypeImpossible,
    UnknownPartition,
    UnpartitionedSelection,
)
from analytics_pipeline.store import Table
from analytics_pipeline.sync import normalize
from analytics_pipeline.sync.fingerprint import row_hash, spec_hash
from analytics_pipeline.sync.postgres.counts import estimated_rows
from analytics_pipeline.sync.postgres.describe import SourceColumn, TypeKind, describe
from analytics_pipeline.sync.postgres.failures import translated, url_of
from analytics_pipeline.sync.postgres.keys import has_wider_equality
from analytics_pipeline.sync.postgres.projection import Projection, plain_projection
from analytics_pipeline.sync.postgres.role_settings import unusual_settings
from analytics_pipeline.sync.postgres.row_version import wait_until_durable, xmin_hash
from analytics_pipeline.sync.postgres.sql import column as q_column
from analytics_pipeline.sync.postgres.sql import quote_identifier
from analytics_pipeline.sync.postgres.stored_as import deep_arrays, losses, rule_as
from analytics_pipeline.sync.postgres.types import ColumnRule, rule_for
from analytics_pipeline.sync.routing import HASHES, Cut
from analytics_pipeline.sync.spec import FingerprintKind, Half, SplitSyncSpec
from analytics_pipeline.sync.stored_types import JSON, stored_type
from analytics_pipeline.sync.windows import REST, WHOLE, ColumnKind, Window, WindowSql

KEY = "dataset_id"
"""The column by which the halves are joined, after normalisation."""

_KINDS = {"timestamptz": ColumnKind.TIMESTAMPTZ, "timestamp": ColumnKind.TIMESTAMP, "date": ColumnKind.DATE}
_VERSION = "__xmin"
_INTEGERS = frozenset({"int2", "int4", "int8"})
_WITHOUT_ORDER = frozenset({"box", "circle", "json", "line", "lseg", "path", "point", "polygon", "xid", "xml"})
_MOST_COLUMNS = 1664
"""Of one SELECT in PostgreSQL."""


class Bounds(NamedTuple):
    """A partition's window in UTC; None where it is no window."""

    lower: datetime | None
    upper: datetime | None


_NO_BOUNDS = Bounds(None, None)


def _bounds(window: Window) -> Bounds:
    return Bounds(window.lower, window.upper) if window.lower < window.upper else _NO_BOUNDS


@dataclass(frozen=True)
class HalfPlan:
    """Everything about one half that does not depend on its rows.

    Args:
        half: which one.
        table: its published table.
        query: the user's; for row versions, the same rows with their versions.
        rules: of the columns, in order.
        names: store name of each source column.
        windows: SQL of the partitions; None for an unpartitioned table.
        hashes: SQL that gives a row's hash, of each kind that is kept; the first one tells what changed.
        spec_hash: identity of all of this.
        estimate: rows that PostgreSQL expects.
        split_by: column of the query to split a read by; None for one stream.
        unfit_to_split: type of the partition_column where no read can be split by it.
    """

    half: Half
    table: str
    query: str
    rules: Sequence[ColumnRule]
    names: Mapping[str, str]
    windows: WindowSql | None
    hashes: Mapping[FingerprintKind, str]
    spec_hash: str
    estimate: int
    split_by: str | None = None
    unfit_to_split: str | None = None

    @property
    def kind(self) -> FingerprintKind:
        """By what changes are found."""
        return next(iter(self.hashes))

    @property
    def key(self) -> ColumnRule:
        """The rule of the column that joins the halves."""
        return next(rule for rule in self.rules if self.names[rule.name] == KEY)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the rows in the store."""
        return pa.schema([pa.field(self.names[rule.name], rule.arrow_type) for rule in self.rules])

    @cached_property
    def bounds(self) -> Mapping[str, Bounds]:
        """Every partition that the half has, in order."""
        if self.windows is None:
            return {WHOLE: _NO_BOUNDS}
        return {window.key: _bounds(window) for window in self.windows.windows} | {REST: _NO_BOUNDS}

    @property
    def bucket(self) -> str:
        """SQL that gives a row's bucket."""
        return self.windows.bucket if self.windows else "NULL::pg_catalog.int4"

    @property
    def travelling_rules(self) -> Sequence[ColumnRule]:
        """The columns to read: the stored ones, then the hashes."""
        return (*self.rules, *(_integer_rule(HASHES[kind], sql) for kind, sql in self.hashes.items()))

    @cached_property
    def cut(self) -> Cut:
        """How rows that arrive fall into partitions: the same bounds as `bucket`."""
        if self.windows is None:
            return Cut(None, (), (WHOLE,))
        column = [q_column(rule.name) for rule in self.rules].index(self.windows.column)
        return Cut(column, self.windows.thresholds, self.windows.bucket_keys)

    @property
    def time_column(self) -> str | None:
        """The incremental column by its name in the store; None for an unpartitioned table."""
        return None if self.cut.column is None else self.schema.field(self.cut.column).name

    def key_of(self, bucket: int | None) -> str:
        """The partition of a bucket that Postgres gave."""
        return self.cut.keys[bucket or 0]

    def is_other_than(self, published: Table | None) -> bool:
        """Whether a table is none yet, or was made by other queries, columns, types or windows."""
        if published is None:
            return True
        return any(partition.spec_hash != self.spec_hash for partition in published.partitions.values())

    def losses(self, published: Table | None) -> str | None:
        """What the store does not keep of its columns, where they are stored for the first time or otherwise."""
        return losses(self.table, list(self.rules)) if self.is_other_than(published) else None

    def selecting(self, keys: frozenset[str]) -> str | None:
        """The condition for the rows of some partitions; None where that is every row."""
        return self.windows.selecting(keys) if self.windows else None


def plan_halves(
    spec: SplitSyncSpec,
    connection: psycopg.Connection,
    source: str,
    until: datetime,
    published: Mapping[str, Table] = MappingProxyType({}),
) -> Mapping[Half, HalfPlan]:
    """The plans of both halves.

    Args:
        spec: of the dataset.
        connection: to the source.
        source: identity of the source without secrets.
        until: the last window is the one that holds this moment.
        published: tables whose columns keep their types where there is a choice.

    Raises:
        ColumnMissing: a query lacks `dataset_id`, the incremental column, or one that `columns` renames.
        ColumnNamesClash: two columns would get one name.
        IncrementalColumnUnfit: no partition follows from its type.
        KeysDoNotJoin: the halves' `dataset_id` have different types.
        SourceError: Postgres refused a query.
    """
    described = {half: describe(connection, spec.query(half)) for half in Half}
    _check_renames(spec, described)
    windows = spec.windows(until)
    with translated(url_of(connection)):
        origin = (source, *unusual_settings(connection))
    plans = {
        half: _plan(
            spec,
            _rows_of(spec, half, connection, columns, published.get(spec.table(half))),
            columns,
            windows,
            origin,
        )
        for half, columns in described.items()
    }
    _check_keys(plans)
    for half, columns in described.items():
        _refuse_wider_key(connection, plans[half], columns, spec.types.get(half, {}))
    return plans


def _check_keys(plans: Mapping[Half, HalfPlan]) -> None:
    """Text and numbers do not join; two sizes of integers do."""
    found = {plan.table: plan.schema.field(KEY).type for plan in plans.values()}
    for table, type_ in found.items():
        if pa.types.is_floating(type_):
            raise KeyInexact(KEY, table)
    kinds = {"an integer" if pa.types.is_integer(type_) else str(type_) for type_ in found.values()}
    if len(kinds) > 1:
        raise KeysDoNotJoin(KEY, {table: str(type_) for table, type_ in found.items()})
    # Numerics of too many digits are stored as text, in which 1.0 is not 1.00.
    sources = {plan.table: plan.key.source_type for plan in plans.values()}
    if len(set(sources.values())) > 1 and any(type_.startswith("numeric") for type_ in sources.values()):
        raise KeysDoNotJoin(KEY, sources)


def _refuse_wider_key(
    connection: psycopg.Connection, plan: HalfPlan, columns: Sequence[SourceColumn], cast: Collection[str]
) -> None:
    key = next(column for column in columns if plan.names[column.name] == KEY)
    with translated(url_of(connection)):
        if key.name not in cast and has_wider_equality(connection, plan.query, key):
            raise KeyEqualityWider(plan.table, key.name, key.spelled)


def checked_keys(spec: SplitSyncSpec, keys: frozenset[str], plan: HalfPlan) -> frozenset[str]:
    """The keys, if the dataset has these partitions.

    Raises:
        UnknownPartition, UnpartitionedSelection: it has not.
    """
    if plan.windows is None:
        raise UnpartitionedSelection(spec.name)
    known = plan.bounds
    for key in sorted(keys):
        if key not in known:
            windows = plan.windows.windows
            last = windows[-1].key if windows else "the present, which is earlier"
            raise UnknownPartition(spec.name, key, plan.windows.geometry.first_key, last)
    return keys


class _Rows(NamedTuple):
    """How the rows of a half are asked for, and told apart."""

    half: Half
    query: str
    estimate: int
    version: str | None
    identity: tuple[str, ...]
    deep: frozenset[str]


def _rows_of(
    spec: SplitSyncSpec,
    half: Half,
    connection: psycopg.Connection,
    columns: Sequence[SourceColumn],
    published: Table | None,
) -> _Rows:
    query = spec.query(half)
    with translated(url_of(connection)):
        estimate = estimated_rows(connection, query)
        deep = _deep_arrays(spec, half, connection, columns, published)
    if spec.fingerprint is FingerprintKind.CHECKSUM:
        return _Rows(half, query, estimate, None, (), deep)
    projection = plain_projection(connection, query, spec.source_table[half])
    with translated(url_of(connection)):
        wait_until_durable(connection)
    version = xmin_hash(connection.info.server_version, q_column(_VERSION))
    return _Rows(half, _with_versions(projection), estimate, version, ("xmin", *projection.identity), deep)


def _deep_arrays(
    spec: SplitSyncSpec,
    half: Half,
    connection: psycopg.Connection,
    columns: Sequence[SourceColumn],
    published: Table | None,
) -> frozenset[str]:
    """Array columns that are stored as JSON: as they are published, or by their first rows where they are new."""
    arrays = [c for c in columns if c.kind is TypeKind.ARRAY and c.name not in spec.types.get(half, {})]
    names = normalize.normalized_names(spec.table(half), [c.name for c in columns], spec.normalize, spec.columns)
    known = {column.name: column.type for column in published.columns} if published else {}
    new = [column for column in arrays if names[column.name] not in known]
    json = {column.name for column in arrays if known.get(names[column.name]) == "VARCHAR"}
    return deep_arrays(connection, spec.query(half), new) | json


def _with_versions(projection: Projection) -> str:
    """The same rows as the user's query, with what Postgres keeps of each row's last writer."""
    columns = [
        f"t.{quote_identifier(column)} AS {quote_identifier(name)}" for name, column in projection.columns.items()
    ]
    table = f"{quote_identifier(projection.schema)}.{quote_identifier(projection.table)}"
    return f"SELECT {', '.join(columns)}, t.xmin AS {quote_identifier(_VERSION)} FROM ONLY {table} AS t"


def _plan(
    spec: SplitSyncSpec,
    rows: _Rows,
    columns: Sequence[SourceColumn],
    windows: Sequence[Window],
    origin: Sequence[str],
) -> HalfPlan:
    half = rows.half
    table = spec.table(half)
    names = normalize.normalized_names(table, [column.name for column in columns], spec.normalize, spec.columns)
    if KEY not in names.values():
        raise ColumnMissing(table, KEY, "the halves are joined by it", names)
    split_by, unfit = _split_column(table, spec.split_by(half), columns)
    for name in spec.types.get(half, {}):
        if name not in names:
            raise ColumnMissing(table, name, "it has a type under `types`", names)
    for name in spec.primary_key.get(half, ()):
        if name not in names:
            raise ColumnMissing(table, name, "it is in the primary_key", names)
    rules = {column.name: _rule(spec, table, column, rows.deep) for column in columns}
    hashes = {FingerprintKind.CHECKSUM: row_hash(tuple(rules.values()))}
    if rows.version is not None:
        hashes = {FingerprintKind.XMIN: rows.version} | hashes
    _refuse_too_many(table, len(columns), len(hashes))
    window_sql = _window_sql(spec, table, columns, windows)
    context = [
        spec.query(half),
        *origin,
        str(normalize.VERSION),
        repr((window_sql.column, window_sql.kind, window_sql.geometry)) if window_sql else "",
        *rows.identity,
    ]
    return HalfPlan(
        half=half,
        table=table,
        query=rows.query,
        rules=tuple(rules.values()),
        names=names,
        windows=window_sql,
        hashes=hashes,
        estimate=rows.estimate,
        spec_hash=spec_hash(rules, names, context),
        split_by=split_by,
        unfit_to_split=unfit,
    )


def _refuse_too_many(table: str, columns: int, added: int) -> None:
    most = _MOST_COLUMNS - added
    if columns > most:
        reason = f"the query of {table} gives {columns:,} columns, and a sync reads at most {most:,} of one query"
        raise SourceQueryRefused(reason, "Leave some out, or put several into one: to_jsonb(ARRAY[a, b]) AS ab.")


def _rule(spec: SplitSyncSpec, table: str, column: SourceColumn, deep: frozenset[str]) -> ColumnRule:
    given = next((types for half, types in spec.types.items() if spec.table(half) == table), {}).get(column.name)
    if given is None and column.name not in deep:
        return rule_for(column)
    if given is not None and column.name == spec.incremental_column:
        fix = "leave it out under `types`: rows are assigned to partitions by its own values"
        raise IncrementalColumnUnfit(table, column.name, f"{column.spelled}, stored as {given}", fix)
    wanted = JSON if given is None else stored_type(given)
    rule = rule_as(column, wanted)
    if rule is None:
        raise TypeImpossible(table, column.name, column.spelled, str(wanted))
    return rule


def _split_column(table: str, name: str | None, columns: Sequence[SourceColumn]) -> tuple[str | None, str | None]:
    """The column to split reads by, or none and the type by which no read can be split."""
    if name is None:
        return None, None
    found = {column.name: column for column in columns}
    if name not in found:
        raise ColumnMissing(table, name, "it is the partition_column", found)
    column = found[name]
    if column.kind in {TypeKind.ARRAY, TypeKind.COMPOSITE, TypeKind.PSEUDO} or (
        column.builtin and column.typname in _WITHOUT_ORDER
    ):
        return None, column.spelled
    return name, None


def _check_renames(spec: SplitSyncSpec, described: Mapping[Half, Sequence[SourceColumn]]) -> None:
    found = [column.name for columns in described.values() for column in columns]
    for name in spec.columns:
        if name not in found:
            raise ColumnMissing(spec.name, name, "it is renamed under `columns`", dict.fromkeys(found))


def _window_sql(
    spec: SplitSyncSpec, table: str, columns: Sequence[SourceColumn], windows: Sequence[Window]
) -> WindowSql | None:
    geometry = spec.geometry
    if geometry is None or spec.incremental_column is None:
        return None
    name = spec.incremental_column
    column = next((column for column in columns if column.name == name), None)
    if column is None:
        raise ColumnMissing(table, name, "it is the incremental_column", [column.name for column in columns])
    return WindowSql(q_column(name), _kind(spec, table, column), geometry, windows)


def _kind(spec: SplitSyncSpec, table: str, column: SourceColumn) -> ColumnKind:
    if column.builtin and column.typname in _INTEGERS:
        if spec.epoch is None:
            fix = "say under `epoch` whether it counts s, ms or us since 1970"
            raise IncrementalColumnUnfit(table, column.name, column.spelled, fix)
        return ColumnKind(spec.epoch.value)
    kind = _KINDS.get(column.typname) if column.builtin else None
    if kind is None or spec.epoch is not None:
        fix = "use a timestamp, a date, or an integer with `epoch`"
        raise IncrementalColumnUnfit(table, column.name, column.spelled, fix)
    if kind is ColumnKind.TIMESTAMP and spec.timezone is None:
        fix = "say under `timezone` which zone it is in, such as UTC"
        raise IncrementalColumnUnfit(table, column.name, column.spelled, fix)
    return kind


def _integer_rule(name: str, sql: str) -> ColumnRule:
    return ColumnRule(
        name=name,
        source_type="bigint",
        arrow_type=pa.int64(),
        expression=sql,
        cursor_expression=sql,
        cursor_wire_type=pa.int64(),
    )
