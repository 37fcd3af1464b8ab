"""Partitions: what is published of each piece of a table, in which files, and the rules that pieces of one table keep.

Belongs here: the values `DataFile` and `Partition`, their order, and what is refused of them.
Does not: tables and versions (`manifest`), or the files' content (`files`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from analytics_pipeline.errors import OverlappingPartitions, PartitionRefused
from analytics_pipeline.store.schema import Columns

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One immutable Parquet file: path relative to the store's root, its size, the columns it was written with."""

    path: str
    rows: int
    bytes: int
    columns: Columns


@dataclass(frozen=True, slots=True)
class Partition:
    """What is published of one partition, and what it was in the source when it was read.

    Args:
        key: the partition's name, unique in its table.
        lower: start of its half-open window, UTC; None for a partition that is not a window.
        upper: end of the window, exclusive.
        files: none where the source had no row.
        fingerprint: comparable summary of the source's content at the read; None where none was taken.
        spec_hash: identity of the rules by which it was read.
        sync_id: the sync that wrote it.
        synced_at: time of the commit's preparation, UTC.
    """

    key: str
    lower: datetime | None
    upper: datetime | None
    files: tuple[DataFile, ...]
    fingerprint: str | None
    spec_hash: str
    sync_id: str
    synced_at: datetime

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes in all files."""
        return sum(file.bytes for file in self.files)


def in_order(partitions: Iterable[Partition]) -> list[Partition]:
    """Partitions by time; those that are no window come last."""
    return sorted(partitions, key=lambda p: (p.lower is None, p.lower or _EARLIEST, p.key))


def check_window(table: str, partition: Partition) -> None:
    """Refuse a window that is none.

    Raises:
        PartitionRefused: it lacks a bound or a time zone, or ends before it begins.
    """
    lower, upper = partition.lower, partition.upper
    if lower is None and upper is None:
        return
    if lower is None or upper is None:
        raise PartitionRefused(table, partition.key, "has only one of its two bounds")
    if lower.tzinfo is None or upper.tzinfo is None:
        raise PartitionRefused(table, partition.key, "has a bound without time zone")
    if lower >= upper:
        raise PartitionRefused(table, partition.key, f"ends ({upper}) before it begins ({lower})")


def refuse_overlap(table: str, ordered: Sequence[Partition]) -> None:
    """Refuse partitions, in their order, of which two claim the same time.

    Raises:
        OverlappingPartitions: names the first two that do.
    """
    windows = [(p.lower, p.upper, p.key) for p in ordered if p.lower is not None and p.upper is not None]
    for (_, end, earlier), (begin, _, later) in pairwise(windows):
        if begin < end:
            raise OverlappingPartitions(table, earlier, later)
