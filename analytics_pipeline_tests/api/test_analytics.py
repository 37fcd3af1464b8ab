"""What all analytics have in common: visible metrics, refusals, empty tables, numbers at the edge, missing columns."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.analytics import GROUPS, ROOT, ROUTES
from analytics_pipeline_tests.api.conftest import Api, Serve
from analytics_pipeline_tests.store.scenario import schema_of


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
        "trends": {"data": [], "metrics": [], "granularity": "daily", "note": None},
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
            "data": [], "metric_name": "intent", "granularity": "daily", "unique_categories": [], "note": None},
        "analysis-insights": {"records": [], "total_count": 0, "page": 1, "limit": 20, "metric_names": []},
    }  # fmt: skip
    assert answer == empty[route]


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
