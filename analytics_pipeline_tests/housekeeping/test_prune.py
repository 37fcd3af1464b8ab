"""Old runs go with all that hangs on them; what Dagster's pages show stays as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterEventType

from analytics_pipeline.components.maintenance import maintenance_job
from analytics_pipeline.housekeeping.__main__ import main
from analytics_pipeline.housekeeping.prune import Pruned, prune
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import DAYS, materialize, run_in, spec
from analytics_pipeline_tests.workplace import Workplace

ASSETS = ["orders_dataset", "orders_results", "orders_data", "orders_metadata"]
MONTH = timedelta(days=30)


def later() -> datetime:
    """When every run of the test is older than a month."""
    return datetime.now(UTC) + MONTH + timedelta(days=1)


@pytest.fixture
def code(orders_url: str, store: Store) -> dg.Definitions:
    return scenario.definitions(spec(refresh_interval_minutes=15))


def refresh(code: dg.Definitions, instance: dg.DagsterInstance, tag: str) -> str:
    job = code.resolve_job_def("orders_refresh_job")
    return job.execute_in_process(instance=instance, tags={"who": tag}, raise_on_error=False).run_id


@pytest.fixture
def history(code: dg.Definitions, orders_url: str, lasting: dg.DagsterInstance) -> Mapping[str, str]:
    """Runs by what they are: each is needed for something, but the ones that are superseded."""
    change = "UPDATE orders SET amount = amount + 1 WHERE id = 1"
    first = refresh(code, lasting, "first")
    scenario.change_source(orders_url, change)
    superseded = refresh(code, lasting, "superseded")
    scenario.change_source(orders_url, change)
    second = refresh(code, lasting, "second")
    scenario.change_source(orders_url, "ALTER TABLE reviews RENAME TO hidden")
    fruitless = refresh(code, lasting, "fruitless")
    failed = materialize(code, lasting, ["orders_dataset", "orders_results"], partition=str(DAYS[2])).run_id
    scenario.change_source(orders_url, "ALTER TABLE hidden RENAME TO reviews")
    last = refresh(code, lasting, "last")
    return {
        "first": first,
        "superseded": superseded,
        "second": second,
        "fruitless": fruitless,
        "failed": failed,
        "last": last,
    }


def shown(instance: dg.DagsterInstance, code: dg.Definitions) -> object:
    """What Dagster's pages show of the assets: partitions materialised and failed, newest events, checks."""
    log = instance.event_log_storage
    keys = list(code.resolve_asset_graph().asset_check_keys)
    checks = {
        str(key): (record.status, record.run_id)
        for key, record in log.get_latest_asset_check_execution_by_key(keys).items()
    }
    partitions = {
        name: (
            log.get_latest_storage_id_by_partition(dg.AssetKey(name), DagsterEventType.ASSET_MATERIALIZATION),
            log.get_latest_asset_partition_materialization_attempts_without_materializations(dg.AssetKey(name)),
            log.get_materialized_partitions(dg.AssetKey(name)),
        )
        for name in ASSETS
    }
    newest = {name: instance.get_latest_materialization_event(dg.AssetKey(name)) for name in ASSETS}
    return checks, partitions, {name: event and (event.run_id, event.timestamp) for name, event in newest.items()}


def rows_about(instance: dg.DagsterInstance, run_id: str) -> int:
    """Rows of Dagster's databases that name a run."""
    root = Path(instance.root_directory) / "history"
    amount = 0
    for database, tables in {
        root / "runs.db": ["runs", "run_tags"],
        root / "runs" / "index.db": ["event_logs", "asset_check_executions"],
    }.items():
        with closing(sqlite3.connect(database)) as connection:
            for table in tables:
                amount += connection.execute(f"SELECT count(*) FROM {table} WHERE run_id = ?", [run_id]).fetchone()[0]
    return amount


