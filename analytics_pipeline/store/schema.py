"""Columns of the store: their SQL types, how they follow from Arrow, how a table's columns change over time.

Belongs here: the one mapping from Arrow to DuckDB types and back, the widening rules, the one way to quote.
Does not: what a Postgres type becomes (`sync.postgres.types`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from analytics_pipeline.errors import IncompatibleColumn, NameRefused, UnsupportedColumnType

_GLOB = re.compile(r"[\[*?]")
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Column(NamedTuple):
    """A column as SQL sees it: its name and its DuckDB type, such as `DECIMAL(10,2)`."""

    name: str
    type: str


Columns = tuple[Column, ...]

_FIXED_TYPES: tuple[tuple[pa.DataType, str], ...] = (
    (pa.bool_(), "BOOLEAN"),
    (pa.int8(), "TINYINT"),
    (pa.int16(), "SMALLINT"),
    (pa.int32(), "INTEGER"),
    (pa.int64(), "BIGINT"),
    (pa.uint8(), "UTINYINT"),
    (pa.uint16(), "USMALLINT"),
    (pa.uint32(), "UINTEGER"),
    (pa.uint64(), "UBIGINT"),
    (pa.float32(), "FLOAT"),
    (pa.float64(), "DOUBLE"),
    (pa.string(), "VARCHAR"),
    (pa.large_string(), "VARCHAR"),
    (pa.string_view(), "VARCHAR"),
    (pa.binary(), "BLOB"),
    (pa.large_binary(), "BLOB"),
    (pa.date32(), "DATE"),
    (pa.time64("us"), "TIME"),
    (pa.timestamp("us"), "TIMESTAMP"),
)

_ARROW_TYPES = {
    **{name: type_ for type_, name in reversed(_FIXED_TYPES)},
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
}

_WIDENING = (
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"),
    ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    ("FLOAT", "DOUBLE"),
    ("TINYINT", "SMALLINT", "INTEGER", "DOUBLE"),
    ("DATE", "TIMESTAMP"),
)
"""Chains in which every value of a type is also a value of each later one."""

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_INTEGER_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}
_MAX_DECIMAL_DIGITS = 38


def identifier(name: str) -> str:
    """A name quoted as a SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text quoted as a SQL string."""
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: Path | str) -> str:
    """A path quoted as a SQL string that names this file and no other: DuckDB takes `[`, `*` and `?` for patterns."""
    return literal(_GLOB.sub(r"[\g<0>]", str(path)))


def checked_table_name(name: str) -> str:
    """The name, if it may name a table or view of the store.

    Raises:
        NameRefused: it is not lower-case letters, digits and `_`, or begins with something else than a letter.
    """
    if not TABLE_NAME.fullmatch(name):
        raise NameRefused(name, "use up to 63 lower-case letters, digits and _, beginning with a letter")
    return name


def duckdb_type(column: str, arrow_type: pa.DataType) -> str:
    """The DuckDB type that reads an Arrow type back from Parquet.

    Raises:
        UnsupportedColumnType: the store has no rule for it.
    """
    for known, name in _FIXED_TYPES:
        if arrow_type == known:
            return name
    if pa.types.is_decimal128(arrow_type):
        return f"DECIMAL({arrow_type.precision},{arrow_type.scale})"
    if pa.types.is_timestamp(arrow_type) and arrow_type.unit == "us":
        return "TIMESTAMP WITH TIME ZONE"
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        return duckdb_type(column, arrow_type.value_type) + "[]"
    raise UnsupportedColumnType(column, str(arrow_type))


def arrow_schema(columns: Columns) -> pa.Schema:
    """The Arrow schema in which rows of the store's columns are written: `columns_of` gives them back."""
    return pa.schema([(name, _arrow_type(type_)) for name, type_ in columns])


def _arrow_type(name: str) -> pa.DataType:
    if name.endswith("[]"):
        return pa.list_(_arrow_type(name[:-2]))
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    return _ARROW_TYPES[name]


def columns_of(schema: pa.Schema) -> Columns:
    """The store's columns for an Arrow schema.

    Raises:
        UnsupportedColumnType: one of its types has no place in the store.
        NameRefused: two columns differ at most in case, which SQL does not tell apart.
    """
    seen: set[str] = set()
    for name in schema.names:
        if not name or name.lower() in seen:
            raise NameRefused(name, "column names are not empty, and differ in more than case")
        seen.add(name.lower())
    return tuple(Column(field.name, duckdb_type(field.name, field.type)) for field in schema)


def _wider(old: str, new: str) -> str | None:
    """The narrowest type that holds every value of both, or None."""
    if old == new:
        return old
    for chain in _WIDENING:
        if old in chain and new in chain:
            return max(old, new, key=chain.index)
    if old.endswith("[]") and new.endswith("[]"):
        inner = _wider(old[:-2], new[:-2])
        return None if inner is None else inner + "[]"
    return _wider_decimal(old, new)


def _wider_decimal(old: str, new: str) -> str | None:
    sizes = [_decimal_size(type_) for type_ in (old, new)]
    if sizes[0] is None or sizes[1] is None:
        return None
    scale = max(sizes[0][1], sizes[1][1])
    digits = max(sizes[0][0], sizes[1][0]) + scale
    return f"DECIMAL({digits},{scale})" if digits <= _MAX_DECIMAL_DIGITS else None


def _decimal_size(type_: str) -> tuple[int, int] | None:
    """Digits before and after the point."""
    if match := _DECIMAL.fullmatch(type_):
        precision, scale = int(match[1]), int(match[2])
        return precision - scale, scale
    return (_INTEGER_DIGITS[type_], 0) if type_ in _INTEGER_DIGITS else None


def merged_columns(table: str, published: Sequence[Column], incoming: Iterable[Column]) -> Columns:
    """A table's columns after files with other columns joined it.

    A new column comes last, a missing one stays (its new rows are NULL there), a wider type widens.

    Raises:
        IncompatibleColumn: a column's old and new type have no common wider type.
    """
    merged = dict(published)
    spelling = {name.lower(): name for name in merged}
    for name, new in incoming:
        known = spelling.get(name.lower())
        if known is None:
            merged[name] = new
            spelling[name.lower()] = name
            continue
        wider = _wider(merged[known], new)
        if wider is None:
            raise IncompatibleColumn(table, known, merged[known], new)
        merged[known] = wider
    return tuple(Column(name, type_) for name, type_ in merged.items())


def failing_sql(columns: Columns, reason: str) -> str:
    """The SELECT of a table that cannot be read: whoever asks it anything gets the reason as an error.

    Args:
        columns: of the table.
        reason: a sentence that names what is wrong and the way out.
    """
    selected = ", ".join(f"failure::{type_} AS {identifier(name)}" for name, type_ in columns)
    # The failure stands in every column and in the condition, or a filter would be folded to no rows without a word.
    return f"SELECT {selected} FROM (SELECT error({literal(reason)})::VARCHAR AS failure) WHERE failure IS NULL"
