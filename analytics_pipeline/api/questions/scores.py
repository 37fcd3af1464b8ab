"""Scores: key figures, trends, and metrics side by side.

Belongs here: what is asked of `metric_score`. Does not: single columns (`distributions`), categories (`categories`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analytics_pipeline.api.parameters import Granularity
from analytics_pipeline.api.questions.grouping import group_sql, json_number, zero_if_none
from analytics_pipeline.api.shapes import Kpis, MetricBreakdown, MetricScore, Score, Summary, TrendPoint, Trends
from analytics_pipeline.api.table import TIME, Ask, Rows

_SUMMARY = """
SELECT count({score}) AS total_records, avg({score}) AS avg_score,
       100.0 * count(*) FILTER ({score} >= 0.5) / nullif(count({score}), 0) AS pass_rate,
       quantile_cont({latency}, [0.5, 0.95, 0.99]) FILTER ({score} IS NOT NULL) AS latencies
FROM {rows}
"""
_TRENDS = """
SELECT strftime(date_trunc('{unit}', moment), '%Y-%m-%d %H:%M:%S') AS timestamp, metric, avg(score) AS avg,
       quantile_cont(score, [0.5, 0.95, 0.99]) AS quantiles, count(*) AS count
FROM (SELECT {moment} AS moment, {metric} AS metric, {score} AS score FROM {rows})
WHERE moment IS NOT NULL AND score IS NOT NULL
GROUP BY date_trunc('{unit}', moment), metric
ORDER BY date_trunc('{unit}', moment), metric
"""
_BREAKDOWN = """
SELECT metric, place, grouping(place) = 0 AS is_group,
       100.0 * count(*) FILTER (score >= $threshold) / count(*) AS pass_rate, avg(score) AS avg, count(*) AS count
FROM (SELECT {metric} AS metric, {place} AS place, {score} AS score FROM {rows})
WHERE score IS NOT NULL
GROUP BY GROUPING SETS ((metric), (metric, place))
ORDER BY metric, is_group, place
"""
_QUANTILES = ("p50", "p95", "p99")


def summary(ask: Ask, rows: Rows) -> Summary:
    """Key figures of rows with a score."""
    columns = rows.columns
    sql = _SUMMARY.format(score=columns.number("metric_score"), latency=columns.number("latency"), rows=rows.sql)
    found = ask(sql, rows.values).row(0, named=True)
    latencies = dict(zip(_QUANTILES, found["latencies"] or (), strict=False))
    return stored_summary({**found, **{f"{name}_latency": latencies.get(name) for name in _QUANTILES}})


def stored_summary(figures: Mapping[str, Any]) -> Summary:
    """Key figures from those that were counted with the commit."""
    names = ("avg_score", "pass_rate", "p50_latency", "p95_latency", "p99_latency")
    return Summary(
        kpis=Kpis(total_records=figures["total_records"], **{name: zero_if_none(figures[name]) for name in names})
    )


def trends(ask: Ask, rows: Rows, granularity: Granularity) -> Trends:
    """Each metric's scores in each step of time."""
    columns = rows.columns
    sql = _TRENDS.format(
        unit=granularity.unit,
        moment=columns.moment(TIME),
        metric=group_sql(columns, "metric_name"),
        score=columns.number("metric_score"),
        rows=rows.sql,
    )
    points = [
        TrendPoint(
            timestamp=row["timestamp"],
            metric=row["metric"],
            avg=json_number(row["avg"]),
            **dict(zip(_QUANTILES, map(json_number, row["quantiles"]), strict=True)),
            count=row["count"],
        )
        for row in ask(sql, rows.values).iter_rows(named=True)
    ]
    return Trends(
        data=points,
        metrics=sorted({point.metric for point in points}),
        granularity=granularity.value,
        note=columns.why_no_moments(TIME),
    )


def metric_breakdown(ask: Ask, rows: Rows, threshold: float, group_by: str | None) -> MetricBreakdown:
    """How each metric does, and in each group."""
    columns = rows.columns
    sql = _BREAKDOWN.format(
        metric=group_sql(columns, "metric_name"),
        place=group_sql(columns, group_by) if group_by else "''",
        score=columns.number("metric_score"),
        rows=rows.sql,
    )
    totals: dict[str, Score] = {}
    groups: dict[str, dict[str, Score]] = {}
    for row in ask(sql, {**rows.values, "threshold": threshold}).iter_rows(named=True):
        score = Score(pass_rate=row["pass_rate"], avg=json_number(row["avg"]), count=row["count"])
        if row["is_group"]:
            groups.setdefault(row["metric"], {})[row["place"]] = score
        else:
            totals[row["metric"]] = score
    return MetricBreakdown(
        metrics=[
            MetricScore(name=name, by_group=groups[name] if group_by else None, **score.model_dump())
            for name, score in totals.items()
        ]
    )
