"""Status, metadata and cases: what the store and the status files say, in the API's words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.status import DatasetStatus, State, SyncType, digest_of, write_status
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.conftest import Api, Serve
from analytics_pipeline_tests.store.scenario import schema_of

SPECS = (
    scenario.spec_of(),
    scenario.spec_of("human_signals", cases=True, refresh_interval_minutes=7, incremental_column="noted_at"),
    scenario.spec_of("eval", enabled=False),
    scenario.spec_of("orders", incremental_column=None, start=None),
)
NOW = datetime(2026, 1, 22, 5, tzinfo=UTC)
READY = DatasetStatus(
    "monitoring",
    State.READY,
    last_sync=NOW,
    sync_type=SyncType.INCREMENTAL,
    last_incremental=NOW,
    incremental_rows=-3,
    truncated=True,
    rows={"monitoring_dataset": 2, "monitoring_results": 5, "monitoring_data": 4},
    watermarks={"monitoring_dataset": "2026-01-21T00:00:00+00:00", "monitoring_results": None},
)
KEYS = {"state", "rows", "last_sync", "error", "truncated", "sync_type", "last_incremental", "incremental_rows"}
OF_SOURCE = {"refresh_interval_minutes", "incremental_column", "watermarks"}
CASES = schema_of(
    Case_ID=pa.string(),
    Timestamp=pa.timestamp("us", "UTC"),
    Business=pa.string(),
    Agent_Name=pa.string(),
    Full_Conversation=pa.string(),
    tone__value=pa.float64(),
)
CONVERSATIONS = ['[{"role": "user", "content": "Grüße aus Köln"}]', None, "not json", '{"no": "list"}', "[NaN]"]
SCHEMA = {"metrics": {"tone": {"category": "score", "signals": ["value"]}}, "has_timestamp": True}


def publish_cases(store: Store, count: int = 5) -> None:
    rows = [
        {
            "Case_ID": f"c{number}",
            "Timestamp": NOW.replace(day=1 + number),
            "Business": f"Acme {number}",
            "Agent_Name": None,
            "Full_Conversation": CONVERSATIONS[number % len(CONVERSATIONS)],
            "tone__value": float("nan") if number == 1 else number,
        }
        for number in range(count)
    ]
    columns = [{"column_name": field.name, "column_type": "VARCHAR"} for field in CASES]
    metadata = {"row_count": count, "columns": columns, "filter_values": {}, "time_range": None, "summary_stats": None}
    table = pa.Table.from_pylist(rows, schema=CASES)
    scenario.publish_rows(store, "human_signals_cases", table, metadata | {"metric_schema": SCHEMA})


def test_before_the_first_sync_every_enabled_dataset_is_not_synced(serve: Serve, tmp_path: Any) -> None:
    answer = serve(tmp_path / "home" / "store", *SPECS).json("/api/store/status")

    assert answer["success"] is True
    assert answer["enabled"] is True
    assert set(answer["datasets"]) == {
        "monitoring_data",
        "human_signals_data",
        "human_signals_cases",
        "orders_data",
    }
    for name, state in answer["datasets"].items():
        assert (state["state"], state["rows"], state["last_sync"]) == ("not_synced", 0, None)
        assert state.keys() == (KEYS if name == "human_signals_cases" else KEYS | OF_SOURCE)


def test_without_an_enabled_dataset_nothing_is_enabled(serve: Serve, store: Store) -> None:
    answer = serve(store.root, scenario.spec_of(enabled=False)).json("/api/store/status")

    assert (answer["enabled"], answer["datasets"]) == (False, {})


def test_the_status_is_the_one_beside_the_store(serve: Serve, store: Store) -> None:
    write_status(store, SPECS[0], replace(READY, content=digest_of(store.manifest(), SPECS[0])))

    found = serve(store.root, *SPECS).json("/api/store/status")["datasets"]["monitoring_data"]

    assert found == {
        "state": "ready",
        "rows": 4,
        "last_sync": "2026-01-22T05:00:00+00:00",
        "error": None,
        "truncated": True,
        "sync_type": "incremental",
        "last_incremental": "2026-01-22T05:00:00+00:00",
        "incremental_rows": -3,
        "refresh_interval_minutes": 15,
        "incremental_column": "created_at",
        "watermarks": {"monitoring_dataset": "2026-01-21T00:00:00+00:00", "monitoring_results": None},
    }


def test_a_failed_and_an_interrupted_sync_are_errors_with_their_words(serve: Serve, store: Store) -> None:
    api = serve(store.root, *SPECS)
    write_status(store, SPECS[0], replace(READY, state=State.ERROR, message="no route to host"))
    write_status(store, SPECS[3], DatasetStatus("orders", State.SYNCING, heartbeat=NOW))

    found = api.json("/api/store/status")["datasets"]

    assert (found["monitoring_data"]["state"], found["monitoring_data"]["error"]) == ("error", "no route to host")
    assert found["orders_data"]["state"] == "error"
    assert "interrupted" in found["orders_data"]["error"]


def test_metadata_is_what_was_counted_with_the_commit(api: Api, monitoring: Store) -> None:
    stored: Any = monitoring.manifest().metadata["monitoring_data"].value

    answer = api.json("/api/store/metadata/monitoring")

    assert answer["dataset"] == "monitoring"
    found = answer["metadata"]
    assert found.keys() == {"row_count", "columns", "filter_values", "time_range", "summary_stats"}
    for key in ("row_count", "columns", "filter_values", "summary_stats"):
        assert found[key] == stored[key]
    assert found["time_range"]["min"] == "2026-01-05 00:00:02"
    assert api.json("/api/store/metadata/monitoring_data")["metadata"] == found


@pytest.mark.parametrize("path", ["metadata", "data"])
def test_an_unknown_dataset_is_named_with_the_known_ones(serve: Serve, monitoring: Store, path: str) -> None:
    api = serve(monitoring.root, *SPECS)

    answer = api.get(f"/api/store/{path}/monitoring_results")

    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "Unknown dataset: monitoring_results. Allowed: [monitoring, monitoring_data, human_signals, "
        "human_signals_data, human_signals_cases, orders, orders_data]"
    )


@pytest.mark.parametrize("path", ["metadata/eval", "data/eval", "data/eval_data"])
def test_a_disabled_dataset_is_not_there(serve: Serve, monitoring: Store, path: str) -> None:
    answer = serve(monitoring.root, *SPECS).get(f"/api/store/{path}")

    assert answer.status_code == 404
    assert "The dataset eval is not enabled" in answer.json()["detail"]


def test_a_table_without_metadata_is_counted(serve: Serve, store: Store) -> None:
    """Stores that an earlier version wrote have none."""
    scenario.publish_rows(store, "human_signals_cases", pa.table({"Case_ID": ["a", "b"]}))

    found = serve(store.root, *SPECS).json("/api/store/metadata/human_signals")["metadata"]

    assert found == {
        "row_count": 2,
        "columns": [{"column_name": "Case_ID", "column_type": "VARCHAR"}],
        "filter_values": {},
        "time_range": None,
        "summary_stats": None,
    }


def test_human_signals_are_cases_and_the_raw_rows_go_by_their_own_name(serve: Serve, store: Store) -> None:
    publish_cases(store)
    dataset = scenario.records(3)
    scenario.publish(store, SPECS[1], dataset, scenario.results(dataset))
    api = serve(store.root, *SPECS)

    assert "Case_ID" in api.json("/api/store/data/human_signals")["data"][0]
    assert "metric_name" in api.json("/api/store/data/human_signals_data")["data"][0]
    assert api.json("/api/store/metadata/human_signals")["metadata"]["row_count"] == 5
    status = api.json("/api/store/status")["datasets"]
    assert status["human_signals_cases"]["rows"] == 5


def test_cases_come_newest_first_with_their_conversation_as_a_list(serve: Serve, store: Store) -> None:
    publish_cases(store)
    api = serve(store.root, *SPECS)

    answer = api.json("/api/human-signals/cases", page=1, page_size=5)

    rows = answer.pop("data")
    assert answer == {
        "success": True,
        "format": "hitl_feedback",
        "row_count": 5,
        "columns": CASES.names,
        "page": 1,
        "page_size": 5,
        "message": "5 of 5 cases",
        "source": "duckdb",
    }
    assert [row["Case_ID"] for row in rows] == ["c4", "c3", "c2", "c1", "c0"]
    talks = [row["Full_Conversation"] for row in rows]
    assert talks == [[None], [], [], [], [{"role": "user", "content": "Grüße aus Köln"}]]
    assert rows[3]["tone__value"] is None
    assert api.json("/api/human-signals/cases", page=2, page_size=3)["data"] == rows[3:]


@pytest.mark.parametrize(
    ("search", "found"), [("C3", {"c3"}), ("köln", {"c0"}), ("acme", {"c0", "c1", "c2", "c3", "c4"})]
)
def test_cases_are_searched_by_id_business_agent_and_conversation(
    serve: Serve, store: Store, search: str, found: set[str]
) -> None:
    publish_cases(store)

    rows = serve(store.root, *SPECS).json("/api/store/data/human_signals", search=search)["data"]

    assert {row["Case_ID"] for row in rows} == found


def test_the_metric_schema_is_the_one_of_the_cases(serve: Serve, store: Store) -> None:
    publish_cases(store)

    assert serve(store.root, *SPECS).json("/api/human-signals/metric-schema") == {"success": True, "schema": SCHEMA}


@pytest.mark.parametrize("published", [False, True])
def test_without_cases_there_is_no_metric_schema(serve: Serve, store: Store, published: bool) -> None:  # noqa: FBT001
    if published:
        scenario.publish_rows(store, "human_signals_cases", pa.table({"Case_ID": ["a"]}))

    answer = serve(store.root, *SPECS).get("/api/human-signals/metric-schema")

    assert (answer.status_code, answer.json()["detail"]) == (404, "No human signals metric schema available.")


def test_a_dataset_without_cases_is_its_rows(serve: Serve, store: Store) -> None:
    spec = scenario.spec_of("human_signals")
    dataset = scenario.records(3)
    scenario.publish(store, spec, dataset, scenario.results(dataset))
    api = serve(store.root, spec)

    assert "metric_name" in api.json("/api/store/data/human_signals")["data"][0]
    assert api.json("/api/store/status")["datasets"].keys() == {"human_signals_data"}
    assert api.get("/api/human-signals/cases").status_code == 404
    assert api.get("/api/human-signals/metric-schema").status_code == 404
