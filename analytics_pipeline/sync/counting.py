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
from analytics_pipeline.store.preview import MATCHED
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.figures import Questions
from analytics_pipeline.sync.groups import Groups, Range, Side
from analytics_pipeline.sync.part import Part, holds_percentiles, summed

_MOST_PARTS = 64
_ROWS_AT_ONCE = 4_000_000
"""Rows that are grouped at once; their latencies are held in memory."""

PartitionKeys = Mapping[str, Collection[str]]
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
    def questions(self) -> tuple[Questions, ...]:
        """Of the table, and of the view where there is one."""
        return (self.asked, self.asked_of_view) if self.view else (self.asked,)

    @property
    def shows_all(self) -> bool:
        """Whether rows without a partner are in the view, too."""
        return self.view is not None and self.view.kind == "left"


def content_of(partition: Partition) -> str:
    """What is in a partition, without its files: those change when small ones become one."""
    return f"{partition.key} {partition.sync_id} {partition.rows} {partition.fingerprint}"


def grouped(table: Table) -> PartitionKeys:
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
        new = _read(preview, subject, kept, missing)
        kept = replace(new, counts={**counts, **new.counts})
    else:
        kept = replace(kept, counts=counts)
    if counts and not (holds_percentiles(kept.table) and holds_percentiles(kept.view)):
        return counted(preview, subject, Counted())
    return kept


def _read(preview: Preview, subject: Subject, kept: Counted, missing: PartitionKeys) -> Counted:
    """The figures of some parts, by the ranges that are kept or else chosen now."""
    batches = _batches(subject.table, list(missing.values()))
    groups = Groups(preview, (_source(preview, subject, batch) for batch in batches), subject.questions)
    found = groups.parts()
    tables: Mapping[Side, Part] = {side: parts[0] for side, parts in found.items()}
    shown: Mapping[Side, Part] = {side: parts[-1] for side, parts in found.items() if side[1] or subject.shows_all}
    ranges, tables = _with_latencies(groups, subject.asked, "true", kept.table_ranges, tables)
    view_ranges: Sequence[Range] = ()
    if subject.view:
        where = "true" if len(shown) == len(found) else identifier(MATCHED)
        view_ranges, shown = _with_latencies(groups, subject.asked_of_view, where, kept.view_ranges, shown)
    counts = {}
    for number, content in enumerate(missing):
        orphans = tables[number, False].rows if subject.view and (number, False) in tables else 0
        view = _sum(shown, number) if subject.view else Part()
        counts[content] = Count(_sum(tables, number), view, orphans)
    return Counted(counts, ranges, view_ranges)


def _source(preview: Preview, subject: Subject, batch: Mapping[int, Collection[str]]) -> str:
    if subject.view:
        return preview.joined_sql(subject.view, batch)
    rows = preview.partitions_sql(subject.table, batch)
    return f"SELECT *, NULL::BOOLEAN AS {identifier(MATCHED)} FROM ({rows})"


def _with_latencies(
    groups: Groups, asked: Questions, where: str, kept: Sequence[Range], parts: Mapping[Side, Part]
) -> tuple[Sequence[Range], Mapping[Side, Part]]:
    if asked.latency is None:
        return (), parts
    ranges = kept or groups.ranges(asked, where)
    return ranges, groups.with_latencies(asked, ranges, parts)


def _sum(parts: Mapping[Side, Part], number: int) -> Part:
    return summed(part for side, part in parts.items() if side[0] == number)


def _batches(table: Table, groups: Sequence[Collection[str]]) -> Iterator[Mapping[int, Collection[str]]]:
    """Parts by their place: the largest by itself, then batches of a bounded number of rows; a part stays whole."""
    rows = {number: sum(table.partitions[key].rows for key in keys) for number, keys in enumerate(groups)}
    batch: dict[int, Collection[str]] = {}
    held = most = 0
    for number in sorted(rows, key=rows.__getitem__, reverse=True):
        if batch and held + rows[number] > most:
            yield batch
            batch, held, most = {}, 0, _ROWS_AT_ONCE
        batch[number] = groups[number]
        held += rows[number]
    if batch:
        yield batch


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
    return frozenset(names[name] for name in subject.asked_of_view.columns if name in names)
