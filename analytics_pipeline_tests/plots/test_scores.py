"""Pictures of scores: which points they are made of, and that they are pictures."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from matplotlib.image import imread

from analytics_pipeline.errors import NothingToShow
from analytics_pipeline.plots.scores import DAYS, METRICS, daily_scores, draw_scores
from analytics_pipeline.store import Store, create_store
from analytics_pipeline_tests.api.scenario import publish_rows
from analytics_pipeline_tests.store.scenario import facts, publish

_FIELDS: list[pa.Field[Any]] = [
    pa.field("timestamp", pa.timestamp("us", tz="UTC")),
    pa.field("metric_name", pa.string()),
    pa.field("metric_score", pa.float64()),
]
SCORES = pa.schema(_FIELDS)
FIRST = datetime(2026, 1, 1, 12, tzinfo=UTC)
MORE_KILOBYTES_THAN_A_LOG_SHOULD_HOLD = 100


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "store")


def publish_scores(store: Store, rows: list[tuple[datetime | None, str | None, float | None]]) -> None:
    names = SCORES.names
    publish(store, {"facts": {"all": [dict(zip(names, row, strict=True)) for row in rows]}}, schema=SCORES)


def test_points_are_averages_by_day_and_metric(store: Store) -> None:
    """Rows without time, metric or a finite score are no points."""
    second = FIRST + timedelta(days=1)
    publish_scores(
        store,
        [
            (FIRST, "tone", 0.25),
            (FIRST, "tone", 0.75),
            (second, "tone", 1.0),
            (second, "safety", 0.5),
            (second, "safety", float("nan")),
            (None, "tone", 0.5),
            (FIRST, None, 0.5),
            (FIRST, "tone", None),
        ],
    )
    assert daily_scores(store, "facts").rows() == [
        (date(2026, 1, 1), "tone", 0.5, 2, 1),
        (date(2026, 1, 2), "safety", 0.5, 1, 1),
        (date(2026, 1, 2), "tone", 1.0, 1, 1),
    ]
    assert set(daily_scores(store, "facts", ["safety"])["metric"]) == {"safety"}
    with pytest.raises(NothingToShow, match="no row has a metric's name"):
        daily_scores(store, "facts", ["no such"])


def test_a_picture_stays_small_whatever_there_is(store: Store) -> None:
    """It lies in Dagster's event log, once a refresh; names may hold anything."""
    names = [f"metric {number} $x_{{{number}}}$ 指标 " + "long " * 20 for number in range(3 * METRICS)]
    rows = [(FIRST + timedelta(days=day), name, 0.5) for day in range(2 * DAYS) for name in names]
    publish_scores(store, [(day, name, score) for day, name, score in rows])
    points = daily_scores(store, "facts")
    assert points["metric"].n_unique() == METRICS
    assert points["day"].n_unique() == DAYS
    picture = draw_scores(points)
    assert imread(io.BytesIO(picture)).shape[:2] == (224, 720)
    assert len(picture) < 1024 * MORE_KILOBYTES_THAN_A_LOG_SHOULD_HOLD


def test_a_view_without_scores_says_which_columns_it_lacks(store: Store) -> None:
    """Datasets of users need no metric at all."""
    publish(store, {"plain": {"all": facts(1)}})
    with pytest.raises(NothingToShow, match="plain has no column `metric_name` and `metric_score`"):
        daily_scores(store, "plain")


def publish_times(store: Store, type_: pa.DataType, times: list[Any], score: Any = 0.5) -> None:
    columns = {"timestamp": pa.array(times, type_), "metric_name": pa.array(["tone"] * len(times))}
    publish_rows(store, "facts", pa.table({**columns, "metric_score": pa.array([score] * len(times))}))


@pytest.mark.parametrize(
    ("type_", "times", "score", "reason"),
    [
        (pa.string(), ["2026-11-01 10:00:00"], 0.5, "`timestamp` is VARCHAR, which is not a date or a timestamp"),
        (pa.time64("us"), [36_000_000_000], 0.5, "`timestamp` is TIME, which is not a date or a timestamp"),
        (pa.int64(), [1_793_527_200], 0.5, "`timestamp` is BIGINT, and no `epoch` gives its unit"),
        (pa.timestamp("us"), [None], 0.5, "no row has"),
        (pa.timestamp("us"), [2**63 - 1, -(2**63) + 1], 0.5, "no row has"),
        (pa.timestamp("us"), [577_257_408_000_000_000, -63_549_360_000_000_000], 0.5, "no row has"),
        (pa.timestamp("us"), [0], "good", "no row has"),
    ],
    ids=["text", "time of day", "integer", "all NULL", "infinities", "year 20262 and 44 BC", "text scores"],
)
def test_times_that_cannot_be_drawn_are_named(
    store: Store, type_: pa.DataType, times: list[Any], score: Any, reason: str
) -> None:
    """Otherwise the run of a sync fails for its picture, with a sentence about DuckDB's functions."""
    publish_times(store, type_, times, score)
    with pytest.raises(NothingToShow, match=reason):
        daily_scores(store, "facts")


@pytest.mark.parametrize(
    ("type_", "epoch", "ticks"),
    [(pa.int64(), "s", 1), (pa.int32(), "s", 1), (pa.int64(), "ms", 1000), (pa.uint64(), "us", 1_000_000)],
)
def test_integer_times_are_read_by_the_epoch_of_the_dataset(
    store: Store, type_: pa.DataType, epoch: str, ticks: int
) -> None:
    second = 1_793_527_200
    far = [] if pa.types.is_int32(type_) else [2**63 - 1]
    publish_times(store, type_, [second * ticks, None, *far])
    assert daily_scores(store, "facts", epoch=epoch)["day"].to_list() == [date(2026, 11, 1)]
