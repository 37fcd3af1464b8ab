"""Key figures, trends and metrics side by side equal what Polars computes from the rows that were published."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.analytics import FILTERED, GROUPS, ROOT, close, or_zero, quantile
from analytics_pipeline_tests.api.conftest import Api, Serve
from analytics_pipeline_tests.store.scenario import schema_of


@FILTERED
def test_summary_counts_the_rows_with_a_score(
    api: Api, frame: pl.DataFrame, asked: dict[str, str], rule: pl.Expr
) -> None:
    rows = frame.filter(rule & pl.col("metric_score").is_not_null())

    kpis = api.json(f"{ROOT}/summary", **asked)["kpis"]

    passed = rows.filter(pl.col("metric_score") >= 0.5).height
    assert kpis == {
        "total_records": rows.height,
        "avg_score": or_zero(rows["metric_score"].mean()),  # type: ignore[arg-type]
        "pass_rate": or_zero(100 * passed / rows.height if rows.height else None),
        "p50_latency": or_zero(quantile(rows["latency"], 0.5)),
        "p95_latency": or_zero(quantile(rows["latency"], 0.95)),
        "p99_latency": or_zero(quantile(rows["latency"], 0.99)),
    }


def test_an_unfiltered_summary_comes_from_the_metadata_of_the_commit(serve: Serve, store: Store) -> None:
    """It would cost a whole scan for each look at the dashboard."""
    dataset = scenario.records(20)
    manifest = scenario.publish(store, scenario.spec_of(), dataset, scenario.results(dataset))
    for file in manifest.live_files:
        (store.root / file.path).unlink()

    api = serve(store.root)

    stored: Any = manifest.metadata["monitoring_data"].value["summary_stats"]
    assert api.json(f"{ROOT}/summary")["kpis"]["total_records"] == stored["total_records"] > 0
    assert api.get(f"{ROOT}/summary", environment="staging").status_code == 503


@pytest.mark.parametrize(("granularity", "every"), [("hourly", "1h"), ("daily", "1d"), ("weekly", "1w")])
@FILTERED
def test_trends_are_each_metric_in_each_step(
    api: Api, frame: pl.DataFrame, asked: dict[str, str], rule: pl.Expr, granularity: str, every: str
) -> None:
    rows = frame.filter(rule & pl.col("metric_score").is_not_null() & pl.col("timestamp").is_not_null())
    score = pl.col("metric_score")
    expected = (
        rows.group_by(pl.col("timestamp").dt.truncate(every), "metric_name")
        .agg(
            score.mean().alias("avg"),
            *(score.quantile(share / 100, "linear").alias(f"p{share}") for share in (50, 95, 99)),
            pl.len().alias("count"),
        )
        .sort("timestamp", "metric_name")
    )

    answer = api.json(f"{ROOT}/trends", granularity=granularity, **asked)

    assert answer["granularity"] == granularity
    assert answer["metrics"] == sorted(set(rows["metric_name"]))
    assert answer["data"] == [
        {
            "timestamp": f"{row['timestamp']:%Y-%m-%d %H:%M:%S}",
            "metric": row["metric_name"],
            **{name: close(row[name]) for name in ("avg", "p50", "p95", "p99")},
            "count": row["count"],
        }
        for row in expected.to_dicts()
    ]


def score_of(rows: pl.DataFrame, threshold: float) -> dict[str, Any]:
    passed = rows.filter(pl.col("metric_score") >= threshold).height
    average: Any = rows["metric_score"].mean()
    return {"pass_rate": close(100 * passed / rows.height), "avg": close(average), "count": rows.height}


@pytest.mark.parametrize("group_by", [None, *GROUPS])
@pytest.mark.parametrize("threshold", [0.5, 0.9, -1])
def test_metrics_stand_side_by_side_and_in_groups(
    api: Api, frame: pl.DataFrame, group_by: str | None, threshold: float
) -> None:
    rows = frame.filter(pl.col("metric_score").is_not_null())

    asked = {"group_by": group_by} if group_by else {}
    answer = api.json(f"{ROOT}/metric-breakdown", threshold=threshold, environment="staging", **asked)

    expected = []
    for (name,), members in rows.filter(pl.col("environment") == "staging").group_by(["metric_name"]):
        groups = members.with_columns(pl.col(group_by or "metric_name").fill_null("unknown").alias("place"))
        by_group = {str(place): score_of(part, threshold) for (place,), part in groups.group_by(["place"])}
        expected.append({"name": name, **score_of(members, threshold), "by_group": by_group if group_by else None})
    assert answer["metrics"] == sorted(expected, key=lambda metric: metric["name"])
    for metric in answer["metrics"]:
        assert list(metric["by_group"] or {}) == sorted(metric["by_group"] or {}), "groups in a fixed order"


TIMES = [1_767_571_200, 1_767_571_260, 1_767_657_600, None]
"""Seconds: twice on 2026-01-05, once on the day after, once never."""


def timed(type_: pa.DataType, epoch: str | None, times: list[Any], store: Store, serve: Serve) -> Api:
    """The API over results whose `timestamp` has some type."""
    spec = scenario.spec_of(epoch=epoch)
    records = schema_of(dataset_id=pa.string())
    measured = schema_of(dataset_id=pa.string(), timestamp=type_, metric_name=pa.string(), metric_score=pa.float64())
    rows = [{"dataset_id": "a", "timestamp": time, "metric_name": "tone", "metric_score": 0.5} for time in times]
    extra = {"monitoring_results": {"incremental_column": "timestamp"}}
    scenario.publish(store, spec, [{"dataset_id": "a"}], rows, schemas=(records, measured), extra=extra)
    return serve(store.root, spec)


@pytest.mark.parametrize(("epoch", "ticks"), [("s", 1), ("ms", 1000), ("us", 1_000_000)])
def test_an_integer_timestamp_is_read_by_the_epoch_of_its_dataset(
    serve: Serve, store: Store, epoch: str, ticks: int
) -> None:
    """Otherwise its trends are empty, and every filter by time lets nothing through."""
    api = timed(pa.int64(), epoch, [time and time * ticks for time in TIMES], store, serve)

    trends = api.json(f"{ROOT}/trends")
    assert [(point["timestamp"], point["count"]) for point in trends["data"]] == [
        ("2026-01-05 00:00:00", 2),
        ("2026-01-06 00:00:00", 1),
    ]
    assert trends["note"] is None
    for start, end, count in [
        ("2026-01-05T00:00:00", "2026-01-05T00:01:00", 2),
        ("2026-01-05T00:00:00.5", "2026-01-05T00:00:59.5", 0),
        ("2026-01-05T00:01:00", "2026-01-06", 2),
    ]:
        kpis = api.json(f"{ROOT}/summary", time_start=start, time_end=end)["kpis"]
        assert kpis["total_records"] == count


@pytest.mark.parametrize(
    ("type_", "times", "reason"),
    [
        (pa.string(), ["2026-01-05 10:00:00"], "`timestamp` is VARCHAR, which is not a date or a timestamp"),
        (pa.int64(), [1_767_571_200], "`timestamp` is BIGINT, and no `epoch` gives its unit"),
        (pa.time64("us"), [None], "`timestamp` is TIME, which is not a date or a timestamp"),
    ],
)
@pytest.mark.parametrize("route", ["trends", "classification-trends?metric_name=tone"])
def test_trends_say_why_there_are_none(
    serve: Serve, store: Store, type_: pa.DataType, times: list[Any], reason: str, route: str
) -> None:
    """An empty chart without a reason looks like a broken sync."""
    answer = timed(type_, None, times, store, serve).json(f"{ROOT}/{route}")
    assert answer["data"] == []
    assert reason in answer["note"]
