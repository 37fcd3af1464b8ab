"""Key figures, trends and metrics side by side equal what Polars computes from the rows that were published."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.analytics import FILTERED, GROUPS, ROOT, close, or_zero, quantile
from analytics_pipeline_tests.api.conftest import Api, Serve


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
