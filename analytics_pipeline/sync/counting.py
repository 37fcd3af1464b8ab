"""Counting: the figures of a table, and of the view that it is the left of, from those parts that were kept.

Belongs here: which partitions make a part, reading the parts that are missing in bounded memory, agreeing on ranges.
Does not: what is kept between syncs and for how long it is true (`metadata`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analytics_pipeline.store import Column, JoinView, JsonObject, Partition, Preview, Table
from analytics_pipeline.store.preview import MATCHED, PART
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.figures import (
    Questions,
    Range,
    chosen_ranges,
    latency_sql,
    measured,
    with_latencies,
)
from analytics_pipeline.sync.part import Part, holds_percentiles, summed

_MOST_PARTS = 64
_ROWS_AT_ONCE = 1_000_000
"""Rows of the columns asked about that are held in memory."""

_ROWS, _LATENCIES = "|rows", "|latencies"
_TABLE, _VIEW = "table", "view"

Groups = Mapping[str, Collection[str]]
"""Keys of partitions that make a part, by what is in them."""


@dataclass(frozen=True)
class Count:
    """The figures of one part.

    Args:
        table: of the table's rows.
        view: of the view's; of no rows where there is no view.
        orphans: rows of the table without a partner.
    """

    table: Part = field(default_factory=Part)
    view: Part = field(default_factory=Part)
    orphans: int = 0

    def to_json(self) -> JsonObject:
        """As it is kept between syncs."""
        return {"table": self.table.to_json(), "view": self.view.to_json(), "orphans": self.orphans}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Count:
        """What `to_json` gave."""
        return cls(Part.from_json(kept["table"]), Part.from_json(kept["view"]), kept["orphans"])


@dataclass(frozen=True)
class Counted:
    """The figures of all parts.

    Args:
        counts: of each part, by what is in it.
        table_ranges: in which the table's percentiles lie.
        view_ranges: in which the view's do.
    """

    counts: Mapping[str, Count] = field(default_factory=dict)
    table_ranges: Sequence[Range] = ()
    view_ranges: Sequence[Range] = ()

    @property
    def table(self) -> Part:
        """The figures of the table."""
        return summed(count.table for count in self.counts.values())

    @property
    def view(self) -> Part:
        """The figures of the view."""
        return summed(count.view for count in self.counts.values())

    @property
    def orphans(self) -> int:
        """Rows of the table without a partner."""
        return sum(count.orphans for count in self.counts.values())

    def to_json(self) -> JsonObject:
        """As it is kept between syncs."""
        return {
            "counts": {content: count.to_json() for content, count in self.counts.items()},
            "table_ranges": self.table_ranges,
            "view_ranges": self.view_ranges,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Counted:
        """What `to_json` gave."""
        return cls(
            {content: Count.from_json(count) for content, count in kept["counts"].items()},
            [(low, high) for low, high in kept["table_ranges"]],
            [(low, high) for low, high in kept["view_ranges"]],
        )


@dataclass(frozen=True)
class Subject:
    """What is counted.

    Args:
        table: of the next version.
        asked: of the table.
        view: that the table is the left of; None for none.
        asked_of_view: the same of the view.
    """

    table: Table
    asked: Questions
    view: JoinView | None = None
    asked_of_view: Questions = field(default_factory=Questions)

    @property
    def from_partner(self) -> Questions:
        """The questions of the view that the table cannot answer."""
        own = {column.name.lower() for column in self.table.columns}
        asked = self.asked_of_view
        stats = [column for column in (asked.score, asked.latency, asked.metric) if column]
        foreign = {
            "filters": {name: column for name, column in asked.filters.items() if column.name.lower() not in own},
            "time": asked.time if asked.time and asked.time.name.lower() not in own else None,
        }
        if all(column.name.lower() in own for column in stats):
            return replace(asked, **foreign, score=None, latency=None, metric=None)  # type: ignore[arg-type]
        return replace(asked, **foreign)  # type: ignore[arg-type]

    @property
    def shown(self) -> str:
        """SQL; whether a row of the table is in the view."""
        return "true" if self.view and self.view.kind == "left" else f"{identifier(MATCHED)} IS NOT NULL"


def content_of(partition: Partition) -> str:
    """What is in a partition, without its files: those change when small ones become one."""
    return f"{partition.key} {partition.sync_id} {partition.rows} {partition.fingerprint}"


def grouped(table: Table) -> Groups:
    """The parts of a table: single partitions where these are few, else runs of equally many."""
    windows = [part for part in table.partitions.values() if part.lower is not None]
    others = [part for part in table.partitions.values() if part.lower is None]
    size = 1
    while len(windows) > size * _MOST_PARTS:
        size *= 2
    runs = [windows[first : first + size] for first in range(0, len(windows), size)] + [[part] for part in others]
    return {_digest(map(content_of, run)): [part.key for part in run] for run in runs}


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def counted(preview: Preview, subject: Subject, kept: Counted) -> Counted:
    """The figures of every part, reading those that are not kept.

    Args:
        preview: of the next version.
        subject: what to count.
        kept: figures that are still true.
    """
    groups = grouped(subject.table)
    counts = {content: kept.counts[content] for content in groups if content in kept.counts}
    missing = {content: keys for content, keys in groups.items() if content not in counts}
    if not counts:
        kept = Counted()
    if missing:
        preview.rows(_LATENCIES_SQL)
        new = _with_ranges(preview, subject, kept, _read(preview, subject, missing))
        kept = replace(new, counts={**counts, **new.counts})
    else:
        kept = replace(kept, counts=counts)
    if counts and not (holds_percentiles(kept.table) and holds_percentiles(kept.view)):
        return counted(preview, subject, Counted())
    return kept


_LATENCIES_SQL = (
    f"CREATE OR REPLACE TEMP TABLE {identifier(_LATENCIES)} "
    f"({identifier(PART)} INTEGER, {identifier(_TABLE)} DOUBLE, {identifier(_VIEW)} DOUBLE)"
)


def _with_ranges(preview: Preview, subject: Subject, kept: Counted, new: Mapping[str, Count]) -> Counted:
    """New counts with their latencies, in the ranges that are kept or else chosen now."""
    tables = {number: count.table for number, count in enumerate(new.values())}
    views = {number: count.view for number, count in enumerate(new.values())}
    ranges = kept.table_ranges or _ranges(preview, _TABLE, subject.asked)
    tables = _in_ranges(preview, _TABLE, subject.asked, ranges, tables)
    if subject.asked_of_view.latency is None:
        return Counted(_put_together(new, tables, views), ranges)
    alike = subject.from_partner.latency is None and all(count.view.rows == count.table.rows for count in new.values())
    view_ranges = kept.view_ranges or (ranges if alike else _ranges(preview, _VIEW, subject.asked_of_view))
    if alike and view_ranges == ranges:
        views = {number: _latencies_of(tables[number], view) for number, view in views.items()}
    else:
        views = _in_ranges(preview, _VIEW, subject.asked_of_view, view_ranges, views)
    return Counted(_put_together(new, tables, views), ranges, view_ranges)


def _ranges(preview: Preview, column: str, asked: Questions) -> Sequence[Range]:
    return chosen_ranges(preview, _LATENCIES, column) if asked.latency else ()


def _in_ranges(
    preview: Preview, column: str, asked: Questions, ranges: Sequence[Range], parts: Mapping[int, Part]
) -> dict[int, Part]:
    return dict(with_latencies(preview, _LATENCIES, column, ranges, parts) if asked.latency else parts)


def _latencies_of(part: Part, other: Part) -> Part:
    return replace(other, latencies=part.latencies, below=part.below, inside=part.inside)


def _put_together(
    new: Mapping[str, Count], tables: Mapping[int, Part], views: Mapping[int, Part]
) -> Mapping[str, Count]:
    return {
        content: Count(tables[number], views[number], count.orphans)
        for number, (content, count) in enumerate(new.items())
    }


def _read(preview: Preview, subject: Subject, missing: Groups) -> Mapping[str, Count]:
    """The counts of some parts, and all their latencies in a temporary table, by the parts' place in the order."""
    counts: dict[int, Count] = {}
    for batch in _batches(subject.table, list(missing.values())):
        _hold(preview, subject, batch)
        counts |= _batch_counts(preview, subject, batch)
    return dict(zip(missing, counts.values(), strict=True))


