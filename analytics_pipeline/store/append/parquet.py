"""Parquet files of append-only tables: written whole and durable, read as their table's columns.

Belongs here: encoding, the schema of a file that another program wrote. Does not: where a file goes (`tables`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.errors import AppendedFileUnreadable, ColumnTypeChanged, NameRefused, UnsupportedColumnType
from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.schema import Column, Columns, columns_of, literal

ROW_GROUP_ROWS = 122_880
_FEW_ROWS = 64
_MERGE_MEMORY = "1GB"
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}
_NUMBERS = _INTEGERS | {"FLOAT", "DOUBLE"}


class TypeChange(Enum):
    """What to do about rows that come with another type for a column that their table has.

    Widened, the table's column gets a type that can show every value: integers together are BIGINT, numbers DOUBLE,
    all else VARCHAR. The files keep the types that they were written with.
    """

    REFUSE = "refuse"
    WIDEN = "widen"


class Found(NamedTuple):
    """What is in a file.

    Args:
        columns: those that hold values at all.
        rows: of the file.
        keys: the columns that identities are made from.
    """

    columns: Columns
    rows: int
    keys: pa.Table


def write_file(rows: pa.Table, path: Path) -> None:
    """Write rows to a new file and force it to the disk."""
    if rows.num_rows < _FEW_ROWS:
        # Nothing to press together: it would take longer than all the rest, and give larger files.
        pq.write_table(rows, path, compression="none", use_dictionary=False)
    else:
        pq.write_table(rows, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    fsync_path(path)


def without_empty_types(rows: pa.Table) -> pa.Table:
    """The columns that have a type: one in which nobody ever saw a value says nothing about its table."""
    return rows.select([field.name for field in rows.schema if not pa.types.is_null(field.type)])


def look_into(path: Path, keys: Sequence[str]) -> Found:
    """What a file holds, whoever wrote it.

    Args:
        path: of the file.
        keys: columns to read; those that it lacks are left out.

    Raises:
        AppendedFileUnreadable: it is damaged, or holds what no table can.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            wanted = [name for name in keys if name in schema.names]
            return Found(_columns(schema), file.metadata.num_rows, file.read(columns=wanted, use_threads=False))
    except (pa.ArrowException, OSError, UnsupportedColumnType, NameRefused) as error:
        raise AppendedFileUnreadable(str(path), str(error)) from error


def _columns(schema: pa.Schema) -> Columns:
    plain = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in schema
        if not pa.types.is_null(field.type)
    ]
    return columns_of(pa.schema(plain))


def new_columns(
    table: str, known: Columns, incoming: Columns, types: TypeChange = TypeChange.REFUSE
) -> Sequence[Column]:
    """The columns that a table does not have yet, or has with a type too narrow.

    Raises:
        ColumnTypeChanged: one that it has comes with another type, which is to be refused.
        NameRefused: one differs from a known one in case alone.
    """
    before, spelling = dict(known), {name.lower(): name for name, _ in known}
    added = []
    for column in incoming:
        if column.name in before:
            wide = _widened(before[column.name], column.type)
            if types is TypeChange.REFUSE and before[column.name] != column.type:
                raise ColumnTypeChanged(table, column.name, before[column.name], column.type)
            if wide != before[column.name]:
                added.append(Column(column.name, wide))
        elif column.name.lower() in spelling:
            raise NameRefused(
                column.name, f"{table} has {spelling[column.name.lower()]}, and SQL does not tell them apart"
            )
        else:
            added.append(column)
    return added


def _widened(old: str, new: str) -> str:
    if old == new:
        return old
    if {old, new} <= _INTEGERS:
        return "BIGINT"
    return "DOUBLE" if {old, new} <= _NUMBERS else "VARCHAR"


def merge_files(select: str, target: Path) -> int:
    """Write the rows of a SELECT over many files to a new one, in order and in bounded memory; gives their number.

    DuckDB opens a small file in a third of the time that Arrow takes.

    Raises:
        AppendedFileUnreadable: one of them is damaged.
    """
    with duckdb.connect(config={"threads": 1, "memory_limit": _MERGE_MEMORY, "temp_directory": ""}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            copy = f"COPY ({select}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)"
            rows: int = connection.execute(copy).fetchall()[0][0]
        except duckdb.Error as error:
            raise AppendedFileUnreadable(str(target.parent.parent), str(error)) from error
    fsync_path(target)
    return rows
