"""Rows: the joined human-signals rows as everything else here reads them.

Belongs here: the names of columns, which of them a frame must have, which row is whose case's first.
Does not: what is inside the columns (`signals`, `heads`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from analytics_pipeline.errors import CaseColumnsMissing
from analytics_pipeline.human_signals.parsing import texts_of

KEY, METRIC, CATEGORY, SIGNALS, TIMESTAMP = "dataset_id", "metric_name", "metric_category", "signals", "timestamp"
REQUIRED = (KEY, METRIC, SIGNALS)
SOURCE_FIELDS = ("source_name", "source_component", "source_type", "environment")
CONVERSATION, STATISTICS = "conversation", "conversation_stats"
INPUT = "additional_input"
JSON_FIELDS = ("evaluation_metadata", "actual_reference", "additional_output", INPUT)
HEAD_COLUMNS = (*SOURCE_FIELDS, CONVERSATION, STATISTICS, TIMESTAMP, *JSON_FIELDS)
"""Columns of which a case takes the value in its first row."""

NO_CATEGORY = "classification"


@dataclass(frozen=True)
class CaseRows:
    """Joined rows, told apart by case.

    Args:
        rows: `row` (their order), `case` (a number), `metric` (null where blank), `category`, `signals`.
        first: of each case its first row, in the order of `case`: the key and the `HEAD_COLUMNS` that there are.
        columns: of the frame.
    """

    rows: pl.DataFrame
    first: pl.DataFrame
    columns: Collection[str]

    @property
    def blank(self) -> int:
        """Rows without the name of a metric."""
        return self.rows["metric"].null_count()


def case_rows(frame: pl.DataFrame) -> CaseRows:
    """A frame's rows by case; rows without a `dataset_id` belong to none and are left out.

    Raises:
        CaseColumnsMissing: there are rows, but not the columns that cases are made of.
    """
    refuse_missing("The frame", frame.columns if frame.height else REQUIRED)
    for name in REQUIRED:
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.String).alias(name))
    frame = frame.filter(pl.col(KEY).is_not_null())
    heads = [name for name in HEAD_COLUMNS if name in frame.columns]
    first = frame.select(KEY, *heads).unique(KEY, keep="first", maintain_order=True)
    cases = first.select(KEY).with_row_index("case")
    category = frame[CATEGORY] if CATEGORY in frame.columns else pl.Series([None] * frame.height, dtype=pl.String)
    rows = pl.DataFrame(
        {
            "case": frame.select(KEY).join(cases, on=KEY, how="left", maintain_order="left")["case"],
            "metric": texts_of(frame[METRIC]),
            "category": texts_of(category),
            "signals": texts_of(frame[SIGNALS]),
        }
    ).with_row_index("row")
    return CaseRows(rows.with_columns(_named("metric"), _category()), first, frame.columns)


def refuse_missing(where: str, columns: Collection[str]) -> None:
    """Refuse columns without those that cases are made of.

    Raises:
        CaseColumnsMissing: names them.
    """
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise CaseColumnsMissing(where, missing, columns)


def _named(column: str) -> pl.Expr:
    return pl.when(pl.col(column).str.contains(r"[^\t\n\f\r ]")).then(pl.col(column)).alias(column)


def _category() -> pl.Expr:
    return _named("category").fill_null(NO_CATEGORY).str.to_lowercase()
