"""Correlation: how metrics move together, from columns of a row or from several results of one record.

Belongs here: Pearson's coefficient of each pair. Does not: which rows (`parameters`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
import polars as pl

from analytics_pipeline.api.questions.pearson import coefficients
from analytics_pipeline.api.shapes import Correlation
from analytics_pipeline.api.table import Ask, Rows, finite, is_number
from analytics_pipeline.errors import MetricUnknown, TooManyMetrics
from analytics_pipeline.store import Column

MOST_METRICS = 30
_KEY = "dataset_id"


def correlation(ask: Ask, rows: Rows, metrics: Sequence[str], known_in: Rows | None = None) -> Correlation:
    """The coefficients of all pairs, over what both metrics have; 0 where they are not defined.

    Args:
        ask: for the rows.
        rows: to look at.
        metrics: columns of numbers, or names of metrics: then a record's results make one row.
        known_in: rows in which each metric must be; None where they are known to be metrics.

    Raises:
        TooManyMetrics: more than one query should compute.
        MetricUnknown: a name is neither a column of numbers nor a metric.
    """
    names = list(dict.fromkeys(metrics))
    if len(names) > MOST_METRICS:
        raise TooManyMetrics(len(names), MOST_METRICS)
    if len(names) < 2:  # noqa: PLR2004 - a pair
        return Correlation(matrix=[], metrics=[])
    columns = {name: column for name in names if (column := rows.columns.find(name)) and is_number(column)}
    measured = [name for name in names if name not in columns]
    if not measured:
        return _of_rows(ask, rows, [finite(column) for column in columns.values()], names)
    if known_in is not None and (missing := _missing(ask, known_in, measured)):
        raise MetricUnknown(missing)
    return _of_records(ask, rows, columns, names)


def _of_rows(ask: Ask, rows: Rows, columns: Sequence[str], names: Sequence[str]) -> Correlation:
    """Of columns: DuckDB reads them once, and keeps nothing."""
    pairs = list(combinations_with_replacement(range(len(names)), 2))
    # Squares of greater numbers would be infinite.
    pair = "corr(m{a}, m{b}) FILTER (abs(m{a}) < 1e150 AND abs(m{b}) < 1e150)"
    source = ", ".join(f"{column} AS m{number}" for number, column in enumerate(columns))
    selected = ", ".join(pair.format(a=a, b=b) + f" AS c{a}_{b}" for a, b in pairs)
    row = ask(f"SELECT {selected} FROM (SELECT {source} FROM {rows.sql})", rows.values).row(0, named=True)
    found = {(a, b): _coefficient(row[f"c{a}_{b}"]) for a, b in pairs}
    size = range(len(names))
    return Correlation(matrix=[[found[min(a, b), max(a, b)] for b in size] for a in size], metrics=list(names))


def _of_records(ask: Ask, rows: Rows, columns: Mapping[str, Column], names: Sequence[str]) -> Correlation:
    """Of metrics: each record's results make one row, and all pairs are computed from these rows at once."""
    score, metric = rows.columns.number("metric_score"), rows.columns.text("metric_name")
    values = dict(rows.values)
    averages = []
    for number, name in enumerate(names):
        if name in columns:
            averages.append(f"avg({finite(columns[name])}) AS m{number}")
        else:
            values[f"m{number}"] = name
            averages.append(f"avg({score}) FILTER ({metric} = $m{number}) AS m{number}")
    source = f"SELECT {', '.join(averages)} FROM {rows.sql} GROUP BY {rows.columns.text(_KEY)}"
    limited = ", ".join(f"CASE WHEN abs(m{number}) < 1e150 THEN m{number} END" for number in range(len(names)))
    records = ask(f"SELECT {limited} FROM ({source})", values)
    matrix = np.column_stack([column.to_numpy() for column in records.cast(pl.Float64).fill_null(math.nan)])
    return Correlation(matrix=coefficients(matrix).tolist(), metrics=list(names))


def _missing(ask: Ask, rows: Rows, names: Sequence[str]) -> list[str]:
    """The names that no result has."""
    metric, values = rows.columns.text("metric_name"), dict(rows.values)
    values |= {f"m{number}": name for number, name in enumerate(names)}
    among = ", ".join(f"$m{number}" for number in range(len(names)))
    found = ask(f"SELECT DISTINCT {metric} AS name FROM {rows.where(f'{metric} IN ({among})').sql}", values)
    return [name for name in names if name not in set(found["name"])]


def _coefficient(value: float | None) -> float:
    return max(-1.0, min(1.0, value)) if value is not None and math.isfinite(value) else 0.0
