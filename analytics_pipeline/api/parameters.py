"""Parameters: what a request may ask for, checked, in one normal form each, and the rows that it means.

Belongs here: query parameters, their limits, filters as conditions on rows.
Does not: which route takes which (`routes`), what is asked of the rows (`questions`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from analytics_pipeline.api.table import Rows

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_SCORE, _CLASSIFICATION, _ANALYSIS = "score", "classification", "analysis"

GROUPS = (
    "environment",
    "source_name",
    "source_component",
    "source_type",
    "metric_name",
    "evaluation_name",
    "model_name",
)
"""By what answers may be grouped."""


class Granularity(StrEnum):
    """The length of a step of a trend."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"

    @property
    def unit(self) -> str:
        """As SQL calls it; weeks begin on Monday."""
        return {"hourly": "hour", "daily": "day", "weekly": "week"}[self.value]


class SortDirection(StrEnum):
    """Which end comes first."""

    ASC = "asc"
    DESC = "desc"


def _end_of_day(value: object) -> object:
    """A day as the end of a range is part of it."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return datetime.combine(date.fromisoformat(value), time.max)
    return value


def _in_utc(value: datetime) -> datetime:
    """Naive, in UTC."""
    try:
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except OverflowError:
        raise ValueError("is outside of the years 1 to 9999 in UTC") from None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("is a finite number")
    return value


Start = Annotated[datetime, AfterValidator(_in_utc)]
End = Annotated[datetime, BeforeValidator(_end_of_day), AfterValidator(_in_utc)]
Threshold = Annotated[float, AfterValidator(_finite)]
GroupBy = Annotated[str | None, Field(json_schema_extra={"enum": [*GROUPS, None]})]
"""Not an enumeration: a wrong one is answered with 400 and the allowed ones."""
MetricName = Annotated[str, Field(description="one metric; without it the dataset's visible metrics")]


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True)


class Filters(_Parameters):
    """The filters that every question takes; which rows a metric's name leaves, each says itself."""

    metric_name: MetricName | None = None
    environment: str | None = None
    source_name: str | None = None
    source_component: str | None = None
    source_type: str | None = None
    time_start: Annotated[Start | None, Field(description="inclusive; UTC where no zone is given")] = None
    time_end: Annotated[End | None, Field(description="inclusive; a day without a time is meant whole")] = None

    def of(self, rows: Rows) -> Rows:
        """The rows that the filters let through. What has no such column is let through by none."""
        for name in ("environment", "source_name", "source_component", "source_type"):
            rows = rows.equal(name, getattr(self, name))
        return rows.since("timestamp", self.time_start, self.time_end)


class MetricFilters(Filters):
    """The filters of questions about metrics."""

    metric_category: Annotated[
        str | None, Field(description="in any case; SCORE means results without a category, too")
    ] = None

    def of(self, rows: Rows) -> Rows:
        """The rows that the filters let through."""
        return in_category(super().of(rows).equal("metric_name", self.metric_name), self.metric_category)

    @property
    def are_none(self) -> bool:
        """Whether nothing is filtered."""
        return all(value is None for value in self.model_dump().values())


def in_category(rows: Rows, category: str | None) -> Rows:
    """The rows of a category of metrics, in any case; all of them where it is None."""
    if category is None:
        return rows
    column = rows.columns.text("metric_category")
    missing = f" OR {column} IS NULL" if category.lower() == _SCORE else ""
    return rows.where_values(lambda value: f"lower({column}) = lower({value}){missing}", category)


def among_visible(rows: Rows, visible: Collection[str] | None) -> Rows:
    """The rows of the metrics that a dataset shows; all of them where it does not say, or has no metrics."""
    if visible is None or rows.columns.find("metric_name") is None:
        return rows
    if not visible:
        return rows.where("false")
    column = rows.columns.text("metric_name")
    return rows.where_values(lambda *values: f"{column} IN ({', '.join(values)})", *visible)


class SummaryParameters(MetricFilters):
    """Of the key figures."""


class TrendParameters(MetricFilters):
    """Of trends."""

    granularity: Granularity = Granularity.DAILY


class BreakdownParameters(MetricFilters):
    """Of metrics side by side."""

    threshold: Threshold = 0.5
    group_by: GroupBy = None


class LatencyParameters(MetricFilters):
    """Of the histogram of latencies."""

    bins: Annotated[int, Field(ge=5, le=100)] = 20
    group_by: GroupBy = None


class ClassParameters(MetricFilters):
    """Of one column's values in groups."""

    metric: Annotated[str, Field(description="a column of numbers")] = "metric_score"
    group_by: GroupBy = None


class CorrelationParameters(MetricFilters):
    """Of the correlation of metrics."""

    metrics: Annotated[
        str | None, Field(description="comma-separated columns or metric names; all visible metrics without it")
    ] = None


class ClassificationParameters(Filters):
    """Of categories of classifications."""

    category_source: Annotated[
        str, Field(description="the column of categories; actual_output, then metric_score where it is not there")
    ] = "explanation"

    def of(self, rows: Rows) -> Rows:
        """The classifications that the filters let through."""
        return in_category(super().of(rows).equal("metric_name", self.metric_name), _CLASSIFICATION)


class ClassificationTrendParameters(ClassificationParameters):
    """Of one classification over time."""

    metric_name: MetricName
    granularity: Granularity = Granularity.DAILY


class InsightParameters(Filters):
    """Of analyses, page by page."""

    page: Annotated[int, Field(ge=1)] = 1
    limit: Annotated[int, Field(ge=1, le=100)] = 20

    def of(self, rows: Rows) -> Rows:
        """The analyses of all metrics that the other filters let through."""
        return in_category(super().of(rows), _ANALYSIS)


class PageParameters(MetricFilters):
    """Of rows, page by page."""

    page: Annotated[int, Field(ge=1)] = 1
    page_size: Annotated[int, Field(ge=1, le=500)] = 50
    sort_by: Annotated[str | None, Field(description="a column; an unknown one is ignored")] = None
    sort_dir: SortDirection = SortDirection.DESC
    columns: Annotated[str | None, Field(description="comma-separated; unknown ones are dropped")] = None
    search: Annotated[str | None, Field(description="a literal text, in any case")] = None


class CaseParameters(_Parameters):
    """Of human-signal cases, page by page."""

    page: Annotated[int, Field(ge=1)] = 1
    page_size: Annotated[int, Field(ge=1, le=500)] = 50
