"""The manifest: the whole state of the store as of one version, as one immutable value.

Belongs here: what a version consists of, and how a change makes the next one.
Does not: its file (`manifest_file`), when it becomes the current one (`commit`), what readers see (`catalog`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

from analytics_pipeline.errors import OverlappingPartitions, PartitionRefused
from analytics_pipeline.store.schema import Columns, checked_table_name, merged_columns

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]

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


@dataclass(frozen=True, slots=True)
class Table:
    """A published table: its columns, its partitions by key, and what was computed about it at the commit."""

    name: str
    columns: Columns
    partitions: Mapping[str, Partition] = field(default_factory=lambda: MappingProxyType({}))
    metadata: JsonObject = field(default_factory=lambda: MappingProxyType({}))

    @property
    def files(self) -> Iterator[DataFile]:
        """All files, in the order of their partitions."""
        return (file for partition in self.partitions.values() for file in partition.files)

    @property
    def rows(self) -> int:
        """Rows in all partitions."""
        return sum(partition.rows for partition in self.partitions.values())


@dataclass(frozen=True, slots=True)
class JoinView:
    """A view that joins two tables by a key: every column of `left`, then those of `right` without the key.

    A column of `right` whose name is taken becomes `<prefix>_<name>`.

    Args:
        name: the view.
        left: table on the many side.
        right: table on the one side.
        key: column of both.
        prefix: put before a name of `right` that `left` has, too.
        kind: `inner` drops rows of `left` without a partner, `left` keeps them with NULLs.
        newest_by: set while `right` holds several rows for a key: the column whose greatest value wins.
    """

    name: str
    left: str
    right: str
    key: str
    prefix: str
    kind: str
    newest_by: str | None = None


@dataclass(frozen=True, slots=True)
class Retired:
    """A file no longer listed by any table, kept for readers of earlier versions until its grace has passed."""

    path: str
    bytes: int
    retired_at: datetime


@dataclass(frozen=True, slots=True)
class TableChange:
    """What a commit does to one table.

    Args:
        name: the table.
        columns: columns of the new files.
        partitions: replaced or added, each whole.
        rebuild: partitions not given are dropped.
        adopt_columns: `columns` replace the published ones, even if incompatible; only together with `rebuild`.
        metadata: replaces the table's metadata; None keeps it.
    """

    name: str
    columns: Columns
    partitions: Sequence[Partition]
    rebuild: bool = False
    adopt_columns: bool = False
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does: all of it, or nothing."""

    tables: Sequence[TableChange] = ()
    views: Sequence[JoinView] = ()

    @property
    def files(self) -> Iterator[DataFile]:
        """All files that the change adds."""
        return (file for table in self.tables for partition in table.partitions for file in partition.files)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of the store as of one version. Version 0 is the empty store, which has no file."""

    version: int = 0
    committed_at: datetime | None = None
    tables: Mapping[str, Table] = field(default_factory=lambda: MappingProxyType({}))
    views: Mapping[str, JoinView] = field(default_factory=lambda: MappingProxyType({}))
    retired: tuple[Retired, ...] = ()

    @property
    def live_files(self) -> Iterator[DataFile]:
        """Files of all tables."""
        return (file for table in self.tables.values() for file in table.files)

    def after(self, change: Change, now: datetime) -> Manifest:
        """The next version.

        Raises:
            NameRefused: a table or view name is not a plain identifier.
            IncompatibleColumn: new files do not fit a table's published columns.
            OverlappingPartitions: two partitions of a table would claim the same time.
            PartitionRefused: a partition's window is none, or its key is given twice.
        """
        tables = dict(self.tables)
        for table_change in change.tables:
            name = checked_table_name(table_change.name)
            tables[name] = _changed_table(tables.get(name), table_change)
        views = dict(self.views) | {checked_table_name(view.name): view for view in change.views}
        kept = {file.path for table in tables.values() for file in table.files}
        retired = tuple(item for item in self.retired if item.path not in kept)
        gone = tuple(Retired(f.path, f.bytes, now) for f in self.live_files if f.path not in kept)
        return Manifest(self.version + 1, now, tables, views, retired + gone)

    def without_retired(self, paths: Iterable[str], now: datetime) -> Manifest:
        """The next version, with some retired files forgotten."""
        gone = set(paths)
        retired = tuple(item for item in self.retired if item.path not in gone)
        return replace(self, version=self.version + 1, committed_at=now, retired=retired)


def _changed_table(published: Table | None, change: TableChange) -> Table:
    new: dict[str, Partition] = {}
    for partition in change.partitions:
        if partition.key in new:
            raise PartitionRefused(change.name, partition.key, "is given twice in one commit")
        _check_window(change.name, partition)
        new[partition.key] = partition
    if published is None or change.adopt_columns:
        columns = change.columns
    else:
        columns = merged_columns(change.name, published.columns, change.columns)
    partitions = new if published is None or change.rebuild else dict(published.partitions) | new
    metadata = change.metadata
    if metadata is None:
        metadata = published.metadata if published else {}
    ordered = sorted(partitions.values(), key=lambda p: (p.lower is None, p.lower or _EARLIEST, p.key))
    _refuse_overlap(change.name, ordered)
    return Table(change.name, columns, {partition.key: partition for partition in ordered}, metadata)


def _check_window(table: str, partition: Partition) -> None:
    lower, upper = partition.lower, partition.upper
    if lower is None and upper is None:
        return
    if lower is None or upper is None:
        raise PartitionRefused(table, partition.key, "has only one of its two bounds")
    if lower.tzinfo is None or upper.tzinfo is None:
        raise PartitionRefused(table, partition.key, "has a bound without time zone")
    if lower >= upper:
        raise PartitionRefused(table, partition.key, f"ends ({upper}) before it begins ({lower})")


def _refuse_overlap(table: str, ordered: Sequence[Partition]) -> None:
    windows = [(p.lower, p.upper, p.key) for p in ordered if p.lower is not None and p.upper is not None]
    for (_, end, earlier), (begin, _, later) in pairwise(windows):
        if begin < end:
            raise OverlappingPartitions(table, earlier, later)
