"""Which partitions a compaction merges: as few bytes rewritten as keep a table near a number of files.

Belongs here: the rules, the choice. Pure: it looks at a manifest and touches no file.
Does not: the merge itself (`compaction`).

A table within its number of files is left alone, but for partitions in several small files. Beyond it, neighbours in
time are merged at the smallest size that helps, and at the next power of two only when that is not enough. So a row is
copied about once for each doubling of its file, and never again once its file is large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analytics_pipeline.store.manifest import Table
from analytics_pipeline.store.partition import Partition, distinct_files, in_order

_SMALLEST_MERGE = 64 * 1024


@dataclass(frozen=True)
class CompactionRules:
    """What a compaction aims at.

    Args:
        newest: partitions of a table that are still open, counted from its end; they are left alone.
        most_files: a table with more has its small neighbours merged.
        fewest_files: until it has so many.
        file_bytes: a file of this size is large enough; tables that need more of them get larger ones.
        commit_bytes: about so much is rewritten before it is committed.
    """

    newest: int = 3
    most_files: int = 100
    fewest_files: int = 60
    file_bytes: int = 128 * 2**20
    commit_bytes: int = 2**30


@dataclass(frozen=True)
class Merge:
    """Partitions that are written anew, in their order, into so many files."""

    partitions: tuple[Partition, ...]
    files: int

    @property
    def bytes(self) -> int:
        """What is rewritten."""
        return sum(partition.bytes for partition in self.partitions)


def planned_merges(table: Table, rules: CompactionRules) -> Sequence[Merge]:
    """The merges that a table needs, in order of time; none for most tables on most days."""
    units = _closed_units(table, rules.newest)
    largest = max(rules.file_bytes, 2 * sum(unit.bytes for unit in units) // rules.fewest_files)
    groups = [[unit] for unit in units]
    others = sum(1 for _ in table.files) - sum(unit.files for unit in units)
    if others + _files(groups, largest) > rules.most_files:
        limit = min(_SMALLEST_MERGE, largest)
        groups = _packed(groups, limit)
        while limit < largest and others + _files(groups, largest) > rules.fewest_files:
            limit = min(2 * limit, largest)
            groups = _packed(groups, limit)
    return [
        Merge(tuple(in_order(part for unit in group for part in unit.partitions)), _needed(_bytes(group), largest))
        for group in groups
        if len(group) > 1 or _is_fragmented(group[0], largest)
    ]


@dataclass(frozen=True)
class _Unit:
    """Partitions that share files with each other, and with no other partition."""

    partitions: tuple[Partition, ...]

    @property
    def bytes(self) -> int:
        return sum(partition.bytes for partition in self.partitions)

    @property
    def files(self) -> int:
        return sum(1 for _ in distinct_files(self.partitions))


def _closed_units(table: Table, newest: int) -> list[_Unit]:
    datable = [key for key in table.partitions if not key.startswith("_")]
    closed = set(datable[: max(0, len(datable) - newest)])
    units = (_Unit(tuple(group)) for group in _sharing(table.partitions.values()))
    return [unit for unit in units if all(partition.key in closed for partition in unit.partitions)]


def _sharing(partitions: Iterable[Partition]) -> list[list[Partition]]:
    """Partitions with files, grouped by the files that they share; groups are in the order of their first ones."""
    group_of: dict[str, list[Partition]] = {}
    for partition in partitions:
        paths = {file.path for file in partition.files}
        joined = {id(group_of[path]): group_of[path] for path in paths if path in group_of}
        together = [part for group in joined.values() for part in group]
        together.append(partition)
        group_of |= dict.fromkeys(paths | {file.path for part in together for file in part.files}, together)
    return list({id(group): group for group in group_of.values()}.values())


def _packed(groups: Sequence[Sequence[_Unit]], limit: int) -> list[list[_Unit]]:
    """Neighbours put together as long as they stay within a limit."""
    packed: list[list[_Unit]] = []
    size = limit + 1
    for group in groups:
        added = _bytes(group)
        if size + added <= limit:
            packed[-1].extend(group)
            size += added
        else:
            packed.append([*group])
            size = added
    return packed


def _files(groups: Iterable[Sequence[_Unit]], largest: int) -> int:
    return sum(
        _needed(_bytes(group), largest) if len(group) > 1 or _is_fragmented(group[0], largest) else group[0].files
        for group in groups
    )


def _is_fragmented(unit: _Unit, largest: int) -> bool:
    return unit.files >= max(2, 2 * _needed(unit.bytes, largest))


def _needed(size: int, largest: int) -> int:
    return max(1, -(-size // largest))


def _bytes(group: Iterable[_Unit]) -> int:
    return sum(unit.bytes for unit in group)
