"""Shapes: what each answer looks like. A NULL, NaN or infinity is `null`.

Belongs here: the models of answers. Does not: how they are filled (`questions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

JsonRow: TypeAlias = Mapping[str, Any]
"""A row of a table by its columns, which only the store knows."""


class Answer(BaseModel):
    """What every answer but a failure says."""

    success: Literal[True] = True


class Failure(BaseModel):
    """What went wrong, in one sentence."""

    success: Literal[False] = False
    detail: str


class Kpis(BaseModel):
    """Key figures of the rows with a score; zeros where there are none."""

    total_records: int
    avg_score: float
    pass_rate: float
    p50_latency: float
    p95_latency: float
    p99_latency: float


class Summary(Answer):
    """Key figures."""

    kpis: Kpis


class TrendPoint(BaseModel):
    """One metric in one step of time."""

    timestamp: str
    metric: str
    avg: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    count: int


class Trends(Answer):
    """Metrics over time. `note` says why there can be none, and is null where there can."""

    data: Sequence[TrendPoint]
    metrics: Sequence[str]
    granularity: str
    note: str | None = None


class Score(BaseModel):
    """How a metric does. `pass_rate` is in percent."""

    pass_rate: float | None
    avg: float | None
    count: int


class MetricScore(BaseModel):
    """How a metric does, and in each group."""

    name: str
    pass_rate: float | None
    avg: float | None
    count: int
    by_group: Mapping[str, Score] | None


class MetricBreakdown(Answer):
    """Metrics side by side."""

    metrics: Sequence[MetricScore]


class Percentiles(BaseModel):
    """Of latencies; zeros where there are none."""

    p50: float
    p95: float
    p99: float


class Histogram(BaseModel):
    """Counts between edges, of which there is one more."""

    counts: Sequence[int]
    edges: Sequence[float]


class GroupLatency(BaseModel):
    """The latencies of one group, counted between the edges of all."""

    counts: Sequence[int]
    percentiles: Percentiles
    count: int


class LatencyDistribution(Answer):
    """The histogram of latencies."""

    histogram: Histogram
    percentiles: Percentiles
    by_group: Mapping[str, GroupLatency] | None


class Statistics(BaseModel):
    """Of some numbers."""

    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    median: float | None
    count: int


class GroupValues(BaseModel):
    """The numbers of one group in order; evenly chosen ones where there are very many."""

    group: str
    values: Sequence[float]
    stats: Statistics


class ClassDistribution(Answer):
    """One column's values in groups."""

    data: Sequence[GroupValues]
    metric: str
    group_by: str | None


class Correlation(Answer):
    """Pearson's coefficients; 0 where there is none."""

    matrix: Sequence[Sequence[float]]
    metrics: Sequence[str]


class Category(BaseModel):
    """How often a classification came to a value."""

    value: str
    count: int
    percentage: float


class Classification(BaseModel):
    """The categories of one metric, the most frequent first."""

    metric_name: str
    categories: Sequence[Category]
    total_count: int


class ClassificationBreakdown(Answer):
    """Categories of classifications."""

    metrics: Sequence[Classification]


class CategoryPoint(BaseModel):
    """Categories in one step of time."""

    timestamp: str
    categories: Mapping[str, int]


class ClassificationTrends(Answer):
    """One classification over time. `note` as in `Trends`."""

    data: Sequence[CategoryPoint]
    metric_name: str
    granularity: str
    unique_categories: Sequence[str]
    note: str | None = None


class SourceInfo(BaseModel):
    """Where a record came from."""

    environment: str | None
    source_name: str | None
    source_component: str | None


class Insight(BaseModel):
    """One analysis of one record."""

    dataset_id: str | None
    timestamp: str | None
    metric_name: str | None
    query: str | None
    actual_output: str | None
    signals: JsonRow
    explanation: str | None
    source_info: SourceInfo


class Insights(Answer):
    """Analyses, page by page."""

    records: Sequence[Insight]
    total_count: int
    page: int
    limit: int
    metric_names: Sequence[str]


class DatasetState(BaseModel):
    """The status of a table."""

    state: str
    rows: int
    last_sync: str | None
    error: str | None
    truncated: bool
    sync_type: str | None
    last_incremental: str | None
    incremental_rows: int


class MirroredState(DatasetState):
    """The status of a dataset that is mirrored from a source."""

    refresh_interval_minutes: int
    incremental_column: str | None
    watermarks: Mapping[str, str | None]


class Status(Answer):
    """The status of every dataset."""

    enabled: bool
    datasets: Mapping[str, MirroredState | DatasetState]


class ColumnName(BaseModel):
    """A column as SQL sees it."""

    column_name: str
    column_type: str


class TimeRange(BaseModel):
    """First and last moment."""

    min: str
    max: str


class TableMetadata(BaseModel):
    """What is known of a table without reading it."""

    row_count: int
    columns: Sequence[ColumnName]
    filter_values: Mapping[str, Sequence[bool | int | float | str]]
    time_range: TimeRange | None
    summary_stats: Mapping[str, float | int | None] | None


class Metadata(Answer):
    """What is known of a table."""

    dataset: str
    metadata: TableMetadata


class Page(Answer):
    """Rows of a table."""

    data: Sequence[JsonRow]
    total: int
    page: int
    page_size: int


class Cases(Answer):
    """Human-signal cases."""

    format: Literal["hitl_feedback"] = "hitl_feedback"
    row_count: int
    columns: Sequence[str]
    data: Sequence[JsonRow]
    page: int
    page_size: int
    message: str
    source: Literal["duckdb"] = "duckdb"


class MetricSchema(Answer):
    """The metrics of human-signal cases and their signals."""

    model_config = ConfigDict(serialize_by_alias=True)

    metric_schema: JsonRow = Field(alias="schema")


class SyncStarted(Answer):
    """Runs that were started; `run_id` where it is one."""

    message: str
    run_id: str | None
    runs: Mapping[str, str]


class Message(Answer):
    """What was done."""

    message: str


class Health(BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """That the store can be read, and its version; 0 where nothing was published yet."""

    status: Literal["ready"] = "ready"
    version: int
