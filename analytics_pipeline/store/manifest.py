"""The manifest: the whole state of the store as of one version, as one immutable value and one Parquet file.

Belongs here: what a version consists of, how a change makes the next one, how it is written and read back.
Does not: when a version becomes the current one (`commit`), what readers see of it (`catalog`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.errors import OverlappingPartitions, StoreFormatUnknown
from analytics_pipeline.store.schema import Column, Columns, checked_table_name, merged_columns

FORMAT = 1
JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_META_KEY = b"analytics_pipeline"
_MOMENT = pa.timestamp("us", "UTC")
_FIELDS: list[tuple[str, pa.DataType]] = [
    ("table_name", pa.string()),
    ("partition_key", pa.string()),
    ("lower_bound", _MOMENT),
    ("upper_bound", _MOMENT),
    ("partition_rows", pa.int64()),
    ("fingerprint", pa.string()),
    ("spec_hash", pa.string()),
    ("sync_id", pa.string()),
    ("synced_at", _MOMENT),
    ("file", pa.string()),
    ("file_rows", pa.int64()),
    ("file_bytes", pa.int64()),
    ("file_columns", pa.int32()),
    ("retired_at", _MOMENT),
]
_SCHEMA = pa.schema(_FIELDS)


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
        """
        tables = dict(self.tables)
        for table_change in change.tables:
            name = checked_table_name(table_change.name)
            tables[name] = _changed_table(tables.get(name), table_change)
        views = dict(self.views) | {checked_table_name(view.name): view for view in change.views}
        kept = {file.path for table in tables.values() for file in table.files}
        gone = tuple(Retired(f.path, f.bytes, now) for f in self.live_files if f.path not in kept)
        return Manifest(self.version + 1, now, tables, views, self.retired + gone)

    def without_retired(self, paths: Iterable[str], now: datetime) -> Manifest:
        """The next version, with some retired files forgotten."""
        gone = set(paths)
        retired = tuple(item for item in self.retired if item.path not in gone)
        return replace(self, version=self.version + 1, committed_at=now, retired=retired)


def _changed_table(published: Table | None, change: TableChange) -> Table:
    new = {partition.key: partition for partition in change.partitions}
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


def _refuse_overlap(table: str, ordered: Sequence[Partition]) -> None:
    windows = [partition for partition in ordered if partition.lower is not None]
    for earlier, later in pairwise(windows):
        if earlier.upper is None or later.lower is None or later.lower < earlier.upper:
            raise OverlappingPartitions(table, earlier.key, later.key)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as one Parquet file: a row a live file, an empty partition, or a retired file."""
    meta: dict[str, JsonValue] = {
        "format": FORMAT,
        "version": manifest.version,
        "committed_at": manifest.committed_at.isoformat() if manifest.committed_at else None,
        "views": [
            {slot: getattr(view, slot) for slot in JoinView.__slots__}  # flat: plain strings all of them
            for view in manifest.views.values()
        ],
    }
    rows: list[tuple[object, ...]] = []
    tables: list[JsonValue] = []
    for table in manifest.tables.values():
        known: dict[Columns, int] = {}
        for partition in table.partitions.values():
            rows.extend(_partition_rows(table.name, partition, known))
        tables.append(
            {
                "name": table.name,
                "columns": [list(column) for column in table.columns],
                "file_columns": [[list(column) for column in columns] for columns in known],
                "metadata": table.metadata,
            }
        )
    meta["tables"] = tables
    rows.extend((*(None,) * 9, item.path, None, item.bytes, None, item.retired_at) for item in manifest.retired)
    arrays = [pa.array([row[i] for row in rows], type=column.type) for i, column in enumerate(_SCHEMA)]
    schema = _SCHEMA.with_metadata({_META_KEY: json.dumps(meta, allow_nan=False).encode()})
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def _partition_rows(table: str, partition: Partition, known: dict[Columns, int]) -> Iterator[tuple[object, ...]]:
    common = (
        table,
        partition.key,
        partition.lower,
        partition.upper,
        partition.rows,
        partition.fingerprint,
        partition.spec_hash,
        partition.sync_id,
        partition.synced_at,
    )
    if not partition.files:
        yield (*common, None, None, None, None, None)
    for file in partition.files:
        yield (*common, file.path, file.rows, file.bytes, known.setdefault(file.columns, len(known)), None)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest back.

    Raises:
        StoreFormatUnknown: a later version of this package wrote it.
    """
    with pq.ParquetFile(path) as file:
        meta = json.loads(file.schema_arrow.metadata[_META_KEY])
        if meta["format"] > FORMAT:
            raise StoreFormatUnknown(str(path), meta["format"], FORMAT)
        columns = file.read().to_pydict()
    file_columns = {
        table["name"]: [tuple(Column(*column) for column in columns_) for columns_ in table["file_columns"]]
        for table in meta["tables"]
    }
    partitions: dict[str, dict[str, Partition]] = {table["name"]: {} for table in meta["tables"]}
    files: dict[tuple[str, str], list[DataFile]] = {}
    retired: list[Retired] = []
    for row in zip(*columns.values(), strict=True):
        table, key, lower, upper, _rows, fingerprint, spec_hash, sync_id, synced_at = row[:9]
        path_, file_rows, size, columns_id, retired_at = row[9:]
        if table is None:
            retired.append(Retired(path_, size, retired_at))
            continue
        listed = files.setdefault((table, key), [])
        if path_ is not None:
            listed.append(DataFile(path_, file_rows, size, file_columns[table][columns_id]))
        partitions[table].setdefault(key, Partition(key, lower, upper, (), fingerprint, spec_hash, sync_id, synced_at))
    tables = {
        table["name"]: Table(
            table["name"],
            tuple(Column(*column) for column in table["columns"]),
            {
                key: replace(partition, files=tuple(files[table["name"], key]))
                for key, partition in partitions[table["name"]].items()
            },
            table["metadata"],
        )
        for table in meta["tables"]
    }
    views = {view["name"]: JoinView(**view) for view in meta["views"]}
    return Manifest(meta["version"], datetime.fromisoformat(meta["committed_at"]), tables, views, tuple(retired))
