"""Partitions: what is published of each piece of a table, in which files, and the rules that pieces of one table keep.

Belongs here: the values `DataFile` and `Partition`, their order, and what is refused of them.
Does not: tables and versions (`manifest`), or the files' content (`files`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from analytics_pipeline.errors import OverlappingPartitions, PartitionRefused
from analytics_pipeline.store.schema import Columns

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One immutable Parquet file, or the run of its rows that belongs to one partition.

    Args:
        path: relative to the store's root.
        rows: of this run.
        bytes: of the whole file.
        columns: the file was written with.
        begin: rows of the file before this run.
        of: rows of the whole file; None where this run is all of it.
        digest: of the whole file's bytes as they were written, see `digest`; None for a file of an earlier release.
    """

    path: str
    rows: int
    bytes: int
    columns: Columns
    begin: int = 0
    of: int | None = None
    digest: str | None = None

    @property
    def file_rows(self) -> int:
        """Rows of the whole file."""
        return self.rows if self.of is None else self.of

    @property
    def share(self) -> int:
        """Bytes of the file that this run stands for."""
        return self.bytes if self.of is None else self.bytes * self.rows // max(self.of, 1)

    def run(self, begin: int, rows: int) -> DataFile:
        """A run of rows of this whole file."""
        return self if rows == self.rows else replace(self, rows=rows, begin=begin, of=self.rows)


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
        """Bytes in all files; of shared ones this partition's share."""
        return sum(file.share for file in self.files)


def in_order(partitions: Iterable[Partition]) -> list[Partition]:
    """Partitions by time; those that are no window come last."""
    return sorted(partitions, key=lambda p: (p.lower is None, p.lower or _EARLIEST, p.key))


def distinct_files(partitions: Iterable[Partition]) -> Iterator[DataFile]:
    """Every file of some partitions once, in their order; of a shared one the first run."""
    seen: dict[str, DataFile] = {}
    for partition in partitions:
        for file in partition.files:
            seen.setdefault(file.path, file)
    return iter(seen.values())


def uncovered_files(partitions: Iterable[Partition]) -> Mapping[str, Sequence[tuple[str, DataFile]]]:
    """Files of which rows belong to none of the partitions, or to two: by path the runs, in order, with their keys."""
    runs: dict[str, list[tuple[str, DataFile]]] = {}
    for partition in partitions:
        for file in partition.files:
            runs.setdefault(file.path, []).append((partition.key, file))
    return {
        path: sorted(of_file, key=_begin)
        for path, of_file in runs.items()
        if (len(of_file) > 1 or of_file[0][1].of is not None) and not _covers(sorted(of_file, key=_begin))
    }


def _begin(run: tuple[str, DataFile]) -> int:
    return run[1].begin


def _covers(runs: Sequence[tuple[str, DataFile]]) -> bool:
    position = 0
    for _, run in runs:
        if run.begin != position:
            return False
        position += run.rows
    return position == runs[0][1].file_rows


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
