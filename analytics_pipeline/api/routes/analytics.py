"""Routes of the monitoring analytics: `/api/monitoring/analytics/…`.

Belongs here: which question answers which path. Does not: the questions, common limits (`service`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from analytics_pipeline.api import parameters as asked
from analytics_pipeline.api import shapes
from analytics_pipeline.api.datasets import MONITORING
from analytics_pipeline.api.questions import categories, correlation, distributions, insights, scores
from analytics_pipeline.api.questions.grouping import checked_group
from analytics_pipeline.api.routes.shared import READING, service_of
from analytics_pipeline.api.service import Published
from analytics_pipeline.api.table import Rows
from analytics_pipeline.store import JsonObject

router = APIRouter(prefix="/api/monitoring/analytics", tags=["analytics"], responses=READING)


@router.get("/summary", response_model=shapes.Summary)
async def summary(request: Request, given: Annotated[asked.SummaryParameters, Query()]) -> Response:
    """Key figures of the rows with a score. Unfiltered they come from what was counted with the commit."""

    def stored(metadata: JsonObject) -> shapes.Summary | None:
        figures: Any = metadata.get("summary_stats")
        return scores.stored_summary(figures) if given.are_none and figures is not None else None

    return await service_of(request).answer(
        request,
        MONITORING,
        given,
        lambda table: scores.summary(table.ask, given.of(table.visible(given.metric_name))),
        stored=stored,
    )


@router.get("/trends", response_model=shapes.Trends)
async def trends(request: Request, given: Annotated[asked.TrendParameters, Query()]) -> Response:
    """Each metric's scores in each hour, day or week."""
    return await _answer(request, given, lambda table, rows: scores.trends(table.ask, rows, given.granularity))


@router.get("/metric-breakdown", response_model=shapes.MetricBreakdown)
async def metric_breakdown(request: Request, given: Annotated[asked.BreakdownParameters, Query()]) -> Response:
    """How each metric does, and in each group."""
    group = checked_group(given.group_by)
    return await _answer(
        request, given, lambda table, rows: scores.metric_breakdown(table.ask, rows, given.threshold, group)
    )


@router.get("/latency-distribution", response_model=shapes.LatencyDistribution)
async def latency_distribution(request: Request, given: Annotated[asked.LatencyParameters, Query()]) -> Response:
    """The histogram and the percentiles of latencies."""
    group = checked_group(given.group_by)
    return await _answer(
        request, given, lambda table, rows: distributions.latency_distribution(table.ask, rows, given.bins, group)
    )


@router.get("/class-distribution", response_model=shapes.ClassDistribution)
async def class_distribution(request: Request, given: Annotated[asked.ClassParameters, Query()]) -> Response:
    """One column's values in each group."""
    group = checked_group(given.group_by)
    return await _answer(
        request, given, lambda table, rows: distributions.class_distribution(table.ask, rows, given.metric, group)
    )


@router.get("/correlation", response_model=shapes.Correlation)
async def correlations(request: Request, given: Annotated[asked.CorrelationParameters, Query()]) -> Response:
    """Pearson's coefficient of each pair of metrics."""
    named = [name.strip() for name in given.metrics.split(",") if name.strip()] if given.metrics is not None else None

    def question(table: Published) -> shapes.Correlation:
        rows = given.of(table.visible(given.metric_name) if named is None else table.rows)
        if named is None:
            return correlation.correlation(table.ask, rows, _metric_names(table))
        return correlation.correlation(table.ask, rows, named, known_in=table.rows)

    return await service_of(request).answer(request, MONITORING, given, question)


def _metric_names(table: Published) -> list[str]:
    """The first metrics that the dataset shows."""
    filters: Any = (table.metadata or {}).get("filter_values", {})
    visible = table.target.spec.visible_metrics
    names = [name for name in filters.get("metric_name", ()) if visible is None or name in visible]
    return names[: correlation.MOST_METRICS]


@router.get("/classification-breakdown", response_model=shapes.ClassificationBreakdown)
async def classification_breakdown(
    request: Request, given: Annotated[asked.ClassificationParameters, Query()]
) -> Response:
    """How often classifications came to each of their values."""
    source = given.category_source
    return await _answer(
        request, given, lambda table, rows: categories.classification_breakdown(table.ask, rows, source)
    )


@router.get("/classification-trends", response_model=shapes.ClassificationTrends)
async def classification_trends(
    request: Request, given: Annotated[asked.ClassificationTrendParameters, Query()]
) -> Response:
    """How often one classification came to each of its values in each hour, day or week."""
    how = given.metric_name, given.granularity, given.category_source
    return await _answer(request, given, lambda table, rows: categories.classification_trends(table.ask, rows, *how))


@router.get("/analysis-insights", response_model=shapes.Insights)
async def analysis_insights(request: Request, given: Annotated[asked.InsightParameters, Query()]) -> Response:
    """What analyses found, the newest first."""
    return await _answer(
        request, given, lambda table, rows: insights.analysis_insights(table.ask, table.count, rows, given)
    )


async def _answer(request: Request, given: asked.Filters, question: Callable[[Published, Rows], BaseModel]) -> Response:
    """The answer to a question about the rows that a request means."""
    return await service_of(request).answer(
        request, MONITORING, given, lambda table: question(table, given.of(table.visible(given.metric_name)))
    )
