"""The daemon really running, without a click: first data, refreshes under a busy writer, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.store import open_store
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.daemon.served import (
    cancel,
    dagster_dev,
    kill_group,
    log_tail,
    pid_of,
    runs,
    ticks,
    wait_for,
)
from analytics_pipeline_tests.daemon.shop import open_shop
from analytics_pipeline_tests.workplace import REPOSITORY, Workplace

pytestmark = pytest.mark.slow

MINUTES = float(os.environ.get("DAEMON_MINUTES", "10"))
"""How long the writer writes."""
JOB = "orders_refresh_job"
COLUMNS = {
    "orders_dataset": ("SELECT id, placed_at, city, amount FROM orders", "dataset_id, placed_at, city, amount"),
    "orders_results": (
        "SELECT order_id, id, placed_at, metric_score FROM reviews",
        "dataset_id, review_id, placed_at, metric_score",
    ),
}


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    url = postgres.url("postgres").get_secret_value()
    scenario.create_source(url)
    return url


@pytest.fixture
def shop(tmp_path: Path, url: str) -> Workplace:
    """A working folder with a code location of its own: the orders, refreshed every minute."""
    place = Workplace(tmp_path / "workplace", {scenario.URL: url})
    open_shop(place.folder, scenario.spec(refresh_interval_minutes=1))
    place.environment["PYTHONPATH"] = str(REPOSITORY)
    return place


@pytest.fixture
def writer(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes into the source until the test ends it."""
    command = [sys.executable, "-m", "analytics_pipeline_tests.daemon.writer", url]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        yield process
        process.terminate()


def is_filled(place: Workplace, *tables: str) -> bool:
    store = place.home / "store"
    return store.exists() and set(tables) <= open_store(store).manifest().tables.keys()


def differences(place: Workplace, url: str) -> Sequence[str]:
    """The tables whose rows are not those of the source."""
    store, found = open_store(place.home / "store"), []
    try:
        with psycopg.connect(url) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for table, (query, columns) in COLUMNS.items():
                source = sorted(connection.execute(query.encode()).fetchall(), key=str)
                if sorted(store.query(f"SELECT {columns} FROM {table}").rows(), key=str) != source:
                    found.append(table)
    finally:
        store.close()
    return found


def claims_to_sync(place: Workplace, run_id: str) -> bool:
    store = place.home / "store"
    if not store.exists():
        return False
    status = read_status(open_store(store), scenario.spec())
    return status.state is State.SYNCING and status.run_id == run_id


def succeeded_after(place: Workplace, moment: float) -> bool:
    return any(run.status == "SUCCESS" and run.started > moment for run in runs(place))


def test_a_fresh_home_has_data_within_two_minutes_and_nobody_clicked(workplace: Workplace) -> None:
    tables = [f"{name}_{half}" for name in ("monitoring", "human_signals", "eval") for half in ("dataset", "results")]
    with dagster_dev(workplace):
        seconds = wait_for(lambda: is_filled(workplace, *tables), lambda: log_tail(workplace), 120)
        wait_for(lambda: {run.status for run in runs(workplace)} == {"SUCCESS"}, lambda: runs(workplace), 60)

    print(f"filled after {seconds:.0f} s")  # noqa: T201 - a figure for whoever runs the slow tests


def test_refreshes_keep_up_with_a_busy_writer(shop: Workplace, url: str, writer: subprocess.Popen[bytes]) -> None:
    with dagster_dev(shop):
        wait_for(lambda: is_filled(shop, "orders_dataset"), lambda: log_tail(shop), 120)
        time.sleep(60 * MINUTES)
        writer.terminate()
        writer.wait()
        scenario.change_source(url, "UPDATE orders SET city = 'the end' WHERE id = 5")  # so that one more run is due
        quiet = time.time()
        wait_for(lambda: succeeded_after(shop, quiet), lambda: runs(shop), 150)
        wait_for(lambda: all(run.status == "SUCCESS" for run in runs(shop)), lambda: runs(shop), 60)
        idle_from, amount = len(ticks(shop, f"{JOB}_schedule")), len(runs(shop))
        wait_for(lambda: len(ticks(shop, f"{JOB}_schedule")) >= idle_from + 3, lambda: log_tail(shop), 240)

        idle = ticks(shop, f"{JOB}_schedule")[idle_from : idle_from + 2]
        assert [status for status, _ in idle] == ["SKIPPED", "SKIPPED"]
        assert all(reason.startswith("Nothing changed") for _, reason in idle)
        assert len(runs(shop)) == amount
    assert differences(shop, url) == []
    done = runs(shop)
    assert {run.status for run in done} == {"SUCCESS"}
    assert len(done) >= MINUTES - 2
    assert all(before.ended <= after.started for before, after in pairwise(sorted(done, key=lambda run: run.started)))


