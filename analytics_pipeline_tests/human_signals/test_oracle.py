"""Whatever the rows are, the SQL says what plain Python says row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from hypothesis import given, settings

from analytics_pipeline.human_signals.cases import aggregate_cases
from analytics_pipeline.human_signals.schema import build_metric_schema
from analytics_pipeline_tests.human_signals import strategies
from analytics_pipeline_tests.human_signals.oracle import Answer, answer

FRAME: dict[str, pl.DataType | type[pl.DataType]] = {
    "dataset_id": pl.String,
    "timestamp": pl.Datetime("us"),
    "metric_name": pl.String,
    "metric_category": pl.String,
    "signals": pl.String,
    "explanation": pl.String,
    "source_name": pl.String,
    "environment": pl.String,
    "conversation": pl.String,
    "conversation_stats": pl.String,
    "additional_input": pl.String,
    "evaluation_metadata": pl.String,
}
JSON_TEXTS = {"Full_Conversation", "additional_input", "evaluation_metadata"}
TYPES = {"BOOLEAN": pl.Boolean, "BIGINT": pl.Int64, "DOUBLE": pl.Float64, "VARCHAR": pl.String}


def said(column: str, value: Any) -> Any:
    """A value to compare: JSON by what it says, for its spaces are nobody's business."""
    if column in JSON_TEXTS and isinstance(value, str):
        try:
            return json.loads(value, parse_constant=lambda _: None)
        except ValueError:
            return value
    return value


def same_cases(found: pl.DataFrame, expected: Answer) -> None:
    """The same cases, in the same order of rows and columns, of the same types."""
    comparable: list[Mapping[str, Any]] = [
        {name: said(name, v) for name, v in case.items()} for case in found.to_dicts()
    ]
    assert comparable == [{name: said(name, v) for name, v in case.items()} for case in expected.cases]
    if expected.cases:
        assert found.columns == list(expected.cases[0])
    assert {name: found.schema[name] for name in expected.types} == {
        name: TYPES[type_] for name, type_ in expected.types.items()
    }


@settings(max_examples=8, deadline=None)
@given(strategies.rows())
def test_cases_and_schema_are_those_of_plain_python(rows: list[dict[str, Any]]) -> None:
    """Otherwise speed was bought with another meaning."""
    frame = pl.DataFrame(rows, schema=FRAME, orient="row")
    expected = answer(rows, FRAME)
    assert build_metric_schema(frame) == expected.schema
    same_cases(aggregate_cases(frame), expected)
