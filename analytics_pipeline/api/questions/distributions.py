"""Distributions: the histogram of latencies, and one column's values in groups.

Belongs here: how numbers spread. Does not: the metrics' averages (`scores`), their correlation (`correlation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analytics_pipeline.api.questions.grouping import group_sql, json_number, zero_if_none
from analytics_pipeline.api.shapes import (
    ClassDistribution,
    GroupLatency,
    GroupValues,
    Histogram,
    LatencyDistribution,
    Percentiles,
    Statistics,
)
from analytics_pipeline.api.table import Ask, Rows, is_number
from analytics_pipeline.errors import MetricColumnMissing

MOST_VALUES = 2000
"""Values that are listed of a group; of more, evenly chosen ones in their order."""

EVERYTHING = "all"
"""The one group of what is not grouped."""

# Halved, because the distance of two finite numbers may be infinite.
_LATENCY = """
WITH found AS MATERIALIZED (
    SELECT * FROM (SELECT {latency} AS v, {place} AS place FROM {rows}) WHERE v IS NOT NULL
), limits AS (
    SELECT min(v) AS low, CASE WHEN max(v) > min(v) THEN max(v) ELSE min(v) + 1 END AS high FROM found
), binned AS (
    SELECT *, least(floor(CASE WHEN high / 2 > low / 2 THEN (v / 2 - low / 2) / (high / 2 - low / 2) ELSE 0 END
                          * $bins), $bins - 1)::INTEGER AS bin
    FROM found, limits
)
SELECT place, grouping(place) = 0 AS is_group, any_value(low) AS low, any_value(high) AS high, count(*) AS count,
       quantile_cont(v, [0.5, 0.95, 0.99]) AS quantiles, map_keys(histogram(bin)) AS bins,
       map_values(histogram(bin)) AS counts
FROM binned
GROUP BY GROUPING SETS ((), (place))
ORDER BY is_group, place
"""
_CLASSES = """
SELECT place, avg(v) AS mean, stddev_samp(v) FILTER (abs(v) < 1e150) AS std, min(v) AS min, max(v) AS max,
       quantile_cont(v, 0.5) AS median, count(*) AS count, list(v) AS found
FROM (SELECT {value} AS v, {place} AS place FROM {rows})
WHERE v IS NOT NULL
GROUP BY place
ORDER BY place
"""


def latency_distribution(ask: Ask, rows: Rows, bins: int, group_by: str | None) -> LatencyDistribution:
    """The latencies between the least and the greatest, counted in equal steps."""
    columns = rows.columns
    sql = _LATENCY.format(
        latency=columns.number("latency"), place=group_sql(columns, group_by) if group_by else "''", rows=rows.sql
    )
    total, *groups = ask(sql, {**rows.values, "bins": bins}).to_dicts()
    low, high = (total["low"], total["high"]) if total["count"] else (0.0, 1.0)
    return LatencyDistribution(
        histogram=Histogram(counts=_counts(total, bins), edges=_edges(low, high, bins)),
        percentiles=_percentiles(total),
        by_group={
            group["place"]: GroupLatency(
                counts=_counts(group, bins), percentiles=_percentiles(group), count=group["count"]
            )
            for group in groups
        }
        if group_by
        else None,
    )


def _edges(low: float, high: float, bins: int) -> Sequence[float]:
    return [low * (1 - step / bins) + high * (step / bins) for step in range(bins)] + [high]


def _counts(row: Mapping[str, Any], bins: int) -> Sequence[int]:
    counts = dict(zip(row["bins"] or (), row["counts"] or (), strict=True))
    return [counts.get(number, 0) for number in range(bins)]


def _percentiles(row: Mapping[str, Any]) -> Percentiles:
    p50, p95, p99 = row["quantiles"] or (0.0, 0.0, 0.0)
    return Percentiles(p50=zero_if_none(p50), p95=zero_if_none(p95), p99=zero_if_none(p99))


def class_distribution(ask: Ask, rows: Rows, metric: str, group_by: str | None) -> ClassDistribution:
    """The values of a column in each group.

    Raises:
        MetricColumnMissing: there is no such column of numbers.
    """
    columns = rows.columns
    column = columns.find(metric)
    if column is None or not is_number(column):
        raise MetricColumnMissing(metric)
    place = group_sql(columns, group_by) if group_by else f"'{EVERYTHING}'"
    found = ask(_CLASSES.format(value=columns.number(metric), place=place, rows=rows.sql), rows.values)
    groups = [_group(row, found["found"][number]) for number, row in enumerate(found.drop("found").to_dicts())]
    return ClassDistribution(data=groups, metric=metric, group_by=group_by)


def _group(row: Mapping[str, Any], values: pl.Series) -> GroupValues:
    names = ("mean", "std", "min", "max", "median")
    statistics = {name: json_number(row[name]) for name in names}
    if max(abs(row["min"]), abs(row["max"])) >= 1e150:  # noqa: PLR2004 - as in the query: squares would be infinite
        statistics["std"] = None
    return GroupValues(
        group=row["place"], values=_evenly_chosen(values.sort()), stats=Statistics(count=row["count"], **statistics)
    )


def _evenly_chosen(values: pl.Series) -> Sequence[float]:
    if len(values) <= MOST_VALUES:
        return values.to_list()
    last = len(values) - 1
    return values.gather([number * last // (MOST_VALUES - 1) for number in range(MOST_VALUES)]).to_list()
