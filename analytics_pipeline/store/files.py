"""Data files: rows in, immutable Parquet files out, one or more a partition, in bounded memory.

Belongs here: routing batches to partitions, when a row group is cut, compression, fsync.
Does not: which partition a row belongs to (the caller says), or where a finished file goes (`commit`).
"""

from __future__ import annotations

import re
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics_pipeline.store.digest import file_digest
from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.store.schema import Columns, checked_table_name, columns_of

ROW_GROUP_ROWS = 122_880
"""DuckDB's own row group size: its readers work on these in parallel and skip them by their statistics."""

DEFAULT_BUFFER_BYTES = 64 * 1024 * 1024
_FEWEST_IDLE_WRITES = 16
_IDLE_ROUNDS = 2
_SAMPLE_ROWS = 10_000
_FEW_ROWS = 100
_WORTH_REPEATS = 3
_MAX_OPEN_FILES = 128
_LONGEST_PREFIX = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass
class _Buffer:
    """Rows of one partition that are not in a row group yet."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    touched: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.get_total_buffer_size() > 2 * batch.nbytes:
            batch = _compact(batch)
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy that holds its own rows alone: a slice would keep the whole batch that it was cut from in memory."""
    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)


class PartitionedWriter:
    """Writes the rows of one table to a staging folder, each partition into files of its own.

    Args:
        folder: an existing staging folder.
        table: the table's name; part of the files' paths.
        schema: Arrow schema of every batch.
        buffer_bytes: rows held back, over all partitions, to fill row groups; the memory bound.

    Raises:
        NameRefused, UnsupportedColumnType: the table cannot exist in the store.
    """

    def __init__(
        self, folder: Path, table: str, schema: pa.Schema, *, buffer_bytes: int = DEFAULT_BUFFER_BYTES
    ) -> None:
        self.table = checked_table_name(table)
        self.columns: Columns = columns_of(schema)
        self._folder = folder
        self._schema = schema
        self._limit = buffer_bytes
        self._buffered = 0
        self._writes = 0
        self._buffers: OrderedDict[str, _Buffer] = OrderedDict()  # least recently written first
        self._encoding: _Encoding | None = None
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._finished: dict[str, list[DataFile]] = {}

    def write(self, partition: str, batch: pa.RecordBatch) -> None:
        """Take rows of one partition; they reach the disk when a row group is full or memory is."""
        if batch.num_rows == 0:
            return
        self._writes += 1
        buffer = self._buffers.setdefault(partition, _Buffer())
        self._buffers.move_to_end(partition)
        buffer.touched = self._writes
        before = buffer.bytes
        buffer.add(batch)
        self._buffered += buffer.bytes - before
        if buffer.rows >= ROW_GROUP_ROWS:
            self._flush(partition)
        while self._buffered > self._limit:
            self._flush(max(self._buffers, key=lambda key: self._buffers[key].bytes))
        self._flush_idle()

    def close(self) -> Mapping[str, Sequence[DataFile]]:
        """Write what is held back, force everything to the disk, and list the files of each partition."""
        for partition in list(self._buffers):
            self._flush(partition)
        for partition in list(self._open):
            self._finish(partition)
        return self._finished

    def abandon(self) -> None:
        """Let go of open files after a failure; the stage takes what was written with it."""
        while self._open:
            self._open.popitem()[1].writer.close()

    def _flush_idle(self) -> None:
        """Write what gets no more rows while others still arrive: most sources give their rows in order of time.

        A source in no order comes back to every partition once a round, which is no idleness: writing then would cut
        its row groups to the size of its batches.
        """
        while self._buffers:
            partition, buffer = next(iter(self._buffers.items()))
            if self._writes - buffer.touched < max(_FEWEST_IDLE_WRITES, _IDLE_ROUNDS * len(self._buffers)):
                return
            self._flush(partition)

    def _flush(self, partition: str) -> None:
        buffer = self._buffers.pop(partition)
        self._buffered -= buffer.bytes
        row_groups = max(1, round(buffer.rows / ROW_GROUP_ROWS))
        table = pa.Table.from_batches(buffer.batches, schema=self._schema)
        if self._encoding is None:
            self._encoding = _encoding_for(table)
        target = self._open.get(partition) or self._begin(partition, self._encoding)
        self._open.move_to_end(partition)
        target.writer.write_table(table, row_group_size=-(-buffer.rows // row_groups))
        target.rows += buffer.rows

    def _begin(self, partition: str, encoding: _Encoding) -> _OpenFile:
        if len(self._open) >= _MAX_OPEN_FILES:
            self._finish(next(iter(self._open)))
        name = f"{_UNSAFE.sub('-', partition)[:_LONGEST_PREFIX]}-{uuid.uuid4().hex}.parquet"
        path = self._folder / name
        writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(encoding.dictionary),  # type: ignore[arg-type] # the stub knows only bool
            column_encoding=dict.fromkeys(encoding.packed, "DELTA_BINARY_PACKED"),
            store_schema=False,
        )
        self._open[partition] = _OpenFile(path, writer)
        return self._open[partition]

    def _finish(self, partition: str) -> None:
        done = self._open.pop(partition)
        done.writer.close()
        fsync_path(done.path)
        file = DataFile(
            f"tables/{self.table}/{done.path.name}",
            done.rows,
            done.path.stat().st_size,
            self.columns,
            digest=file_digest(done.path),
        )
        self._finished.setdefault(partition, []).append(file)


class _Encoding(NamedTuple):
    """Columns worth a dictionary, and numbers that are smaller and faster as differences. The others stay plain."""

    dictionary: Sequence[str]
    packed: Sequence[str]


def _encoding_for(rows: pa.Table) -> _Encoding:
    """Judged by a table's first rows: a dictionary for values that are all different costs twice for nothing."""
    sample = rows.slice(0, _SAMPLE_ROWS)
    dictionary, packed = [], []
    for column in sample.schema:
        if pa.types.is_nested(column.type):
            dictionary.append(f"{column.name}.list.element")
        elif not pa.types.is_boolean(column.type):
            if _distinct(sample.column(column.name)) * _WORTH_REPEATS <= max(len(sample), _FEW_ROWS):
                dictionary.append(column.name)
            elif pa.types.is_integer(column.type) or pa.types.is_temporal(column.type):
                packed.append(column.name)
    return _Encoding(dictionary, packed)


def _distinct(values: pa.ChunkedArray[pa.Scalar[pa.DataType]]) -> int:
    if values.type in {pa.string_view(), pa.binary_view()}:
        values = values.cast(pa.large_binary())  # PyArrow cannot count the distinct values of views
    return int(pc.count_distinct(values).as_py())


@dataclass
class _OpenFile:
    path: Path
    writer: pq.ParquetWriter
    rows: int = 0
