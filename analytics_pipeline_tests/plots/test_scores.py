"""Pictures of scores: which points they are made of, and that they are pictures."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from matplotlib.image import imread

from analytics_pipeline.plots.scores import DAYS, METRICS, daily_scores, draw_scores
from analytics_pipeline.store import Store, create_store
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
    assert daily_scores(store, "facts", ["no such"]).is_empty()


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


def test_a_view_without_scores_has_no_points(store: Store) -> None:
    """Datasets of users need no metric at all."""
    publish(store, {"plain": {"all": facts(1)}})
    assert daily_scores(store, "plain").is_empty()
    assert isinstance(daily_scores(store, "plain"), pl.DataFrame)