def _batches(table: Table, groups: Sequence[Collection[str]]) -> Iterator[Mapping[int, Collection[str]]]:
    """Parts by their place, in batches of a bounded number of rows; a part stays whole."""
    batch: dict[int, Collection[str]] = {}
    held = 0
    for number, keys in enumerate(groups):
        rows = sum(table.partitions[key].rows for key in keys)
        if batch and held + rows > _ROWS_AT_ONCE:
            yield batch
            batch, held = {}, 0
        batch[number] = keys
        held += rows
    if batch:
        yield batch


def _hold(preview: Preview, subject: Subject, batch: Mapping[int, Collection[str]]) -> None:
    """Make a temporary table of what is asked about some parts, and add their latencies to the other one."""
    names = [PART, *sorted(subject.asked.columns | subject.asked_of_view.columns)]
    if subject.view:
        source = preview.joined_sql(subject.view, batch)
        names.append(MATCHED)
    else:
        source = preview.partitions_sql(subject.table, batch)
    columns = ", ".join(map(identifier, names))
    preview.rows(f"CREATE OR REPLACE TEMP TABLE {identifier(_ROWS)} AS SELECT {columns} FROM ({source})")
    if subject.asked.latency or subject.asked_of_view.latency:
        of_view = f"CASE WHEN {subject.shown} THEN {latency_sql(subject.asked_of_view)} END" if subject.view else "NULL"
        preview.rows(
            f"INSERT INTO {identifier(_LATENCIES)} "
            f"SELECT {identifier(PART)}, {latency_sql(subject.asked)}, {of_view} FROM {identifier(_ROWS)}"
        )


