"""The tables of a lakehouse as this process has them open.

Belongs here: rows to Arrow, the append, the views that a lakehouse is to have. Does not: which rows (`log`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from analytics_pipeline.errors import ConfigKeyRefused
from analytics_pipeline.experiments.database import publish_views, write_views
from analytics_pipeline.experiments.rows import Row
from analytics_pipeline.experiments.views import TABLES
from analytics_pipeline.store.append.parquet import TypeChange
from analytics_pipeline.store.append.tables import AppendTables
from analytics_pipeline.store.schema import arrow_schema

_TYPES: Mapping[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


class _AlwaysNew:
    """What is logged again is a new row: the views decide which one counts."""

    def columns(self, table: str) -> Sequence[str]:  # noqa: ARG002 - of the protocol
        """Rows have no identity."""
        return ()

    def of(self, table: str, rows: pa.Table) -> Sequence[tuple[str, ...]]:  # noqa: ARG002 - of the protocol
        """Of each row: nothing."""
        return [()] * rows.num_rows


@functools.cache
def tables_at(root: Path) -> AppendTables:
    """The tables below a folder; the same object for all threads of this process."""
    return AppendTables(root, _AlwaysNew(), types=TypeChange.WIDEN, renew=functools.partial(publish_views, root))


def tend(root: Path) -> Sequence[str]:
    """Copy the small files of each table into one for queries, finish what killed writers left; gives the tables.

    Raises:
        StoreError: see `AppendTables.compact`.
    """
    if not root.is_dir():
        return ()
    tables_at(root).compact()
    return tuple(tables_at(root).snapshot())


def append(root: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """Append rows by table, all or none; the files come into sight in the mapping's order.

    Raises:
        ConfigKeyRefused: two keys of a config, or of this and an earlier one, differ in case alone.
        StoreError: see `AppendTables.append`.
    """
    append_arrow(root, {table: arrow_rows(table, some) for table, some in rows.items() if some})


def append_arrow(root: Path, batches: Mapping[str, pa.Table]) -> None:
    """Append rows by table; see `append`."""
    if batches:
        write_views(root)
        tables_at(root).append(batches)


def arrow_rows(table: str, rows: Sequence[Row]) -> pa.Table:
    """Rows in the types of their values; integers stay such, also beside rows that lack the column."""
    known = arrow_schema(TABLES[table])
    names = dict.fromkeys(name for row in rows for name in row)
    fields = [known.field(name) if name in known.names else pa.field(name, _type_of(name, rows)) for name in names]
    _check_spelling([field.name for field in fields])
    schema = pa.schema(fields)
    columns = [
        pa.array([_as(schema.field(name).type, row.get(name)) for row in rows], schema.field(name).type)
        for name in names
    ]
    return pa.table(columns, schema=schema)


def _type_of(name: str, rows: Sequence[Row]) -> pa.DataType:
    kinds = {type(row[name]) for row in rows if row.get(name) is not None}
    if not kinds:
        return pa.null()
    if kinds == {int, float}:
        return pa.float64()
    return _TYPES[kinds.pop()] if len(kinds) == 1 else pa.string()


def _as(type_: pa.DataType, value: object) -> object:
    return str(value) if value is not None and type_ == pa.string() else value


def _check_spelling(names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ConfigKeyRefused(name, f"differs from {other!r} in case alone, which SQL does not tell apart")