def files_of(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    return [path for path in Path(instance.root_directory).rglob("*") if run_id in str(path) and path.is_file()]


def test_superseded_runs_go_and_every_status_stays(
    history: Mapping[str, str], code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    gone = {"superseded", "fruitless"}
    before = shown(lasting, code)
    assert all(rows_about(lasting, run_id) > 0 for run_id in history.values())
    assert lasting.get_runs_count() == len(history)

    pruned = prune(lasting, MONTH, now=later())

    assert pruned == Pruned(runs=len(gone), kept=len(history) - len(gone))
    assert shown(lasting, code) == before
    assert {name for name, run_id in history.items() if lasting.has_run(run_id)} == history.keys() - gone
    for name in gone:
        assert rows_about(lasting, history[name]) == 0
        assert files_of(lasting, history[name]) == []
    assert prune(lasting, MONTH, now=later()).runs == 0


def test_what_stays_can_be_looked_at(history: Mapping[str, str], lasting: dg.DagsterInstance) -> None:
    before = len(lasting.all_logs(history["first"]))

    prune(lasting, MONTH, now=later())

    assert len(lasting.all_logs(history["first"])) == before > 0


@pytest.mark.slow
def test_young_runs_stay(history: Mapping[str, str], lasting: dg.DagsterInstance) -> None:
    assert prune(lasting, MONTH) == Pruned(runs=0, kept=0)
    assert lasting.get_runs_count() == len(history)


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_runs_that_have_not_ended_stay(code: dg.Definitions, lasting: dg.DagsterInstance, status: str) -> None:
    run = run_in(lasting, code.resolve_job_def("orders_refresh_job"), status)

    assert prune(lasting, MONTH, now=later()).runs == 0
    assert lasting.has_run(run.run_id)


def test_a_call_removes_so_many_runs_the_oldest_first(code: dg.Definitions, lasting: dg.DagsterInstance) -> None:
    """A night's job must end, also the first one after years."""
    job = code.resolve_job_def("orders_refresh_job")
    ended = [run_in(lasting, job, status).run_id for status in ("SUCCESS", "FAILURE", "CANCELED", "SUCCESS")]

    assert prune(lasting, MONTH, at_most=3, now=later()).runs == 3

    assert [lasting.has_run(run_id) for run_id in ended] == [False, False, False, True]


def test_runs_beyond_one_page_are_found(
    code: dg.Definitions, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics_pipeline.housekeeping.prune._PAGE", 2)
    job = code.resolve_job_def("orders_refresh_job")
    ended = [run_in(lasting, job, "SUCCESS").run_id for _ in range(5)]

    assert prune(lasting, MONTH, now=later()).runs == len(ended)


def test_the_maintenance_job_does_all_its_tasks(
    orders_url: str, store: Store, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    refresh(code, lasting, "first")
    (store.root / "catalog.duckdb").unlink()

    result = maintenance_job.execute_in_process(instance=lasting, resources={"analytics": AnalyticsResource()})

    assert result.success
    assert {event.step_key for event in result.all_events if event.is_step_success} == {
        "compact_store",
        "sweep_store",
        "sweep_objects",
        "tend_capabilities",
        "check_catalog",
        "prune_runs",
    }
    assert (store.root / "catalog.duckdb").exists()


def test_maintenance_runs_every_night_without_a_click() -> None:
    from analytics_pipeline.components.maintenance import maintenance_job_schedule as schedule  # noqa: PLC0415

    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 3 * * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


@pytest.mark.slow
def test_there_is_a_command(workplace: Workplace) -> None:
    assert workplace.execute("eval_refresh_job").returncode == 0

    done = workplace.python("-m", "analytics_pipeline.housekeeping", "prune", "--days", "30")

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("Removed 0 runs older than 30 days; 0 stay, because a status is computed from them.\n")


def test_the_command_says_where_it_belongs(workplace: Workplace) -> None:
    (workplace.folder / "dagster.yaml").unlink()

    done = workplace.python("-m", "analytics_pipeline.housekeeping", "prune")

    assert (done.returncode, done.stdout) == (
        1,
        "There is no dagster.yaml here: go to the project's folder, or set DAGSTER_HOME.\n",
    )


@pytest.mark.parametrize("days", ["0", "-1", "many", "9" * 30, "²"])
def test_an_age_that_is_none_is_refused_in_a_sentence(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prune", "--days", days])

    assert stopped.value.code == 2
    assert "argument --days: is a number from 1 to 100,000" in capsys.readouterr().err


def test_a_home_of_dagster_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nowhere"
    monkeypatch.setenv("DAGSTER_HOME", str(missing))

    assert main(["prune"]) == 1
    assert f"DAGSTER_HOME={missing} is not a folder" in capsys.readouterr().err
    assert not missing.exists()
