"""Starting syncs and marking datasets as stale, over HTTP; against a real Dagster in the slow test."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from analytics_pipeline.api.__main__ import DEFINITIONS
from analytics_pipeline.store import Store
from analytics_pipeline.sync.reset import FORGOTTEN
from analytics_pipeline.sync.spec_files import read_spec_files
from analytics_pipeline.sync.status import DatasetStatus, State, write_status
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.conftest import Serve
from analytics_pipeline_tests.daemon import served
from analytics_pipeline_tests.workplace import Workplace

SYNC = "/api/store/sync"
SPECS = (scenario.spec_of(), scenario.spec_of("human_signals"), scenario.spec_of("eval", enabled=False))


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("path", [SYNC, f"{SYNC}/monitoring", f"{SYNC}/monitoring?full=true", f"{SYNC}?full=true"])
def test_without_a_reachable_dagster_the_answer_says_so(serve: Serve, store: Store, nowhere: str, path: str) -> None:
    answer = serve(store.root, *SPECS, dagster_url=nowhere).post(path)

    assert answer.status_code == 503
    assert answer.json()["detail"].startswith(f"Dagster at {nowhere} cannot start the sync: it does not answer")


@pytest.mark.parametrize("path", ["", "/reset-watermark"])
@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("nope", "Unknown dataset: nope. Allowed: [human_signals, monitoring]"),
        ("monitoring_data", "Unknown dataset: monitoring_data. Allowed: [human_signals, monitoring]"),
        ("eval", "The dataset eval is not enabled. Set `enabled: true` in its defs.yaml to use it."),
    ],
)
def test_what_is_no_dataset_cannot_be_synced(serve: Serve, store: Store, path: str, name: str, detail: str) -> None:
    answer = serve(store.root, *SPECS).post(f"{SYNC}/{name}{path}")

    assert (answer.status_code, answer.json()["detail"]) == (404, detail)


@pytest.mark.parametrize("path", ["", "/monitoring", "/monitoring/reset-watermark"])
def test_a_dataset_that_is_syncing_is_left_alone(serve: Serve, store: Store, nowhere: str, path: str) -> None:
    status = DatasetStatus("monitoring", State.SYNCING, run_id="abc", heartbeat=datetime.now(UTC))
    write_status(store, SPECS[0], status)

    answer = serve(store.root, *SPECS, dagster_url=nowhere).post(f"{SYNC}{path}")

    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "A sync of monitoring is running already (run abc). Try again when it has ended."
    )


@pytest.mark.parametrize("name", ["monitoring", "human_signals"])
def test_a_reset_forgets_the_fingerprints_and_no_row(serve: Serve, store: Store, name: str) -> None:
    dataset = scenario.records(5)
    spec = scenario.spec_of(name)
    scenario.publish(store, spec, dataset, scenario.results(dataset))
    api = serve(store.root, *SPECS)
    before = api.json(f"/api/store/data/{spec.view}")

    answer = api.post(f"{SYNC}/{name}/reset-watermark")

    assert answer.json() == {
        "success": True,
        "message": f"Watermarks cleared for {name}. Next sync will do a full rebuild.",
    }
    tables = store.manifest().tables
    assert {part.fingerprint for table in tables.values() for part in table.partitions.values()} == {FORGOTTEN}
    assert api.json(f"/api/store/data/{spec.view}") == before


def test_a_reset_before_the_first_sync_has_nothing_to_forget(serve: Serve, store: Store) -> None:
    assert serve(store.root, *SPECS).post(f"{SYNC}/monitoring/reset-watermark").status_code == 200
    assert store.manifest().version == 0


def test_full_must_be_a_truth_value(serve: Serve, store: Store) -> None:
    assert serve(store.root, *SPECS).post(f"{SYNC}/monitoring", full="perhaps").status_code == 422


# dagster-graphql 1.13 calls gql 4 as gql 3 was called.
@pytest.mark.filterwarnings("ignore:Using variable_values and operation_name:DeprecationWarning")
@pytest.mark.slow
def test_a_sync_is_started_once_and_its_rows_are_served(serve: Serve, workplace: Workplace) -> None:
    with served.dagster_dev(workplace) as dagster:
        assert isinstance(dagster.args, list)
        url = f"http://127.0.0.1:{dagster.args[-1]}"
        api = serve(workplace.home / "store", *read_spec_files(DEFINITIONS), dagster_url=url)

        def state(name: str) -> str:
            return str(api.json("/api/store/status")["datasets"][name]["state"])

        def all_ready() -> bool:
            return all(state(name) == "ready" for name in ("monitoring_data", "human_signals_data", "eval_data"))

        def idle() -> bool:
            return all(run.status in {"SUCCESS", "FAILURE", "CANCELED"} for run in served.runs(workplace))

        def started(path: str) -> Any:
            answers = []

            def try_it() -> bool:
                answers.append(api.post(path))
                return answers[-1].status_code == 200

            served.wait_for(try_it, lambda: answers[-1].text, served.PATIENCE)
            return answers[-1].json()

        served.wait_for(all_ready, lambda: served.log_tail(workplace), served.PATIENCE)  # the sensors' first syncs
        served.wait_for(idle, lambda: served.log_tail(workplace), served.PATIENCE)

        one = started(f"{SYNC}/monitoring?full=true")
        again = api.post(f"{SYNC}/monitoring")
        everything = api.post(SYNC)

        assert again.status_code == everything.status_code == 409
        assert one["run_id"] in again.json()["detail"]
        assert one["runs"] == {"monitoring_rebuild_job": one["run_id"]}
        served.wait_for(idle, lambda: served.log_tail(workplace), served.PATIENCE)
        assert {run.id: run.status for run in served.runs(workplace)}[one["run_id"]] == "SUCCESS"

        every = started(SYNC)
        assert every["runs"] == {"refresh_all_job": every["run_id"]}
        served.wait_for(idle, lambda: served.log_tail(workplace), served.PATIENCE)

        assert api.post(f"{SYNC}/eval/reset-watermark").status_code == 200
        version = api.json("/ready")["version"]
        started(f"{SYNC}/eval")
        served.wait_for(lambda: api.json("/ready")["version"] > version, lambda: "no commit", served.PATIENCE)
        served.wait_for(lambda: state("eval_data") == "ready", lambda: state("eval_data"), served.PATIENCE)
        assert api.json("/api/store/status")["datasets"]["eval_data"]["sync_type"] == "full"
        assert api.json("/api/store/data/eval")["total"] > 0
