"""Insights: what analyses found, page by page, the newest first.

Belongs here: metrics of the category ANALYSIS. Does not: finding the page (`paging`).
"""

from __future__ import annotations

import json
from typing import Any

from analytics_pipeline.api.parameters import InsightParameters, SortDirection
from analytics_pipeline.api.questions.order import total_order
from analytics_pipeline.api.questions.pages import json_value
from analytics_pipeline.api.questions.paging import Count, find_page, span_of
from analytics_pipeline.api.shapes import Insight, Insights, SourceInfo
from analytics_pipeline.api.table import TIME, Ask, Rows

_TEXTS = ("dataset_id", "metric_name", "query", "actual_output", "signals", "explanation")
_SOURCE = ("environment", "source_name", "source_component")


def analysis_insights(ask: Ask, count: Count, rows: Rows, given: InsightParameters) -> Insights:
    """A page of analyses.

    Args:
        ask: for the rows.
        count: their buckets.
        rows: analyses of all metrics.
        given: page, limit, and the metric whose analyses are listed. `metric_names` are those of all.
    """
    columns = rows.columns
    metric = columns.text("metric_name")
    named = rows.where(f"{metric} IS NOT NULL")
    names = ask(f"SELECT DISTINCT {metric} AS name FROM {named.sql} ORDER BY name", named.values)
    wanted = rows.equal("metric_name", given.metric_name)
    order = total_order(columns, TIME, SortDirection.DESC)
    place = find_page(count, wanted, order, span_of(given.page, given.limit))
    select = ", ".join(
        [
            f"strftime({columns.moment(TIME)}, '%Y-%m-%d %H:%M:%S') AS moment",
            *(f"{columns.text(name)} AS {name}" for name in (*_TEXTS, *_SOURCE)),
        ]
    )
    return Insights(
        records=[_insight(row) for row in place.read(ask, order, select)],
        total_count=place.total,
        page=given.page,
        limit=given.limit,
        metric_names=names["name"].to_list(),
    )


def _insight(row: dict[str, Any]) -> Insight:
    return Insight(
        timestamp=row["moment"],
        signals=_object(row["signals"]),
        source_info=SourceInfo(**{name: row[name] for name in _SOURCE}),
        **{name: row[name] for name in _TEXTS if name != "signals"},
    )


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object; an empty one for whatever is none."""
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return {key: _clean(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _clean(value: object) -> Any:
    """Python's JSON reads NaN and infinities."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return json_value(value)
