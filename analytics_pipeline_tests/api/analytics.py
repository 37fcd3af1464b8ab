"""What tests of the analytics share: routes, filters with the rows that they mean, figures as Polars gives them."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import polars as pl
import pytest

from analytics_pipeline_tests.api.scenario import AWKWARD, START, STEP

ROOT = "/api/monitoring/analytics"
GROUPS = (
    "environment",
    "source_name",
    "source_component",
    "source_type",
    "metric_name",
    "evaluation_name",
    "model_name",
)
ROUTES: dict[str, dict[str, Any]] = {
    "summary": {},
    "trends": {},
    "metric-breakdown": {},
    "latency-distribution": {},
    "class-distribution": {},
    "correlation": {},
    "classification-breakdown": {},
    "classification-trends": {"metric_name": "intent"},
    "analysis-insights": {},
}
MOMENT = START + timedelta(minutes=150 * STEP, seconds=2)
"""Of all results of one record."""


def category_is(name: str) -> pl.Expr:
    return (pl.col("metric_category").str.to_lowercase() == name.lower()).fill_null(value=name.lower() == "score")


FILTERS: list[tuple[dict[str, str], pl.Expr]] = [
    ({}, pl.lit(value=True)),
    ({"environment": "O'Brien"}, pl.col("environment") == "O'Brien"),
    ({"source_name": "Bürgerportal"}, pl.col("source_name") == "Bürgerportal"),
    ({"source_component": "planner"}, pl.col("source_component") == "planner"),
    ({"source_type": "mail"}, pl.col("source_type") == "mail"),
    ({"time_start": MOMENT.isoformat()}, pl.col("timestamp") >= MOMENT),
    ({"time_end": MOMENT.astimezone(timezone(timedelta(hours=1))).isoformat()}, pl.col("timestamp") <= MOMENT),
    ({"time_start": f"{MOMENT:%FT%TZ}", "time_end": f"{MOMENT:%FT%TZ}"}, pl.col("timestamp") == MOMENT),
    ({"time_start": f"{MOMENT:%F}", "time_end": f"{MOMENT:%F}"}, pl.col("timestamp").dt.date() == MOMENT.date()),
    ({"metric_name": AWKWARD}, pl.col("metric_name") == AWKWARD),
    ({"metric_category": "Score"}, category_is("score")),
    ({"metric_category": "analysis"}, category_is("analysis")),
    (
        {"environment": "staging", "metric_name": "relevancy"},
        (pl.col("environment") == "staging") & (pl.col("metric_name") == "relevancy"),
    ),
]
FILTERED = pytest.mark.parametrize(("asked", "rule"), FILTERS, ids=[str(asked) for asked, _ in FILTERS])


def close(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


def or_zero(value: float | None) -> Any:
    return pytest.approx(value or 0.0, rel=1e-9, abs=1e-9)


def quantile(column: pl.Series, share: float) -> float | None:
    return column.drop_nulls().quantile(share, "linear")