def _batch_counts(preview: Preview, subject: Subject, batch: Mapping[int, Collection[str]]) -> Mapping[int, Count]:
    tables = measured(preview, _ROWS, subject.asked)
    if subject.view is None:
        return {number: Count(tables.get(number, Part())) for number in batch}
    orphans = _orphans(preview)
    asked = subject.from_partner
    partners = measured(preview, _ROWS, asked, subject.shown)
    hidden = [number for number, count in orphans.items() if count and subject.view.kind != "left"]
    some = f"{subject.shown} AND {identifier(PART)} IN ({', '.join(map(str, hidden))})"
    alone = measured(preview, _ROWS, subject.asked_of_view, some) if hidden else {}
    counts = {}
    for number in batch:
        table = tables.get(number, Part())
        joined = _joined(table, partners.get(number, Part()), asked)
        view = alone.get(number, Part()) if number in hidden else joined
        counts[number] = Count(table, view, orphans.get(number, 0))
    return counts


def _orphans(preview: Preview) -> Mapping[int, int]:
    rows: Any = preview.rows(
        f"SELECT {identifier(PART)}, count(*) - count({identifier(MATCHED)}) FROM {identifier(_ROWS)} GROUP BY ALL"
    )
    return dict(rows)


def _joined(table: Part, partner: Part, asked: Questions) -> Part:
    """The figures of a part of which the view shows every row: the table's, and those that only the partner knows."""
    return Part(
        rows=table.rows,
        values={**table.values, **partner.values},
        time=partner.time if asked.time else table.time,
        scores=partner.scores if asked.score else table.scores,
    )


def columns_from_partner(subject: Subject, shown: Sequence[Column], partner: Table, key: str) -> frozenset[str]:
    """Columns of the partner on which the view's figures depend.

    Args:
        subject: a table with its view.
        shown: columns of the view.
        partner: the view's right table.
        key: that the view joins by.
    """
    theirs = [column.name for column in partner.columns if column.name.lower() != key.lower()]
    names = dict(zip([column.name for column in shown[len(subject.table.columns) :]], theirs, strict=True))
    return frozenset(names[name] for name in subject.from_partner.columns if name in names)
