"""Categories: what classifications came to, at all and over time.

Belongs here: metrics of the category CLASSIFICATION. Does not: scores (`scores`).
"""

from __future__ import annotations

from itertools import groupby

from analytics_pipeline.api.parameters import Granularity
from analytics_pipeline.api.questions.grouping import group_sql
from analytics_pipeline.api.shapes import (
    Category,
    CategoryPoint,
    Classification,
    ClassificationBreakdown,
    ClassificationTrends,
)
from analytics_pipeline.api.table import TIME, Ask, Columns, Rows

MOST_CATEGORIES = 200
"""Of a metric; the most frequent ones are listed."""

_FALLBACKS = ("actual_output", "metric_score")
_BREAKDOWN = """
SELECT metric, category, count(*) AS count, sum(count(*)) OVER (PARTITION BY metric)::BIGINT AS total
FROM (SELECT {metric} AS metric, {category} AS category FROM {rows})
WHERE category IS NOT NULL
GROUP BY metric, category
QUALIFY row_number() OVER (PARTITION BY metric ORDER BY count(*) DESC, category) <= {most}
ORDER BY metric, count DESC, category
"""
_TRENDS = """
WITH found AS MATERIALIZED (
    SELECT date_trunc('{unit}', moment) AS step, category, count(*) AS count
    FROM (SELECT {moment} AS moment, {category} AS category FROM {rows})
    WHERE moment IS NOT NULL AND category IS NOT NULL
    GROUP BY ALL
), listed AS (
    SELECT category FROM found GROUP BY category ORDER BY sum(count) DESC, category LIMIT {most}
)
SELECT strftime(step, '%Y-%m-%d %H:%M:%S') AS timestamp, category, count
FROM found SEMI JOIN listed USING (category)
ORDER BY step, category
"""


def classification_breakdown(ask: Ask, rows: Rows, category_source: str) -> ClassificationBreakdown:
    """How often each classification came to each of its values."""
    columns = rows.columns
    sql = _BREAKDOWN.format(
        metric=group_sql(columns, "metric_name"),
        category=_category(columns, category_source),
        rows=rows.sql,
        most=MOST_CATEGORIES,
    )
    found = ask(sql, rows.values).to_dicts()
    metrics = [
        Classification(
            metric_name=name,
            categories=[
                Category(
                    value=row["category"],
                    count=row["count"],
                    percentage=round(100 * row["count"] / row["total"], 1),
                )
                for row in (first, *others)
            ],
            total_count=first["total"],
        )
        for name, (first, *others) in groupby(found, key=lambda row: row["metric"])
    ]
    return ClassificationBreakdown(metrics=metrics)


def classification_trends(
    ask: Ask, rows: Rows, metric_name: str, granularity: Granularity, category_source: str
) -> ClassificationTrends:
    """How often one classification came to each of its values in each step of time; the rows are of it alone."""
    columns = rows.columns
    sql = _TRENDS.format(
        unit=granularity.unit,
        moment=columns.moment(TIME),
        category=_category(columns, category_source),
        rows=rows.sql,
        most=MOST_CATEGORIES,
    )
    found = ask(sql, rows.values).to_dicts()
    return ClassificationTrends(
        data=[
            CategoryPoint(timestamp=step, categories={row["category"]: row["count"] for row in members})
            for step, members in groupby(found, key=lambda row: row["timestamp"])
        ],
        metric_name=metric_name,
        granularity=granularity.value,
        unique_categories=sorted({row["category"] for row in found}),
        note=columns.why_no_moments(TIME),
    )


def _category(columns: Columns, wanted: str) -> str:
    name = next((name for name in (wanted, *_FALLBACKS) if columns.find(name)), wanted)
    return columns.text(name)
