"""The manifest's file: one version as one Parquet file, written and read back.

Belongs here: the file's columns and its format number. Does not: what a version means (`manifest`), or when it counts
(`commit`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.errors import ManifestUnreadable, StoreFormatUnknown, StoreReadDenied
from analytics_pipeline.store.digest import ALTERED
from analytics_pipeline.store.manifest import JoinView, JsonValue, Manifest, Metadata, Retired, Table
from analytics_pipeline.store.partition import DataFile, Partition
from analytics_pipeline.store.schema import Column, Columns

FORMAT = 2
"""Format 1 kept the metadata of each table with the table, and knew no file of several partitions."""

_META_KEY = b"analytics_pipeline"
_DIGEST_KEY = b"analytics_pipeline.sha256"
_UNKNOWN = b"0" * 64
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
    ("file_begin", pa.int64()),
    ("file_of", pa.int64()),
    ("retired_at", _MOMENT),
    ("file_digest", pa.string()),
]
_SCHEMA = pa.schema(_FIELDS)
_TABLE, _KEY, _FILE, _RETIRED_AT, _DIGEST = 0, 1, 9, 15, 16
"""Positions of the table's name, the partition's key, the first of a file's six columns, and the last two in a row."""


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as one Parquet file: a row a live file, an empty partition, or a retired file."""
    meta: dict[str, JsonValue] = {
        "format": FORMAT,
        "has_digest": True,
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
            }
        )
    meta["tables"] = tables
    meta["metadata"] = {
        name: {"value": metadata.value, "updated_at": metadata.updated_at.isoformat()}
        for name, metadata in manifest.metadata.items()
    }
    rows.extend(
        (*(None,) * 9, item.path, None, item.bytes, None, None, None, item.retired_at, None)
        for item in manifest.retired
    )
    arrays = [pa.array([row[i] for row in rows], type=column.type) for i, column in enumerate(_SCHEMA)]
    metadata = {_META_KEY: json.dumps(meta, allow_nan=False).encode(), _DIGEST_KEY: _UNKNOWN}
    rows_of_all = pa.Table.from_arrays(arrays, schema=_SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(rows_of_all, sink, compression="zstd")
    path.write_bytes(_with_digest(sink.getvalue().to_pybytes()))


def _with_digest(content: bytes) -> bytes:
    """A manifest's bytes with their own digest, which is that of the bytes with zeros in its place."""
    place = content.rfind(_UNKNOWN)
    return content[:place] + sha256(content).hexdigest().encode() + content[place + len(_UNKNOWN) :]


def _refuse_altered(content: bytes, digest: bytes) -> None:
    place = content.rfind(digest)
    original = content[:place] + _UNKNOWN + content[place + len(digest) :]
    if sha256(original).hexdigest().encode() != digest:
        raise ValueError(ALTERED)


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
        yield (*common, *(None,) * 8)
    for file in partition.files:
        columns = known.setdefault(file.columns, len(known))
        yield (*common, file.path, file.rows, file.bytes, columns, file.begin, file.of, None, file.digest)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest back.

    Raises:
        FileNotFoundError: it was pruned.
        StoreFormatUnknown: a later version of this package wrote it.
        ManifestUnreadable: it is damaged.
        StoreReadDenied: this user may not read it.
    """
    try:
        content = path.read_bytes()
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            metadata = file.metadata.metadata or {}  # the schema's own copy of it was made before the digest
            meta = json.loads(metadata[_META_KEY])
            if _DIGEST_KEY in metadata or meta.get("has_digest"):  # not in those of earlier releases
                _refuse_altered(content, metadata[_DIGEST_KEY])
            columns = file.read().to_pydict()
        return _manifest(path, meta, columns)
    except FileNotFoundError:
        raise
    except PermissionError:
        raise StoreReadDenied(str(path)) from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ManifestUnreadable(str(path), f"{type(error).__name__}: {error}") from error


def _manifest(path: Path, meta: dict[str, Any], columns: dict[str, list[Any]]) -> Manifest:
    if meta["format"] > FORMAT:
        raise StoreFormatUnknown(str(path), meta["format"], FORMAT)
    if meta["format"] == 1:
        count = len(columns["file"])
        columns = {**columns, "file_begin": [0] * count, "file_of": [None] * count}
    columns.setdefault("file_digest", [None] * len(columns["file"]))  # written before digests were recorded
    rows = list(zip(*(columns[name] for name in _SCHEMA.names), strict=True))
    listed = [row for row in rows if row[_TABLE] is not None]
    retired = tuple(Retired(row[_FILE], row[_FILE + 2], row[_RETIRED_AT]) for row in rows if row[_TABLE] is None)
    by_table = {name: list(group) for name, group in groupby(listed, key=itemgetter(_TABLE))}
    tables = {table["name"]: _read_table(table, by_table.get(table["name"], ())) for table in meta["tables"]}
    views = {view["name"]: JoinView(**view) for view in meta["views"]}
    committed_at = datetime.fromisoformat(meta["committed_at"])
    return Manifest(meta["version"], committed_at, tables, views, _read_metadata(meta), retired)


def _read_metadata(meta: dict[str, Any]) -> dict[str, Metadata]:
    if meta["format"] == 1:
        committed_at = datetime.fromisoformat(meta["committed_at"])
        return {
            table["name"]: Metadata(table["metadata"], committed_at) for table in meta["tables"] if table["metadata"]
        }
    return {
        name: Metadata(of_name["value"], datetime.fromisoformat(of_name["updated_at"]))
        for name, of_name in meta["metadata"].items()
    }


def _read_table(meta: dict[str, Any], rows: Sequence[tuple[Any, ...]]) -> Table:
    written = [tuple(Column(*column) for column in columns) for columns in meta["file_columns"]]
    partitions: dict[str, Partition] = {}
    for key, group in groupby(rows, key=itemgetter(_KEY)):  # a partition's files stand together
        of_partition = list(group)
        files = tuple(
            DataFile(path, count, size, written[columns], begin, of, digest)
            for path, count, size, columns, begin, of, digest in (
                (*row[_FILE : _FILE + 6], row[_DIGEST]) for row in of_partition
            )
            if path is not None
        )
        _, _, lower, upper, _, fingerprint, spec_hash, sync_id, synced_at = of_partition[0][:_FILE]
        partitions[key] = Partition(key, lower, upper, files, fingerprint, spec_hash, sync_id, synced_at)
    return Table(meta["name"], tuple(Column(*column) for column in meta["columns"]), partitions)
