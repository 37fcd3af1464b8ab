"""The picture of a dataset's scores: averages by day, and pass rates, of the metrics with the most of them.

Belongs here: the question, the drawing. Does not: the exact figures of the whole dataset (`sync.metadata`).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from analytics_pipeline.errors import ExtraMissing, NothingToShow
from analytics_pipeline.store import Column, Store
from analytics_pipeline.store.moments import day, why_no_moments
from analytics_pipeline.store.schema import identifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DAYS = 60
METRICS = 6
PASSING = 0.5
"""As for the pass rate of `summary_stats`."""

_TIME, _NEEDED = "timestamp", ("metric_name", "metric_score")
_WHAT = "a picture of the scores"
_INCHES, _DOTS_PER_INCH = (9.0, 2.8), 80
_MOST_LETTERS = 28

_POINTS = """
WITH scored AS (
    SELECT {day} AS day, metric_name::VARCHAR AS metric, TRY_CAST(metric_score AS DOUBLE) AS score FROM {view}
    WHERE metric_name IS NOT NULL AND isfinite(TRY_CAST(metric_score AS DOUBLE)) {visible}
)
SELECT day, metric, avg(score) AS average, count(*) AS rows, count(*) FILTER (score >= {passing}) AS passed
FROM scored WHERE day > (SELECT max(day) FROM scored) - {days} GROUP BY ALL ORDER BY ALL
"""


def daily_scores(
    store: Store, view: str, visible_metrics: Sequence[str] | None = None, *, epoch: str | None = None
) -> pl.DataFrame:
    """Scores by day and metric: columns day, metric, average, rows, passed.

    Args:
        store: to ask.
        view: a published table or view.
        visible_metrics: only these; None for all.
        epoch: unit of `timestamp`, `s`, `ms` or `us`, where that is an integer that counts from 1970.

    Returns:
        The last `DAYS` days of the `METRICS` metrics with the most scores; at least one row.

    Raises:
        NothingToShow: names the column that is missing or has the wrong type, or says that no row can be drawn.
        StoreError: the store could not be asked.
    """
    columns = _columns(store, view)
    if missing := [f"`{name}`" for name in _NEEDED if name not in columns]:
        raise NothingToShow(_WHAT, f"{view} has no column {' and '.join(missing)}")
    time = columns.get(_TIME)
    if reason := why_no_moments(_TIME, time, epoch):
        raise NothingToShow(_WHAT, reason)
    named = ", ".join("?" for _ in visible_metrics or ())
    visible = f"AND metric_name IN ({named})" if named else ""
    question = _POINTS.format(day=day(time, epoch), view=identifier(view), visible=visible, passing=PASSING, days=DAYS)
    points = store.query(question, visible_metrics)
    if points.is_empty():
        raise NothingToShow(_WHAT, "no row has a metric's name, a finite score and a time in the years 1 to 9999")
    largest = points.group_by("metric").agg(pl.col("rows").sum()).sort("rows", "metric", descending=[True, False])
    return points.filter(pl.col("metric").is_in(largest["metric"].head(METRICS).to_list()))


def _columns(store: Store, view: str) -> Mapping[str, Column]:
    found = store.query("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [view])
    return {name: Column(name, type_) for name, type_ in found.iter_rows()}


def draw_scores(points: pl.DataFrame) -> bytes:
    """A PNG of some kilobytes: a line of averages for each metric, and a bar of its pass rate.

    Args:
        points: as `daily_scores` gives them.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise ExtraMissing("A picture of the scores", "plots") from None
    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    lines, bars = figure.subplots(1, 2, width_ratios=[2, 1])
    metrics = sorted(points["metric"].unique())
    _draw_averages(lines, points, metrics)
    _draw_pass_rates(bars, points, metrics)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of glyphs that the font has not: they are drawn as boxes
        figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_averages(axes: Axes, points: pl.DataFrame, metrics: Sequence[str]) -> None:
    for metric in metrics:
        own = points.filter(pl.col("metric") == metric).sort("day")
        axes.plot(own["day"].to_list(), own["average"].to_list(), marker=".", linewidth=1.2)
    axes.set_title("Average score by day", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="x", rotation=20)
    axes.grid(alpha=0.3)


def _draw_pass_rates(axes: Axes, points: pl.DataFrame, metrics: Sequence[str]) -> None:
    sums = {metric: (rows, passed) for metric, rows, passed in _sums(points).rows()}
    rates = [100 * sums[metric][1] / sums[metric][0] for metric in metrics]
    places = range(len(metrics))
    axes.barh(places, rates, color=[f"C{place}" for place in places])  # the colours of the lines
    axes.set_yticks(places, [_shortened(metric) for metric in metrics], fontsize=7, parse_math=False)
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    axes.set_title("Pass rate, %", fontsize=9)
    axes.tick_params(axis="x", labelsize=7)


def _sums(points: pl.DataFrame) -> pl.DataFrame:
    return points.group_by("metric").agg(pl.col("rows").sum(), pl.col("passed").sum())


def _shortened(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
