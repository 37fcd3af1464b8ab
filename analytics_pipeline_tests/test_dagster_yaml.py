"""Dagster's own settings: both files are accepted, agree with one another, and keep their events where they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

import psycopg
import yaml

from analytics_pipeline_tests.workplace import REPOSITORY, Workplace

STORAGE = {"storage", "local_artifact_storage", "compute_logs"}
SETTINGS = """
import json, sys
from dagster import DagsterInstance
with DagsterInstance.from_config(sys.argv[1]) as instance:
    queue = instance.get_concurrency_config().run_queue_config
    pools = instance.get_concurrency_config().pool_config
    print(json.dumps({
        "coordinator": type(instance.run_coordinator).__name__,
        "runs": queue.max_concurrent_runs,
        "pool": [pools.pool_granularity.value, pools.default_pool_limit],
        "monitored": instance.run_monitoring_enabled,
        "start_timeout": instance.run_monitoring_start_timeout_seconds,
        "poll": instance.run_monitoring_poll_interval_seconds,
        "launcher": type(instance.run_launcher).__name__,
        "notices_dead_runs": instance.run_launcher.supports_check_run_worker_health,
        "telemetry": instance.telemetry_enabled,
        "level": instance.python_log_level,
        "retention": instance.get_settings("retention")["schedule"]["purge_after_days"],
        "storage": type(instance.event_log_storage).__name__,
    }))
"""


def sections(path: str) -> Mapping[str, object]:
    loaded = yaml.safe_load((REPOSITORY / path).read_text())
    assert isinstance(loaded, dict)
    return {name: section for name, section in loaded.items() if name not in STORAGE}


def settings(workplace: Workplace, folder: str) -> dict[str, object]:
    done = workplace.python("-c", SETTINGS, folder)
    assert done.returncode == 0, done.stdout
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(loaded, dict)
    return loaded


def test_both_files_say_the_same_apart_from_storage() -> None:
    assert sections("dagster.yaml") == sections("deploy/dagster.yaml")


def test_every_section_takes_effect(workplace: Workplace) -> None:
    assert settings(workplace, ".") == {
        "coordinator": "QueuedRunCoordinator",
        "runs": 4,
        "pool": ["run", 1],
        "monitored": True,
        "start_timeout": 120,
        "poll": 20,
        "launcher": "WatchfulRunLauncher",
        "notices_dead_runs": True,
        "telemetry": False,
        "level": "INFO",
        "retention": {"skipped": 1, "failure": 30, "success": 30},
        "storage": "SqliteEventLogStorage",
    }


def test_everything_stays_beside_the_file_without_dagster_home(workplace: Workplace) -> None:
    assert "DAGSTER_HOME" not in workplace.environment

    done = workplace.execute("eval_refresh_job")

    assert done.returncode == 0, done.stdout
    assert workplace.events() != []
    logs = [path for path in (workplace.folder / ".dagster" / "storage").rglob("compute_logs/*") if path.is_file()]
    assert logs != []
    left = {path.name for path in workplace.folder.iterdir()}
    assert left == {".dagster", "dagster.yaml", "workspace.yaml", "home"}


def test_events_land_in_postgres_with_the_other_file(workplace: Workplace, postgres_url: str) -> None:
    home = workplace.folder / "dagster_home"
    home.mkdir()
    shutil.copy(REPOSITORY / "deploy" / "dagster.yaml", home)
    workplace.environment["DAGSTER_HOME"] = str(home)
    workplace.environment["DAGSTER_PG_URL"] = postgres_url.replace("postgresql://", "postgresql+psycopg2://")

    done = workplace.materialize("eval_dataset,eval_results,eval_data", "--partition", "2026-11-16")

    assert done.returncode == 0, done.stdout
    with psycopg.connect(postgres_url) as connection:
        query = (
            "SELECT asset_key::json ->> 0, partition FROM event_logs "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id"
        )
        found = connection.execute(query).fetchall()
    assert found == [("eval_dataset", "2026-11-16"), ("eval_results", "2026-11-16"), ("eval_data", None)]
    assert workplace.events() == []
    assert not (workplace.folder / ".dagster").exists()
    assert settings(workplace, str(home))["storage"] == "PostgresEventLogStorage"
