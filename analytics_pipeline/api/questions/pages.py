"""Pages: rows of a table as JSON, sorted, searched and cut to some columns.

Belongs here: how a value of each type becomes JSON. Does not: finding the page (`paging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from analytics_pipeline.api.questions.grouping import json_number
from analytics_pipeline.api.shapes import JsonRow
from analytics_pipeline.api.table import Columns, Rows, is_number
from analytics_pipeline.store import Column
from analytics_pipeline.store.moments import TIMES
from analytics_pipeline.store.schema import identifier

SEARCHED = ("query", "actual_output", "trace_id", "dataset_query", "dataset_actual_output", "dataset_trace_id")
SEARCHED_IN_CASES = ("Case_ID", "Business", "Agent_Name", "Full_Conversation")


def searched(rows: Rows, text: str | None) -> Rows:
    """The rows that hold a text, in any case; none where no column can hold it."""
    if not text:
        return rows
    names = SEARCHED_IN_CASES if rows.columns.find("Case_ID") else SEARCHED
    columns = [rows.columns.text(name) for name in names if rows.columns.find(name)]
    if not columns:
        return rows.where("false")
    return rows.where_values(
        lambda value: " OR ".join(f"contains(lower({column}), lower({value}))" for column in columns), text
    )


def chosen(columns: Columns, names: str | None) -> Sequence[Column]:
    """The columns that a comma-separated list names; all of them where it names none that is there."""
    named = [columns.find(name.strip()) for name in names.split(",")] if names else []
    found = list(dict.fromkeys(column for column in named if column is not None))
    return found or columns.columns


def json_select(columns: Sequence[Column]) -> str:
    """The columns as they stand after SELECT, in types that become JSON."""
    return ", ".join(f"{_json_sql(column)} AS {identifier(column.name)}" for column in columns)


def _json_sql(column: Column) -> str:
    name = identifier(column.name)
    if column.type == "TIMESTAMP WITH TIME ZONE":
        name = f"{name}::TIMESTAMP"  # in UTC, which is the session's zone
    if column.type in TIMES:
        return f"replace({name}::VARCHAR, ' ', 'T')"  # text, because there are times that Python cannot hold
    if column.type in {"VARCHAR", "BOOLEAN"} or is_number(column):
        return name
    if column.type == "BLOB":
        return f"base64({name})"
    base = column.type.rstrip("[]")
    suffix = column.type[len(base) :]
    is_plain = base in {"VARCHAR", "BOOLEAN"} or is_number(Column("", base))
    return name if is_plain else f"{name}::VARCHAR{suffix}"


def json_row(row: dict[str, Any]) -> JsonRow:
    """A row with values that JSON can hold."""
    return {name: json_value(value) for name, value in row.items()}


def json_value(value: object) -> Any:
    """A value as JSON can hold it: NaN and infinities become NULL."""
    if isinstance(value, (float, Decimal)):
        return json_number(float(value))
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    return value