def test_a_killed_run_is_marked_failed_and_the_next_refresh_heals(shop: Workplace, url: str) -> None:
    with dagster_dev(shop), psycopg.connect(url) as blocker:
        blocker.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")  # so that the run is caught at work
        wait_for(lambda: [run.status for run in runs(shop)][:1] == ["STARTED"], lambda: log_tail(shop), 120)
        run = runs(shop)[0]
        wait_for(lambda: claims_to_sync(shop, run.id), lambda: log_tail(shop), 60)
        pid = pid_of(shop, run.id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        blocker.rollback()

        told = wait_for(lambda: not claims_to_sync(shop, run.id), lambda: log_tail(shop), 60)
        freed = wait_for(lambda: runs(shop)[0].status == "FAILURE", lambda: runs(shop), 60)
        healed = wait_for(lambda: succeeded_after(shop, run.started), lambda: runs(shop), 180)

    assert differences(shop, url) == []
    print(f"status true after {told:.0f} s, run marked {freed:.0f} s later, healed after {healed:.0f} s more")  # noqa: T201 - as above


def test_a_pulled_plug_leaves_no_run_that_looks_alive(shop: Workplace, url: str) -> None:
    """The code server that would notice is dead as well, and the run's pool would stay taken for hours."""
    with dagster_dev(shop) as server, psycopg.connect(url) as blocker:
        blocker.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        wait_for(lambda: [run.status for run in runs(shop)][:1] == ["STARTED"], lambda: log_tail(shop), 120)
        run = runs(shop)[0]
        wait_for(lambda: claims_to_sync(shop, run.id), lambda: log_tail(shop), 60)
        kill_group(server)
        os.kill(pid_of(shop, run.id) or 0, signal.SIGKILL) if _lives(pid_of(shop, run.id)) else None
        blocker.rollback()
    assert runs(shop)[0].status == "STARTED"

    with dagster_dev(shop):
        freed = wait_for(lambda: runs(shop)[0].status == "FAILURE", lambda: log_tail(shop), 90)
        wait_for(lambda: succeeded_after(shop, run.started), lambda: runs(shop), 180)

    assert differences(shop, url) == []
    print(f"marked {freed:.0f} s after the restart")  # noqa: T201 - as above


SLEEPING = (
    "ALTER TABLE orders RENAME TO placed",
    "CREATE VIEW orders AS SELECT placed.* FROM placed, pg_sleep(60)",
)
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


def test_a_cancel_in_dagster_ends_the_run_and_its_query(shop: Workplace, url: str) -> None:
    """The run went on for up to an hour, and so did its query in the source."""
    for statement in SLEEPING:
        scenario.change_source(url, statement)
    with dagster_dev(shop) as server, psycopg.connect(url, autocommit=True) as watcher:
        wait_for(lambda: [run.status for run in runs(shop)][:1] == ["STARTED"], lambda: log_tail(shop), 120)
        run = runs(shop)[0]
        wait_for(lambda: watcher.execute(ASLEEP).fetchone() != (0,), lambda: log_tail(shop), 60)
        began = time.monotonic()
        cancel(server, run.id)
        wait_for(lambda: watcher.execute(ASLEEP).fetchone() == (0,), lambda: log_tail(shop), 5)
        idle = time.monotonic() - began
        wait_for(lambda: runs(shop)[0].status == "CANCELED", lambda: runs(shop), 5)
        ended = time.monotonic() - began
        status = read_status(open_store(shop.home / "store"), scenario.spec())
    assert (status.state, status.run_id) == (State.CANCELLED, run.id)
    print(f"source idle after {idle:.1f} s, run canceled after {ended:.1f} s")  # noqa: T201 - as above


def _lives(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()
