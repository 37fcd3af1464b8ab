"""Every analytics answer equals what Polars computes from the rows that were published."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.conftest import Api, Serve
from analytics_pipeline_tests.api.scenario import AWKWARD
from analytics_pipeline_tests.store.scenario import schema_of

ROOT = "/api/monitoring/analytics"
GROUPS = (
    "environment",
    "source_name",
    "source_component",
    "source_type",
    "metric_name",
    "evaluation_name",
    "model_name",
)
ROUTES: dict[str, dict[str, Any]] = {
    "summary": {},
    "trends": {},
    "metric-breakdown": {},
    "latency-distribution": {},
    "class-distribution": {},
    "correlation": {},
    "classification-breakdown": {},
    "classification-trends": {"metric_name": "intent"},
    "analysis-insights": {},
}
MOMENT = datetime.fromisoformat("2026-01-07T12:00:00+00:00")

Rule = Callable[[], pl.Expr]


def category_is(name: str) -> pl.Expr:
    return (pl.col("metric_category").str.to_lowercase() == name.lower()).fill_null(value=name.lower() == "score")


FILTERS: list[tuple[dict[str, str], pl.Expr]] = [
    ({}, pl.lit(value=True)),
    ({"environment": "O'Brien"}, pl.col("environment") == "O'Brien"),
    ({"source_name": "Bürgerportal"}, pl.col("source_name") == "Bürgerportal"),
    ({"source_component": "planner"}, pl.col("source_component") == "planner"),
    ({"source_type": "mail"}, pl.col("source_type") == "mail"),
    ({"time_start": "2026-01-07T12:00:00Z"}, pl.col("timestamp") >= MOMENT),
    ({"time_end": "2026-01-07T13:00:00+01:00"}, pl.col("timestamp") <= MOMENT),
    ({"time_start": "2026-01-07", "time_end": "2026-01-07"}, pl.col("timestamp").dt.date() == MOMENT.date()),
    ({"metric_name": AWKWARD}, pl.col("metric_name") == AWKWARD),
    ({"metric_category": "Score"}, category_is("score")),
    ({"metric_category": "analysis"}, category_is("analysis")),
    (
        {"environment": "staging", "metric_name": "relevancy"},
        (pl.col("environment") == "staging") & (pl.col("metric_name") == "relevancy"),
    ),
]
FILTERED = pytest.mark.parametrize(("asked", "rule"), FILTERS, ids=[str(asked) for asked, _ in FILTERS])


@pytest.fixture(scope="session")
def frame() -> pl.DataFrame:
    dataset = scenario.records(300)
    return scenario.joined(dataset, scenario.results(dataset))


def close(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


def or_zero(value: float | None) -> Any:
    return pytest.approx(value or 0.0, rel=1e-9, abs=1e-9)


def quantile(column: pl.Series, share: float) -> float | None:
    return column.drop_nulls().quantile(share, "linear")


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


@pytest.mark.parametrize("bins", [5, 20, 100])
@pytest.mark.parametrize("group_by", [None, "model_name"])
@FILTERED
def test_latencies_fall_into_equal_steps(
    api: Api, frame: pl.DataFrame, asked: dict[str, str], rule: pl.Expr, bins: int, group_by: str | None
) -> None:
    rows = frame.filter(rule & pl.col("latency").is_not_null())
    latencies = rows["latency"].to_numpy()
    edges = np.histogram_bin_edges(latencies, bins) if len(latencies) else np.linspace(0, 1, bins + 1)

    answer = api.json(
        f"{ROOT}/latency-distribution", bins=bins, **asked, **({"group_by": group_by} if group_by else {})
    )

    def percentiles(of: pl.DataFrame) -> dict[str, Any]:
        return {f"p{share}": or_zero(quantile(of["latency"], share / 100)) for share in (50, 95, 99)}

    assert answer["histogram"]["edges"] == pytest.approx(list(edges))
    assert answer["histogram"]["counts"] == list(np.histogram(latencies, edges)[0])
    assert answer["percentiles"] == percentiles(rows)
    if group_by is None:
        assert answer["by_group"] is None
        return
    groups = rows.with_columns(pl.col(group_by).fill_null("unknown")).group_by([group_by])
    assert answer["by_group"] == {
        place: {
            "counts": list(np.histogram(part["latency"].to_numpy(), edges)[0]),
            "percentiles": percentiles(part),
            "count": part.height,
        }
        for (place,), part in groups
    }


@pytest.mark.parametrize(
    ("metric", "column"), [("metric_score", None), ("latency", None), ("COST", "cost"), ("has_errors", None)]
)
@pytest.mark.parametrize("group_by", [None, "environment"])
def test_values_of_a_column_in_groups(
    api: Api, frame: pl.DataFrame, metric: str, column: str | None, group_by: str | None
) -> None:
    rows = frame.with_columns(pl.col(column or metric).cast(pl.Float64).alias("v")).drop_nulls("v")

    asked = {"group_by": group_by} if group_by else {}
    answer = api.json(f"{ROOT}/class-distribution", metric=metric, **asked)

    assert (answer["metric"], answer["group_by"]) == (metric, group_by)
    expected = {}
    for (place,), part in rows.with_columns(pl.col(group_by) if group_by else pl.lit("all").alias("place")).group_by(
        [group_by or "place"]
    ):
        values: Any = part["v"]
        expected[place] = {
            "group": place,
            "values": [close(value) for value in values.sort()],
            "stats": {
                "mean": close(values.mean()),
                "std": close(values.std(ddof=1)),
                "min": close(values.min()),
                "max": close(values.max()),
                "median": close(values.median()),
                "count": len(values),
            },
        }
    assert answer["data"] == [expected[place] for place in sorted(expected)]


def pearson(left: pl.Series, right: pl.Series) -> float:
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    if len(pairs) < 2 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return 0.0
    return float(np.corrcoef(np.array(pairs).T)[0, 1])


def test_correlation_of_columns_is_of_rows(api: Api, frame: pl.DataFrame) -> None:
    rows = frame.with_columns(pl.col("cost").cast(pl.Float64))

    answer = api.json(f"{ROOT}/correlation", metrics="latency, cost ,metric_score,latency")

    names = ["latency", "cost", "metric_score"]
    assert answer["metrics"] == names
    for row, left in zip(answer["matrix"], names, strict=True):
        assert row == [pytest.approx(pearson(rows[left], rows[right]), abs=1e-9) for right in names]


def test_correlation_of_metrics_is_of_records(api: Api, frame: pl.DataFrame) -> None:
    """Each metric is a row of its own: without the pivot, nothing would ever have a pair."""
    wide = frame.filter(pl.col("metric_score").is_not_null()).pivot(
        "metric_name", index="dataset_id", values="metric_score", aggregate_function="mean"
    )
    names = ["faithfulness", "relevancy", "no such metric"]

    answer = api.json(f"{ROOT}/correlation", metrics=",".join(names))

    matrix = np.array(answer["matrix"])
    assert matrix[0, 1] == pytest.approx(pearson(wide["faithfulness"], wide["relevancy"]), abs=1e-9) != 0
    assert (matrix == matrix.T).all()
    assert matrix.diagonal().tolist() == [pytest.approx(1), pytest.approx(1), 0]
    assert matrix[2].tolist() == [0, 0, 0]


def test_correlation_without_metrics_is_of_all_of_them(api: Api, frame: pl.DataFrame) -> None:
    assert api.json(f"{ROOT}/correlation")["metrics"] == sorted(set(frame["metric_name"]))


@pytest.mark.parametrize("metrics", ["", "latency", "latency,latency", ","])
def test_fewer_than_two_metrics_have_no_correlation(api: Api, metrics: str) -> None:
    answer = api.json(f"{ROOT}/correlation", metrics=metrics)

    assert (answer["matrix"], answer["metrics"]) == ([], [])


@pytest.mark.parametrize(
    ("source", "column"), [("explanation", "explanation"), ("nope", "actual_output"), ("metric_name", "metric_name")]
)
def test_classifications_are_counted(api: Api, frame: pl.DataFrame, source: str, column: str) -> None:
    rows = frame.filter(category_is("classification")).drop_nulls(column)

    answer = api.json(f"{ROOT}/classification-breakdown", category_source=source)

    counts = sorted(rows[column].value_counts().rows(), key=lambda row: (-row[1], row[0]))
    assert answer["metrics"] == [
        {
            "metric_name": "intent",
            "categories": [
                {"value": value, "count": count, "percentage": round(100 * count / rows.height, 1)}
                for value, count in counts
            ],
            "total_count": rows.height,
        }
    ]
    assert api.json(f"{ROOT}/classification-breakdown", metric_name="faithfulness")["metrics"] == []


@pytest.mark.parametrize(("granularity", "every"), [("hourly", "1h"), ("daily", "1d"), ("weekly", "1w")])
def test_classifications_over_time(api: Api, frame: pl.DataFrame, granularity: str, every: str) -> None:
    rows = frame.filter(category_is("classification")).drop_nulls(["explanation", "timestamp"])
    steps = rows.group_by(pl.col("timestamp").dt.truncate(every)).agg(pl.col("explanation").value_counts())

    answer = api.json(f"{ROOT}/classification-trends", metric_name="intent", granularity=granularity)

    assert answer["unique_categories"] == sorted(set(rows["explanation"]))
    assert answer["data"] == [
        {
            "timestamp": f"{row['timestamp']:%Y-%m-%d %H:%M:%S}",
            "categories": {count["explanation"]: count["count"] for count in row["explanation"]},
        }
        for row in steps.sort("timestamp").to_dicts()
    ]


def test_insights_come_newest_first_and_page_by_page(api: Api, frame: pl.DataFrame) -> None:
    rows = frame.filter(category_is("analysis")).sort("timestamp", descending=True, nulls_last=True)

    pages = [api.json(f"{ROOT}/analysis-insights", page=page, limit=100) for page in (1, 2, 3, 4)]

    listed = [record for page in pages for record in page["records"]]
    assert {page["total_count"] for page in pages} == {rows.height} == {len(listed)}
    assert pages[0]["metric_names"] == ["failure"]
    assert [record["timestamp"] for record in listed] == [
        None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}" for moment in rows["timestamp"]
    ]
    by_id = {row["dataset_id"]: row for row in rows.to_dicts()}
    for record in listed:
        row = by_id[record["dataset_id"]]
        for name in ("metric_name", "query", "actual_output", "explanation"):
            assert record[name] == row[name]
        assert record["source_info"] == {name: row[name] for name in ("environment", "source_name", "source_component")}
        is_object = (row["signals"] or "").startswith("{")
        assert record["signals"] == ({"cause": "timeout", "votes": [1, None]} if is_object else {})


def test_insights_of_one_metric_still_name_the_others(api: Api) -> None:
    answer = api.json(f"{ROOT}/analysis-insights", metric_name="no such metric")

    assert (answer["records"], answer["total_count"], answer["metric_names"]) == ([], 0, ["failure"])


def test_only_visible_metrics_count_unless_one_is_named(serve: Serve, monitoring: Store, frame: pl.DataFrame) -> None:
    api = serve(monitoring.root, scenario.spec_of(visible_metrics=["relevancy"]))

    scored = frame.filter(pl.col("metric_score").is_not_null())
    counts = {name: scored.filter(pl.col("metric_name") == name).height for name in ("relevancy", "faithfulness")}
    assert api.json(f"{ROOT}/trends")["metrics"] == ["relevancy"]
    assert [metric["name"] for metric in api.json(f"{ROOT}/metric-breakdown")["metrics"]] == ["relevancy"]
    assert api.json(f"{ROOT}/summary", metric_category="SCORE")["kpis"]["total_records"] == counts["relevancy"]
    assert api.json(f"{ROOT}/summary", metric_name="faithfulness")["kpis"]["total_records"] == counts["faithfulness"]
    assert api.json(f"{ROOT}/analysis-insights")["total_count"] == 0
    assert api.json(f"{ROOT}/correlation")["metrics"] == []


@pytest.mark.parametrize("route", ["metric-breakdown", "latency-distribution", "class-distribution"])
def test_an_unknown_group_is_refused_with_the_known_ones(api: Api, route: str) -> None:
    answer = api.get(f"{ROOT}/{route}", group_by="x")

    assert answer.status_code == 400
    assert answer.json()["detail"] == f"Invalid group_by: x. Allowed: [{', '.join(GROUPS)}]"


@pytest.mark.parametrize("metric", ["x", "query", ""])
def test_a_metric_that_is_no_column_of_numbers_is_refused(api: Api, metric: str) -> None:
    answer = api.get(f"{ROOT}/class-distribution", metric=metric)

    assert (answer.status_code, answer.json()["detail"]) == (400, f"Missing metric column: {metric}")


def test_too_many_metrics_are_refused(api: Api) -> None:
    answer = api.get(f"{ROOT}/correlation", metrics=",".join(f"m{number}" for number in range(31)))

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Too many metrics: 31.")


@pytest.mark.parametrize(
    ("route", "params"),
    [
        ("trends", {"granularity": "yearly"}),
        ("summary", {"time_start": "soon"}),
        ("summary", {"time_end": "0001-01-01T00:00:00+14:00"}),
        ("metric-breakdown", {"threshold": "nan"}),
        ("latency-distribution", {"bins": 4}),
        ("latency-distribution", {"bins": 101}),
        ("classification-trends", {}),
        ("analysis-insights", {"page": 0}),
        ("analysis-insights", {"limit": 101}),
    ],
)
def test_a_parameter_out_of_range_is_refused(api: Api, route: str, params: dict[str, Any]) -> None:
    assert api.get(f"{ROOT}/{route}", **params).status_code == 422


@pytest.mark.parametrize("route", ROUTES)
def test_an_empty_table_gives_empty_answers(serve: Serve, store: Store, route: str) -> None:
    scenario.publish(store, scenario.spec_of(), [], [])

    answer = serve(store.root).json(f"{ROOT}/{route}", **ROUTES[route])

    assert answer.pop("success") is True
    empty: dict[str, Any] = {
        "summary": {"kpis": dict.fromkeys(
            ("total_records", "avg_score", "pass_rate", "p50_latency", "p95_latency", "p99_latency"), 0)},
        "trends": {"data": [], "metrics": [], "granularity": "daily"},
        "metric-breakdown": {"metrics": []},
        "latency-distribution": {
            "histogram": {"counts": [0] * 20, "edges": [pytest.approx(step / 20) for step in range(21)]},
            "percentiles": {"p50": 0, "p95": 0, "p99": 0},
            "by_group": None,
        },
        "class-distribution": {"data": [], "metric": "metric_score", "group_by": None},
        "correlation": {"matrix": [], "metrics": []},
        "classification-breakdown": {"metrics": []},
        "classification-trends": {
            "data": [], "metric_name": "intent", "granularity": "daily", "unique_categories": []},
        "analysis-insights": {"records": [], "total_count": 0, "page": 1, "limit": 20, "metric_names": []},
    }  # fmt: skip
    assert answer == empty[route]


def test_one_latency_alone_has_a_range_of_one(serve: Serve, store: Store) -> None:
    dataset = [scenario.records(1)[0] | {"latency": 250.0}]
    scenario.publish(store, scenario.spec_of(), dataset, scenario.results(dataset))

    histogram = serve(store.root).json(f"{ROOT}/latency-distribution", bins=5)["histogram"]

    assert (histogram["edges"][0], histogram["edges"][-1]) == (250, 251)
    assert histogram["counts"][1:] == [0, 0, 0, 0]
    assert histogram["counts"][0] > 0


@pytest.mark.parametrize("numbers", [(1.7e308, -1.7e308), (1e300, 1e300), (5e-324, 0.0), (math.nan, math.inf)])
def test_numbers_at_the_edge_of_what_a_double_can_hold_are_json(
    serve: Serve, store: Store, numbers: tuple[float, float]
) -> None:
    dataset = [record | {"latency": number} for record, number in zip(scenario.records(2), numbers, strict=True)]
    measured = [
        row | {"metric_score": number, "metric_name": name}
        for row in scenario.results(dataset)
        for name in ("a", "b")
        for number in numbers
    ]
    scenario.publish(store, scenario.spec_of(), dataset, measured)
    api = serve(store.root)

    for route, params in ROUTES.items():
        json.loads(api.get(f"{ROOT}/{route}", **params).text, parse_constant=pytest.fail)
        assert api.get(f"{ROOT}/{route}", **params).status_code == 200
    for route in ("class-distribution", "latency-distribution", "metric-breakdown"):
        assert api.get(f"{ROOT}/{route}", group_by="model_name", metric="latency").status_code == 200
    assert api.get(f"{ROOT}/correlation", metrics="latency,metric_score,a,b").status_code == 200


def test_a_dataset_without_the_usual_columns_still_answers(serve: Serve, store: Store) -> None:
    """Users bring their own queries for monitoring."""
    keys = {name: scenario.RECORDS.field(name).type for name in ("dataset_id", "query")}

    schemas = (pa.schema(keys), schema_of(dataset_id=pa.string(), note=pa.string()))
    scenario.publish(
        store,
        scenario.spec_of(),
        [{"dataset_id": "a", "query": "q"}],
        [{"dataset_id": "a", "note": "n"}],
        schemas=schemas,
    )
    api = serve(store.root)

    for route, params in ROUTES.items():
        if route != "class-distribution":
            assert api.get(f"{ROOT}/{route}", **params).status_code == 200, route
    assert api.json(f"{ROOT}/summary", environment="x")["kpis"]["total_records"] == 0
    assert api.json("/api/store/data/monitoring")["data"] == [{"dataset_id": "a", "note": "n", "query": "q"}]
    assert api.json("/api/store/data/monitoring", environment="x", time_start="2026-01-01")["data"] == []
