"""Cases: one row a `dataset_id`, with a column for each signal.

Belongs here: putting signals into their columns. Does not: which columns these are (`layout`), the columns that every
case has (`heads`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from analytics_pipeline.human_signals.heads import heads_of
from analytics_pipeline.human_signals.layout import Layout, SignalColumn, layout_of
from analytics_pipeline.human_signals.rows import case_rows
from analytics_pipeline.human_signals.schema import profile_of_frame
from analytics_pipeline.human_signals.signals import signals_of

_TYPES = {"BIGINT": pl.Int64, "DOUBLE": pl.Float64}


def aggregate_cases(frame: pl.DataFrame) -> pl.DataFrame:
    """One row for each `dataset_id` of joined human-signals rows, in the order of their first rows.

    Args:
        frame: one row per case and metric; its order is the rows' order.

    Raises:
        CaseColumnsMissing: the frame has no `dataset_id`, `metric_name` or `signals`.
    """
    rows = case_rows(frame)
    signals, heads = signals_of(rows), heads_of(rows.first)
    return cases_of(heads, signals, layout_of(profile_of_frame(signals), heads.columns))


def cases_of(heads: pl.DataFrame, signals: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Cases with their signals.

    Args:
        heads: the columns that every case has; their row is the number of the case.
        signals: of these cases, with the number of their `case`; those of a later `row` win.
        layout: the columns that signals go to.
    """
    values = pl.concat([signals["value"], pl.Series([None], dtype=pl.String)])  # the last one for what is not there
    places = _places(heads.height, signals, layout)
    columns = [
        _typed(values.gather(places[:, number]), column).alias(column.name)
        for number, column in enumerate(layout.columns)
    ]
    return heads.hstack(columns)


def _places(cases: int, signals: pl.DataFrame, layout: Layout) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """For each case and column the row of `signals` that fills it: of a signal the last, of common metadata the first.

    Numpy writes repeated places in order, so that the last one stays.
    """
    columns = pl.DataFrame(
        [(number, column.metric, column.signal) for number, column in enumerate(layout.columns)],
        schema={"column": pl.UInt32, "metric": pl.String, "signal": pl.String},
        orient="row",
    )
    places = np.full((cases, len(layout.columns)), signals.height, dtype=np.uint32, order="F")
    found = signals.select("case", "row", "metric", "signal", filled=pl.col("value").is_not_null()).with_row_index("at")
    own = found.join(columns.drop_nulls(), on=["metric", "signal"])
    shared = found.filter("filled").join(columns.filter(pl.col("metric").is_null()), on="signal")
    for part in (_by_row(own), _by_row(shared).reverse()):
        places[part["case"].to_numpy(), part["column"].to_numpy()] = part["at"].to_numpy()
    return places


def _by_row(found: pl.DataFrame) -> pl.DataFrame:
    """In the order of rows; where several rows of a case are equal in it, any order gives the same."""
    found = found.select("row", "case", "column", "at")
    return found if found["row"].is_sorted() else found.sort("row")


def _typed(values: pl.Series, column: SignalColumn) -> pl.Series:
    if column.type == "BOOLEAN":
        return values == "true"
    return values.cast(_TYPES.get(column.type, pl.String))
