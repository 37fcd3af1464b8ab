"""Pages of rows: one total order whatever it is sorted by, nothing twice and nothing left out, every value JSON."""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.api.questions import paging
from analytics_pipeline.store import Store, create_store
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.conftest import Api, Serve
from analytics_pipeline_tests.api.scenario import AWKWARD
from analytics_pipeline_tests.store.scenario import schema_of
from analytics_pipeline_tests.thinning import thinned

DATA = "/api/store/data"
EVERY_COLUMN = [
    *scenario.RESULTS.names,
    "dataset_timestamp",
    *(name for name in scenario.RECORDS.names if name not in {"dataset_id", "timestamp"}),
]


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """What the view holds."""
    dataset = scenario.records(300)
    return scenario.joined(dataset, scenario.results(dataset)).to_dicts()


@pytest.fixture(scope="session")
def smaller(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[Api, set[int]]:
    """The API over 60 records, and the ids of their results."""
    store = create_store(tmp_path_factory.mktemp("smaller") / "home" / "store")
    dataset = scenario.records(60)
    measured = scenario.results(dataset)
    scenario.publish(store, scenario.spec_of(), dataset, measured)
    return serve(store.root), {row["result_id"] for row in measured}


@pytest.fixture
def counting_deeply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are many: every page is found by counting buckets, as those of millions of rows are."""
    monkeypatch.setattr(paging, "FEW", 30)


def pages(api: Api, size: int, **params: Any) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    found: list[dict[str, Any]] = []
    total = None
    for page in range(1, 10_000):
        answer = api.json(f"{DATA}/monitoring", page=page, page_size=size, **params)
        assert answer["total"] == (total if total is not None else answer["total"])
        assert (answer["page"], answer["page_size"]) == (page, size)
        total = answer["total"]
        if not answer["data"]:
            break
        found += answer["data"]
    assert len(found) == total
    return found


def test_rows_hold_every_column_as_json(api: Api, rows: list[dict[str, Any]]) -> None:
    found = {row["result_id"]: row for row in pages(api, 500)}

    assert len(found) == len(rows)
    for row in rows:
        shown = found[row["result_id"]]
        assert list(shown) == EVERY_COLUMN
        moment: datetime | None = row["timestamp"]
        assert shown["timestamp"] == (moment.replace(tzinfo=None).isoformat() if moment else None)
        assert shown["day"] == row["day"].isoformat()
        assert shown["steps"] == [str(step) for step in row["steps"]]
        assert shown["payload"] == ("AP8=" if row["payload"] else None)
        for name in ("metric_name", "metric_score", "latency", "tags", "has_errors", "query", "actual_output"):
            assert shown[name] == row[name], name
        assert shown["cost"] == (None if row["cost"] is None else pytest.approx(float(row["cost"])))


@pytest.mark.parametrize(("column", "direction"), thinned(itertools.product(EVERY_COLUMN, ["asc", "desc"]), 3))
def test_pages_in_any_order_neither_overlap_nor_leave_anything_out(
    smaller: tuple[Api, set[int]], counting_deeply: None, column: str, direction: str
) -> None:
    api, ids = smaller
    found = pages(api, 110, sort_by=column, sort_dir=direction, columns=f"result_id,{column}")

    assert sorted(row["result_id"] for row in found) == sorted(ids)
    values = [row[column] for row in found]
    known = [value for value in values if value is not None]
    assert values[len(known) :] == [None] * (len(values) - len(known)), "NULL, NaN and infinity come last"
    if column not in {"tags", "steps", "payload"}:
        assert known == sorted(known, reverse=direction == "desc")


@pytest.mark.parametrize("size", [13, 70])
def test_the_order_is_the_same_whether_pages_are_found_by_counting_or_by_sorting(
    api: Api, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"sort_by": "environment", "columns": "result_id", "time_end": "2026-01-06"}
    sorted_whole = pages(api, 500, **asked)

    monkeypatch.setattr(paging, "FEW", 10)

    assert pages(api, size, **asked) == sorted_whole


def test_rows_that_are_equal_in_every_key_are_on_one_page_each(
    serve: Serve, store: Store, counting_deeply: None
) -> None:
    dataset = scenario.records(1)
    one = scenario.results(dataset)[0]
    scenario.publish(store, scenario.spec_of(), dataset, [one | {"result_id": number} for number in range(50)])
    api = serve(store.root)

    for sort_by in ("timestamp", "environment", "tags", "metric_score"):
        found = pages(api, 7, sort_by=sort_by)
        assert sorted(row["result_id"] for row in found) == list(range(50))


def test_a_page_past_the_end_is_empty_and_knows_the_total(api: Api, rows: list[dict[str, Any]]) -> None:
    for page in (100, 10**18, 10**40):
        answer = api.json(f"{DATA}/monitoring", page=page)
        assert (answer["data"], answer["total"]) == ([], len(rows))


def test_unknown_columns_are_dropped_and_an_unknown_sort_column_is_ignored(api: Api) -> None:
    usual = api.json(f"{DATA}/monitoring", columns="dataset_id")["data"]

    assert api.json(f"{DATA}/monitoring", columns=" nope,DATASET_ID , x ", sort_by="nope")["data"] == usual
    assert list(api.json(f"{DATA}/monitoring", columns="nope")["data"][0]) == EVERY_COLUMN


@pytest.mark.parametrize(
    "search", ["50%", "_2", "köln", "KÖLN_2 😀", '"quoted"', "trace-17", "\\", "%", "'", "a' OR '1'='1", "", "\0"]
)
def test_search_is_a_literal_text_in_any_case(api: Api, rows: list[dict[str, Any]], search: str) -> None:
    names = ("query", "actual_output", "trace_id")
    expected = [row for row in rows if any(search.lower() in (row[name] or "").lower() for name in names)]

    answer = api.json(f"{DATA}/monitoring", search=search, page_size=500, columns="result_id")

    assert answer["total"] == (len(expected) if search else len(rows))


@pytest.mark.parametrize(
    ("asked", "name", "value"),
    [
        ({"environment": "O'Brien"}, "environment", "O'Brien"),
        ({"metric_name": AWKWARD}, "metric_name", AWKWARD),
        ({"source_component": "planner"}, "source_component", "planner"),
    ],
)
def test_filters_let_through_what_they_name(
    api: Api, rows: list[dict[str, Any]], asked: dict[str, str], name: str, value: str
) -> None:
    answer = api.json(f"{DATA}/monitoring", **asked, columns=name)

    assert answer["total"] == sum(row[name] == value for row in rows) > 0
    assert {row[name] for row in answer["data"]} == {value}


def test_a_category_score_holds_metrics_without_one(api: Api, rows: list[dict[str, Any]]) -> None:
    expected = sum((row["metric_category"] or "score").lower() == "score" for row in rows)

    assert api.json(f"{DATA}/monitoring", metric_category="Score")["total"] == expected


@pytest.mark.parametrize(
    "params",
    [{"page": 0}, {"page_size": 0}, {"page_size": 501}, {"sort_dir": "down"}, {"page": "x"}, {"time_start": "x"}],
)
def test_a_parameter_out_of_range_is_refused(api: Api, params: dict[str, Any]) -> None:
    assert api.get(f"{DATA}/monitoring", **params).status_code == 422


def test_times_that_python_cannot_hold_are_text(serve: Serve, store: Store) -> None:
    """Postgres has years that Python has not, and infinity, which the store keeps."""
    schema = schema_of(dataset_id=pa.string(), timestamp=pa.timestamp("us", "UTC"), x=pa.timestamp("us"))
    infinity = 2**63 - 1
    moments = [infinity, -infinity, -62_200_000_000_000_000, 0]
    table = pl.DataFrame(
        {"dataset_id": list("abcd"), "timestamp": moments, "x": moments},
        schema={"dataset_id": pl.String, "timestamp": pl.Int64, "x": pl.Int64},
    ).to_arrow()
    batch = table.set_column(1, "timestamp", table["timestamp"].cast(schema.field(1).type))
    batch = batch.set_column(2, "x", batch["x"].cast(schema.field(2).type)).cast(schema)
    scenario.publish_rows(store, "monitoring_data", batch)
    api = serve(store.root)

    found = api.json(f"{DATA}/monitoring", sort_by="dataset_id", sort_dir="asc")["data"]

    assert found[0]["timestamp"] == "infinity"
    assert found[3]["x"] == "1970-01-01T00:00:00"
    assert api.json(f"{DATA}/monitoring", sort_by="timestamp")["total"] == 4
    for route in ("trends", "analysis-insights"):
        assert api.get(f"/api/monitoring/analytics/{route}").status_code == 200


def test_every_page_is_json_without_nan(api: Api) -> None:
    answer = api.get(f"{DATA}/monitoring", page_size=500)

    assert json.loads(answer.text, parse_constant=pytest.fail)["data"]
