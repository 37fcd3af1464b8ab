"""Metadata of the derived tables: the same keys as of every table, and the metric schema.

Belongs here: counting the cases for people and the API. Does not: the schema itself (`schema`), mirrored tables
(`sync`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from analytics_pipeline.human_signals.heads import CASE_TIME
from analytics_pipeline.human_signals.rows import SOURCE_FIELDS
from analytics_pipeline.store import Column, JsonObject, JsonValue, Preview, Table
from analytics_pipeline.store.moments import TIMES
from analytics_pipeline.store.schema import identifier

_MOST_VALUES = 200
_NUMBERS = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT")


def table_metadata(preview: Preview, table: Table, filters: Collection[str]) -> dict[str, JsonValue]:
    """What is known of a derived table.

    Args:
        preview: of the table.
        table: of the next version.
        filters: columns whose distinct values are listed, if they are there; lists and bytes have none.
    """
    listed = [column for column in table.columns if column.name in filters and not column.type.endswith(("[]", "BLOB"))]
    time = next((column for column in table.columns if column.name == CASE_TIME and column.type in TIMES), None)
    return {
        "row_count": table.rows,
        "columns": [{"column_name": column.name, "column_type": column.type} for column in table.columns],
        **_of_rows(preview, table, listed, time),
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


def _of_rows(preview: Preview, table: Table, listed: Sequence[Column], time: Column | None) -> dict[str, JsonValue]:
    """What only the rows tell, in one question; none where nothing is asked."""
    if not listed and time is None:
        return {"filter_values": {}, "time_range": None}
    lists = [f"list_sort(list(DISTINCT {_shown(column)}))[:{_MOST_VALUES}]" for column in listed]
    ends = [f"{end}({identifier(time.name)})::VARCHAR" for end in ("min", "max")] if time else []
    (found,) = preview.rows(f"SELECT {', '.join([*ends, *lists])} FROM {identifier(table.name)}")
    span: JsonObject | None = None
    if time is not None and found[0] is not None:
        span = {"min": _iso(found[0], time), "max": _iso(found[1], time)}
    values = zip(listed, found[len(ends) :], strict=True)
    return {"filter_values": {column.name: _without_null(each) for column, each in values}, "time_range": span}


def _shown(column: Column) -> str:
    name = identifier(column.name)
    return name if column.type in {*_NUMBERS, "VARCHAR"} else f"{name}::VARCHAR"


def _without_null(values: object) -> JsonValue:
    return [value for value in values if isinstance(value, (bool, int, str))] if isinstance(values, list) else []


def _iso(text: object, column: Column) -> str:
    """ISO 8601; in DuckDB's spelling where the year has not four digits."""
    if column.type == "DATE":
        return str(text)
    try:
        return datetime.fromisoformat(str(text)).isoformat()
    except ValueError:
        return str(text)
