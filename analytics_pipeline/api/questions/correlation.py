"""Correlation: how metrics move together, from columns of a row or from several results of one record.

Belongs here: Pearson's coefficient of each pair. Does not: which rows (`parameters`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

from analytics_pipeline.api.shapes import Correlation
from analytics_pipeline.api.table import Ask, Rows, finite, is_number
from analytics_pipeline.errors import TooManyMetrics
from analytics_pipeline.store import Parameter

MOST_METRICS = 30
_KEY = "dataset_id"


def correlation(ask: Ask, rows: Rows, metrics: Sequence[str]) -> Correlation:
    """The coefficients of all pairs, over what both metrics have; 0 where they are not defined.

    Args:
        ask: for the rows.
        rows: to look at.
        metrics: columns of numbers, or names of metrics: then a record's results make one row.

    Raises:
        TooManyMetrics: more than one query should compute.
    """
    names = list(dict.fromkeys(metrics))
    if len(names) > MOST_METRICS:
        raise TooManyMetrics(len(names), MOST_METRICS)
    if len(names) < 2:  # noqa: PLR2004 - a pair
        return Correlation(matrix=[], metrics=[])
    source, values = _columns_sql(rows, names)
    pairs = list(combinations_with_replacement(range(len(names)), 2))
    # Squares of greater numbers would be infinite.
    pair = "corr(m{a}, m{b}) FILTER (abs(m{a}) < 1e150 AND abs(m{b}) < 1e150)"
    sql = f"SELECT {', '.join(pair.format(a=a, b=b) + f' AS c{a}_{b}' for a, b in pairs)} FROM ({source})"
    row = ask(sql, values).row(0, named=True)
    found = {(a, b): _coefficient(row[f"c{a}_{b}"]) for a, b in pairs}
    size = range(len(names))
    return Correlation(matrix=[[found[min(a, b), max(a, b)] for b in size] for a in size], metrics=names)


def _columns_sql(rows: Rows, names: Sequence[str]) -> tuple[str, Mapping[str, Parameter]]:
    """SQL that gives each metric as a column `m<n>`."""
    found = {name: column for name in names if (column := rows.columns.find(name)) and is_number(column)}
    if len(found) == len(names):
        columns = [f"{finite(found[name])} AS m{number}" for number, name in enumerate(names)]
        return f"SELECT {', '.join(columns)} FROM {rows.sql}", rows.values
    score, metric = rows.columns.number("metric_score"), rows.columns.text("metric_name")
    values = dict(rows.values)
    columns = []
    for number, name in enumerate(names):
        if name in found:
            columns.append(f"avg({finite(found[name])}) AS m{number}")
        else:
            values[f"m{number}"] = name
            columns.append(f"avg({score}) FILTER ({metric} = $m{number}) AS m{number}")
    return f"SELECT {', '.join(columns)} FROM {rows.sql} GROUP BY {rows.columns.text(_KEY)}", values


def _coefficient(value: float | None) -> float:
    return max(-1.0, min(1.0, value)) if value is not None and math.isfinite(value) else 0.0
