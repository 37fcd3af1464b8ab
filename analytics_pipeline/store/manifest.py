"""The manifest: the whole state of the store as of one version, as one immutable value.

Belongs here: what a version consists of, and how a change makes the next one.
Does not: its file (`manifest_file`), when it becomes the current one (`commit`), what readers see (`catalog`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum, auto
from types import MappingProxyType
from typing import TypeAlias

from analytics_pipeline.errors import PartitionRefused, PartitionsMoved
from analytics_pipeline.store.partition import (
    DataFile,
    Partition,
    check_window,
    distinct_files,
    in_order,
    refuse_overlap,
    uncovered_files,
)
from analytics_pipeline.store.schema import Columns, checked_table_name, merged_columns

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Table:
    """A published table: its columns, and its partitions by key, in order of time."""

    name: str
    columns: Columns
    partitions: Mapping[str, Partition] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def files(self) -> Iterator[DataFile]:
        """Every file once, in the order of the partitions; a shared one by its first run."""
        return distinct_files(self.partitions.values())

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
        newest_by: set while `right` holds several rows for a key: the column whose greatest value wins; among several
            with that, the row that comes first by its other columns.
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
class Metadata:
    """What was computed about a table or view, and the time of the commit that brought it."""

    value: JsonObject
    updated_at: datetime


class Replace(StrEnum):
    """How far a change of a table reaches."""

    PARTITIONS = auto()
    """The given partitions replace those of the same key; the others stay."""
    TABLE = auto()
    """The given partitions are all that the table has afterwards."""
    TABLE_AND_COLUMNS = auto()
    """As `TABLE`, and the given columns replace the published ones, even if incompatible."""


@dataclass(frozen=True, slots=True)
class TableChange:
    """What a commit does to one table.

    Args:
        name: the table.
        columns: columns of the new files.
        partitions: replaced or added, each whole.
        replace: what becomes of partitions and columns that are not given.
        expected: partitions that must still be published as the maker of the change saw them.
    """

    name: str
    columns: Columns
    partitions: Sequence[Partition]
    replace: Replace = Replace.PARTITIONS
    expected: Mapping[str, Partition] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does: all of it, or nothing.

    Args:
        tables: what becomes of their partitions.
        views: added, or replaced by name.
        metadata: of tables and views, by name; that of other names stays.
    """

    tables: Sequence[TableChange] = ()
    views: Sequence[JoinView] = ()
    metadata: Mapping[str, JsonObject] = field(default_factory=lambda: MappingProxyType({}))

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
    metadata: Mapping[str, Metadata] = field(default_factory=lambda: MappingProxyType({}))
    retired: tuple[Retired, ...] = ()

    @property
    def live_files(self) -> Iterator[DataFile]:
        """Files of all tables, each once."""
        return (file for table in self.tables.values() for file in table.files)

    def after(self, change: Change, now: datetime) -> Manifest:
        """The next version.

        Raises:
            NameRefused: the name of a table, view or metadata is not a plain identifier.
            IncompatibleColumn: new files do not fit a table's published columns.
            OverlappingPartitions: two partitions of a table would claim the same time.
            PartitionRefused: a partition's window is none, its key is given twice, or it shares a file some of whose
                rows belong to nobody.
            PartitionsMoved: a partition is not what the change expects, or shares a file with a replaced one.
        """
        tables = dict(self.tables)
        for table_change in change.tables:
            name = checked_table_name(table_change.name)
            tables[name] = _changed_table(tables.get(name), table_change)
        views = dict(self.views) | {checked_table_name(view.name): view for view in change.views}
        metadata = dict(self.metadata)
        metadata |= {checked_table_name(name): Metadata(value, now) for name, value in change.metadata.items()}
        kept = {file.path for table in tables.values() for file in table.files}
        retired = tuple(item for item in self.retired if item.path not in kept)
        gone = tuple(Retired(f.path, f.bytes, now) for f in self.live_files if f.path not in kept)
        return Manifest(self.version + 1, now, tables, views, metadata, retired + gone)

    def replaced_by(self, state: Manifest, now: datetime) -> Manifest:
        """The next version, with the tables, views and metadata of another state in place of all that there is."""
        kept = {file.path for file in state.live_files}
        gone = tuple(Retired(file.path, file.bytes, now) for file in self.live_files if file.path not in kept)
        return replace(state, version=self.version + 1, committed_at=now, retired=self.retired + gone)

    def without_retired(self, paths: Iterable[str], now: datetime) -> Manifest:
        """The next version, with some retired files forgotten."""
        gone = set(paths)
        retired = tuple(item for item in self.retired if item.path not in gone)
        return replace(self, version=self.version + 1, committed_at=now, retired=retired)


def _changed_table(published: Table | None, change: TableChange) -> Table:
    before = published.partitions if published else {}
    moved = [key for key, seen in change.expected.items() if before.get(key) != seen]
    if moved:
        raise PartitionsMoved(change.name, moved)
    new: dict[str, Partition] = {}
    for partition in change.partitions:
        if partition.key in new:
            raise PartitionRefused(change.name, partition.key, "is given twice in one commit")
        check_window(change.name, partition)
        new[partition.key] = partition
    if published is None or change.replace is Replace.TABLE_AND_COLUMNS:
        columns = change.columns
    else:
        columns = merged_columns(change.name, published.columns, change.columns)
    kept = before if change.replace is Replace.PARTITIONS else {}
    ordered = in_order({**kept, **new}.values())
    refuse_overlap(change.name, ordered)
    for path, runs in uncovered_files(ordered).items():
        keys = [key for key, _ in runs]
        for key in keys:
            if key in new:
                raise PartitionRefused(change.name, key, f"has rows of {path}, others of which belong to no partition")
        raise PartitionsMoved(change.name, keys)
    return Table(change.name, columns, {partition.key: partition for partition in ordered})
