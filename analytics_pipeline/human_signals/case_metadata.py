"""Metadata of the derived tables: the same keys as of every table, and the metric schema.

Belongs here: counting the cases for people and the API. Does not: the schema itself (`schema`), mirrored tables
(`sync`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from analytics_pipeline.human_signals.heads import CASE_TIME
from analytics_pipeline.human_signals.rows import SOURCE_FIELDS
from analytics_pipeline.store import Column, JsonObject, JsonValue, Preview, Table
from analytics_pipeline.store.schema import identifier

_MOST_VALUES = 200
_TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE")
_NUMBERS = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT")


def table_metadata(preview: Preview, table: Table, filters: Collection[str]) -> dict[str, JsonValue]:
    """What is known of a derived table.

    Args:
        preview: of the table.
        table: of the next version.
        filters: columns whose distinct values are listed, if they are there; lists and bytes have none.
    """
    listed = [column for column in table.columns if column.name in filters and not column.type.endswith(("[]", "BLOB"))]
    time = next((column for column in table.columns if column.name == CASE_TIME and column.type in _TIMES), None)
    return {
        "row_count": table.rows,
        "columns": [{"column_name": column.name, "column_type": column.type} for column in table.columns],
        "filter_values": {column.name: _values(preview, table, column) for column in listed},
        "time_range": _time_range(preview, table, time) if time else None,
        "summary_stats": None,
    }


def cases_metadata(
    preview: Preview, table: Table, filters: Collection[str], schema: JsonObject, skipped: int
) -> JsonObject:
    """What is known of the cases.

    Args:
        preview: of the table.
        table: of the next version.
        filters: further columns whose distinct values are listed.
        schema: of the metrics.
        skipped: rows without the name of a metric.
    """
    known = table_metadata(preview, table, {*SOURCE_FIELDS, *filters})
    return known | {"metric_schema": schema, "rows_without_metric": skipped}


def _values(preview: Preview, table: Table, column: Column) -> JsonValue:
    name = identifier(column.name)
    shown = name if column.type in (*_NUMBERS, "VARCHAR") else f"{name}::VARCHAR"
    rows = preview.rows(
        f"SELECT DISTINCT {shown} FROM {identifier(table.name)} WHERE {name} IS NOT NULL "
        f"ORDER BY 1 LIMIT {_MOST_VALUES}"
    )
    return [value for (value,) in rows if isinstance(value, (bool, int, str))]


def _time_range(preview: Preview, table: Table, column: Column) -> JsonObject | None:
    name = identifier(column.name)
    (first, last), *_ = preview.rows(f"SELECT min({name})::VARCHAR, max({name})::VARCHAR FROM {identifier(table.name)}")
    return {"min": _iso(first, column), "max": _iso(last, column)} if first is not None else None


def _iso(text: object, column: Column) -> str:
    """ISO 8601; in DuckDB's spelling where the year has not four digits."""
    if column.type == "DATE":
        return str(text)
    try:
        return datetime.fromisoformat(str(text)).isoformat()
    except ValueError:
        return str(text)
