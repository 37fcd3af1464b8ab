"""Whatever stands in a text parameter is a value or a known name: it changes nothing and shows nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.api.conftest import Api
from analytics_pipeline_tests.store.scenario import tree

ANALYTICS = "/api/monitoring/analytics"
ATTEMPTS = [
    "'; DROP VIEW monitoring_data; --",
    "' OR '1'='1",
    '" OR "1"="1',
    "x' UNION SELECT * FROM monitoring_dataset --",
    "(SELECT content FROM read_text('/etc/passwd'))",
    "read_csv('/etc/passwd')",
    "metric_score) FROM monitoring_data; ATTACH '/tmp/x.duckdb' AS x; --",
    "$p0",
    "{sql}",
    "%s{0}",
    "timestamp DESC, (SELECT 1/0)",
    "_store_metadata",
    "a\0b",
    "😀" * 500,
]
FILTERS = ("environment", "source_name", "source_component", "source_type", "metric_name", "metric_category")
PARAMETERS: list[tuple[str, str]] = [
    *((f"{ANALYTICS}/{route}", name) for route in ("summary", "trends") for name in FILTERS),
    (f"{ANALYTICS}/metric-breakdown", "group_by"),
    (f"{ANALYTICS}/latency-distribution", "group_by"),
    (f"{ANALYTICS}/class-distribution", "group_by"),
    (f"{ANALYTICS}/class-distribution", "metric"),
    (f"{ANALYTICS}/correlation", "metrics"),
    (f"{ANALYTICS}/classification-breakdown", "metric_name"),
    (f"{ANALYTICS}/classification-breakdown", "category_source"),
    (f"{ANALYTICS}/classification-trends", "metric_name"),
    (f"{ANALYTICS}/classification-trends", "category_source"),
    (f"{ANALYTICS}/analysis-insights", "metric_name"),
    *(("/api/store/data/monitoring", name) for name in (*FILTERS, "sort_by", "columns", "search")),
]
REQUIRED = {f"{ANALYTICS}/classification-trends": {"metric_name": "intent"}}
OUTCOMES = {"group_by": {400}, "metric": {400}, "metrics": {200, 400}}


@pytest.mark.parametrize(("path", "name"), PARAMETERS)
def test_an_attempt_is_taken_for_a_value(
    api: Api, monitoring: Store, path: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = tree(monitoring.root)
    for attempt in ATTEMPTS:
        params: dict[str, Any] = REQUIRED.get(path, {}) | {name: attempt}

        answer = api.get(path, **params)

        assert answer.status_code in OUTCOMES.get(name, {200}), (attempt, answer.text)
        assert "root:" not in answer.text
        assert str(monitoring.root) not in answer.text
    assert tree(monitoring.root) == before
    assert "cannot be read" not in caplog.text


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("name", [*FILTERS, "search"])
def test_an_attempt_matches_no_row(api: Api, name: str, attempt: str) -> None:
    assert api.json("/api/store/data/monitoring", **{name: attempt})["total"] == 0


@pytest.mark.parametrize("attempt", [attempt for attempt in ATTEMPTS if "\0" not in attempt])
def test_a_dataset_is_one_of_the_known_ones(api: Api, attempt: str) -> None:
    for path in ("data", "metadata"):
        answer = api.get(f"/api/store/{path}/{attempt}")
        assert answer.status_code == 404
