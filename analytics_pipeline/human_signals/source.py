"""The source of cases: a dataset's joined rows, in the store as a commit would leave it.

Belongs here: the SQL that finds the cases whose rows changed, and reads rows and heads. Does not: what becomes of them.

The order of a case's rows, which the store does not keep, is that of time, then of what the rows say; so that every
refresh finds the same first row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from analytics_pipeline.human_signals.rows import CATEGORY, HEAD_COLUMNS, KEY, METRIC, SIGNALS, TIMESTAMP
from analytics_pipeline.store import Column, JoinView, Manifest, Partition, Preview, Table
from analytics_pipeline.store.schema import identifier

CHANGED = identifier("|cases changed")
"""Temporary table of the cases whose rows are not as they were: `id` and `bucket`."""

CHANGED_ONLY = f"{KEY} IN (SELECT id FROM {CHANGED})"

_ROW_COLUMNS = (METRIC, CATEGORY, SIGNALS)
_USED = (KEY, *_ROW_COLUMNS, *HEAD_COLUMNS)


@dataclass(frozen=True)
class CaseSource:
    """Joined rows.

    Args:
        preview: of the change.
        view: that joins them, of the next version.
    """

    preview: Preview
    view: JoinView

    @property
    def halves(self) -> tuple[Table, Table]:
        """The tables that the view joins."""
        tables = self.preview.following.tables
        return tables[self.view.left], tables[self.view.right]

    @cached_property
    def columns(self) -> Sequence[str]:
        """Those columns of the view that cases are made of."""
        found = {column.name.lower() for half in self.halves for column in half.columns}
        return [name for name in _USED if name in found]

    def count(self, buckets: int) -> int:
        """How many cases have changed; makes the table of them."""
        before = self.preview.published.tables
        sides = [_differing(self.preview, self.view, before[half.name], half) for half in self.halves]
        found = " UNION ".join(f"({side})" for side in sides)
        self.preview.rows(
            f"CREATE OR REPLACE TEMP TABLE {CHANGED} AS SELECT id, {bucket_of('id', buckets)} AS bucket FROM ({found})"
        )
        return int(str(self.preview.rows(f"SELECT count(*) FROM {CHANGED}")[0][0]))

    def changed_buckets(self) -> Sequence[int]:
        """The buckets of the cases that have changed."""
        return [int(str(row[0])) for row in self.preview.rows(f"SELECT DISTINCT bucket FROM {CHANGED} ORDER BY 1")]

    def rows(self, where: str, buckets: int) -> pl.DataFrame:
        """The rows of some cases, case by case, in their order, with their `bucket`.

        Args:
            where: SQL over the view.
            buckets: that there are.
        """
        names = [name for name in (KEY, TIMESTAMP, *_ROW_COLUMNS) if name in self.columns]
        selected = ", ".join(f"{identifier(name)} AS {name}" for name in names)
        return self.preview.frame(
            f"SELECT {selected}, {bucket_of(KEY, buckets)} AS bucket FROM {identifier(self.view.name)} "
            f"WHERE {KEY} IS NOT NULL AND {where} ORDER BY {', '.join(f'{name} NULLS LAST' for name in names)}"
        )

    def heads(self, where: str, buckets: int) -> pl.DataFrame:
        """Of some cases the key, their `bucket`, and the head columns as in their first row; sorted by the key.

        What the right table says of a case is the same in all its rows.

        Args:
            where: SQL over the view.
            buckets: that there are.
        """
        left = {column.name.lower() for column in self.halves[0].columns}
        own = [name for name in HEAD_COLUMNS if name in self.columns and name in left]
        selected = [f"{KEY} AS {KEY}", f"{bucket_of(KEY, buckets)} AS bucket"]
        if own == [TIMESTAMP]:
            selected.append(f"min({TIMESTAMP}) AS {TIMESTAMP}")
        elif own:
            order = ", ".join(dict.fromkeys(name for name in (TIMESTAMP, *_ROW_COLUMNS, *own) if name in self.columns))
            packed = ", ".join(f"{name} := {name}" for name in own)
            selected.append(f"unnest(arg_min(struct_pack({packed}), row({order})))")
        selected += [
            f"any_value({name}) AS {name}" for name in HEAD_COLUMNS if name in self.columns and name not in own
        ]
        return self.preview.frame(
            f"SELECT {', '.join(selected)} FROM {identifier(self.view.name)} WHERE {KEY} IS NOT NULL AND {where} "
            f"GROUP BY {KEY} ORDER BY {KEY}"
        )

    def rules(self) -> str:
        """What cases depend on beside rows: how halves are joined, and the types of the columns."""
        return _rules(self.view, self.halves)

    def is_comparable(self) -> bool:
        """Whether the cases of the published version differ from those of the next one by rows alone."""
        published = self.preview.published
        view = published.views.get(self.view.name)
        before = [published.tables.get(half.name) for half in self.halves]
        if view is None or before[0] is None or before[1] is None:
            return False
        if _rules(view, (before[0], before[1])) != self.rules():
            return False
        return all(
            table is not None and self.preview.is_whole(table, _replaced(table, half))
            for table, half in zip(before, self.halves, strict=True)
        )


def identity_of(manifest: Manifest, view: JoinView) -> str:
    """Which rows a version joins: another text whenever they are others."""
    parts = [_content(manifest.tables[name]) for name in (view.left, view.right) if name in manifest.tables]
    return _digest([repr(view), *(line for part in parts for line in part)])


def bucket_of(key: str, buckets: int) -> str:
    """SQL; the bucket of a case, the same in every version of DuckDB."""
    return f"(md5_number_lower({key}::VARCHAR) % {buckets})::INTEGER"


def in_buckets(buckets: Sequence[int], of: int) -> str:
    """SQL over the view; the cases of some of the buckets that there are."""
    return f"{bucket_of(KEY, of)} IN ({', '.join(map(str, buckets))})"


def _rules(view: JoinView, halves: tuple[Table, Table]) -> str:
    columns = [f"{half.name}.{name} {type_}" for half in halves for name, type_ in _used(half, view)]
    return _digest([repr(view), *columns])


def _used(half: Table, view: JoinView) -> Iterator[Column]:
    """The columns of a half that matter to cases; all of them where they decide which row of a record is joined."""
    chooses = view.newest_by is not None and half.name == view.right
    return (column for column in half.columns if chooses or column.name.lower() in _USED)


def _content(table: Table) -> Iterator[str]:
    return (f"{table.name} {_written(partition)}" for partition in table.partitions.values())


def _written(partition: Partition) -> str:
    """What is in a partition, whichever files hold it."""
    return f"{partition.key} {partition.sync_id} {partition.rows} {partition.fingerprint}"


def _digest(lines: Collection[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _replaced(before: Table, after: Table) -> frozenset[str]:
    old, new = ({key: _written(part) for key, part in table.partitions.items()} for table in (before, after))
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _differing(preview: Preview, view: JoinView, before: Table, after: Table) -> str:
    """A SELECT of the keys whose rows are others than before."""
    names = ", ".join(identifier(column.name) for column in _used(after, view))
    replaced = _replaced(before, after)
    sides = " UNION ALL ".join(
        f"SELECT {KEY} AS id, {sign} AS sign, hash({names})::HUGEINT AS hash "
        f"FROM ({preview.partitions_sql(table, {0: replaced})}) WHERE {KEY} IS NOT NULL"
        for sign, table in ((1, after), (-1, before))
    )
    return f"SELECT id FROM ({sides}) GROUP BY id HAVING sum(sign) <> 0 OR sum(sign * hash) <> 0"
