"""Rewriting: rows of published files streamed into new files, value by value the same.

Belongs here: reading runs of rows back in bounded memory, their cast to other columns, the new runs they become.
Does not: which partitions are rewritten and why (`split`, `compaction`), or the commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.errors import CopyDiffers, DataFileDamaged, DataFileMissing
from analytics_pipeline.store.digest import problem_of, set_aside
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.store.schema import Columns, arrow_schema
from analytics_pipeline.store.stage import Stage

_BATCH_ROWS = 16_384

Runs = tuple[DataFile, ...]
Values: TypeAlias = "pa.Array[pa.Scalar[pa.DataType]]"


def rewrite_runs(
    layout: Layout, stage: Stage, table: str, runs: Sequence[DataFile], columns: Columns, *, name: str, files: int = 1
) -> Sequence[Runs]:
    """Write runs of rows one after the other into new files of a stage.

    Args:
        layout: where the runs are.
        stage: takes the new files.
        table: they belong to.
        runs: in the order in which they are to stand.
        columns: of the new files; wide enough for those of the runs.
        name: what the new files are called by.
        files: how many, of about as many rows each.

    Returns:
        For each run what it became: one new run, or several where it crosses the border of two files.

    Raises:
        DataFileMissing, DataFileDamaged: a run cannot be read, or its file does not hold what was written.
        CopyDiffers: a value does not fit the new columns.
    """
    _refuse_damage(layout, runs)
    schema = arrow_schema(columns)
    per_file = max(1, -(-sum(run.rows for run in runs) // files))
    writer = stage.writer(table, schema)
    placed: list[list[tuple[str, int, int]]] = []
    position = 0
    try:
        for run in runs:
            begin = position
            for batch in _cast(_rows_of(layout, run), schema):
                for part in _cut(batch, position, per_file):
                    writer.write(f"{name}-{position // per_file}", part)
                    position += part.num_rows
            placed.append(_places(name, begin, position, per_file))
        written = {key: file for key, (file,) in writer.close().items()}
    except BaseException:
        writer.abandon()
        raise
    return [tuple(written[key].run(begin, rows) for key, begin, rows in places) for places in placed]


def _refuse_damage(layout: Layout, runs: Sequence[DataFile]) -> None:
    """Compare each file with its digest before its rows are copied: the copy would get a digest of its own."""
    for file in {run.path: run for run in runs}.values():
        path = layout.root / file.path
        found = layout.size_of(file.path)
        if found != file.bytes:
            raise DataFileMissing(str(path), file.bytes, found)
        problem = problem_of(path, file.bytes, file.digest)
        if problem is not None:
            raise _damaged(layout, file, problem)


def _damaged(layout: Layout, file: DataFile, problem: str) -> DataFileDamaged:
    """The error for a damaged file, which is set aside: the next refresh reads its partitions again."""
    set_aside(layout, file.path)
    return DataFileDamaged(f"{layout.root}/{file.path}", problem)


def _places(name: str, begin: int, end: int, per_file: int) -> list[tuple[str, int, int]]:
    """Where the rows from `begin` to `end` of all rows stand: file, rows before them in it, their number."""
    places = []
    while begin < end:
        stop = min(end, (begin // per_file + 1) * per_file)
        places.append((f"{name}-{begin // per_file}", begin % per_file, stop - begin))
        begin = stop
    return places


def _cut(batch: pa.RecordBatch, position: int, per_file: int) -> Iterator[pa.RecordBatch]:
    """The parts of a batch that go to one file each; its first row is the one at `position` of all rows."""
    offset = 0
    while offset < batch.num_rows:
        room = per_file - (position + offset) % per_file
        yield batch.slice(offset, room)
        offset += room


def _rows_of(layout: Layout, run: DataFile) -> Iterator[pa.RecordBatch]:
    path = layout.root / run.path
    try:
        with pq.ParquetFile(path) as source:
            if source.metadata.num_rows != run.file_rows:
                raise _damaged(layout, run, f"it has {source.metadata.num_rows} rows instead of {run.file_rows}")
            yield from _slices(source, run)
    except pa.ArrowException as error:
        raise _damaged(layout, run, str(error)) from error
    except OSError as error:
        raise DataFileDamaged(str(path), str(error)) from error


def _slices(source: pq.ParquetFile, run: DataFile) -> Iterator[pa.RecordBatch]:
    begin, end = run.begin, run.begin + run.rows
    groups: list[int] = []
    first = position = 0
    for number in range(source.metadata.num_row_groups):
        rows = source.metadata.row_group(number).num_rows
        if position < end and position + rows > begin:
            first = first if groups else position
            groups.append(number)
        position += rows
    position = first
    for batch in source.iter_batches(_BATCH_ROWS, row_groups=groups):
        low, high = max(begin - position, 0), min(end - position, batch.num_rows)
        if low < high:
            yield batch.slice(low, high - low)
        position += batch.num_rows


def _cast(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches in wider columns: a missing one is NULL, a narrower one is cast without loss."""
    for batch in batches:
        found = {name.lower(): column for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        columns = []
        for field in schema:
            column = found.get(field.name.lower())
            columns.append(pa.nulls(batch.num_rows, field.type) if column is None else _widened(column, field))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _widened(
    column: pa.Array[pa.Scalar[pa.DataType]], field: pa.Field[pa.DataType]
) -> pa.Array[pa.Scalar[pa.DataType]]:
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise CopyDiffers(field.name, str(error)) from error
