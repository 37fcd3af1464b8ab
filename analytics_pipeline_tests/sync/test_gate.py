"""The gate: it is believed only where it proves that nothing changed, and costs one question."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import Selection, SyncJob
from analytics_pipeline.sync.gate import source_gate
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import State, read_status, write_status
from analytics_pipeline_tests.servers.postgres import chosen_server
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, asked_of, fill, job_of, published, spec_of


@pytest.fixture(scope="module")
def quiet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that nobody else writes to: transactions of any database count."""
    server = chosen_server(tmp_path_factory.mktemp("quiet") / "data")
    server.start()
    execute(server.url("postgres").get_secret_value(), "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
    yield server
    server.stop("immediate")


@pytest.fixture
def quiet_url(quiet_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> str:
    """An empty database of that server."""
    name = f"gate_{abs(hash(request.node.name)) % 10**9}"
    execute(quiet_server.url("postgres").get_secret_value(), f"CREATE DATABASE {name}")
    return quiet_server.url(name).get_secret_value()


@pytest.fixture
def job(quiet_url: str, store: Store) -> SyncJob:
    """A dataset that was refreshed once."""
    fill(quiet_url)
    job = job_of(store, quiet_url)
    job.refresh(now=NOW)
    return job


def test_nothing_changed_makes_no_commit_and_moves_last_verified(job: SyncJob, store: Store) -> None:
    """Otherwise a quiet source looks stale, or a tick costs a scan."""
    before, version = read_status(store, job.spec), store.manifest().version
    assert job.is_unchanged(now=NOW)
    after = read_status(store, job.spec)
    assert before.last_verified is not None
    assert after.last_verified is not None
    assert after.last_verified > before.last_verified
    assert replace(after, last_verified=before.last_verified) == before
    assert not job.refresh(now=NOW).halves
    assert store.manifest().version == version


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO records VALUES (9, '2024-01-03', 'x')",
        "UPDATE scores SET score = 0.75 WHERE id = 1",
        "DELETE FROM records WHERE id = 1",
        "TRUNCATE scores",
        "ALTER TABLE records ADD COLUMN extra int",
    ],
)
def test_every_write_opens_the_gate(job: SyncJob, quiet_url: str, change: str) -> None:
    """A gate that sleeps through a change loses rows."""
    assert job.is_unchanged(now=NOW)
    execute(quiet_url, change)
    assert not job.is_unchanged(now=NOW)


def test_switched_off_counters_do_not_fool_the_gate(
    job: SyncJob, quiet_server: EmbeddedPostgres, quiet_url: str, store: Store
) -> None:
    """With track_counts = off, statistics never move."""
    admin = quiet_server.url("postgres").get_secret_value()
    execute(admin, "ALTER SYSTEM SET track_counts = off", "SELECT pg_reload_conf()")
    try:
        execute(quiet_url, "INSERT INTO records VALUES (9, '2024-01-03', 'x')")
        assert not job.is_unchanged(now=NOW)
        assert job.refresh(now=NOW).halves[Half.DATASET].partitions == {"2024-01-03": 1}
    finally:
        execute(admin, "ALTER SYSTEM RESET track_counts", "SELECT pg_reload_conf()")
    assert store.manifest().tables["demo_dataset"].rows == 5


def test_while_a_transaction_is_in_progress_nothing_is_proven(quiet_url: str, store: Store) -> None:
    """Its end may leave a replica's snapshot as it was."""
    fill(quiet_url)
    with psycopg.connect(quiet_url) as writer, psycopg.connect(quiet_url, autocommit=True) as other:
        writer.execute("INSERT INTO records VALUES (9, '2024-01-03', 'x')")
        other.execute("INSERT INTO scores VALUES (9, '2024-01-03', 'm', 1)")  # a later transaction that has ended
        with psycopg.connect(quiet_url) as reader:
            assert source_gate(reader) is None
        job = job_of(store, quiet_url)
        job.refresh(now=NOW)
        assert read_status(store, job.spec).gate is None
        assert not job.is_unchanged(now=NOW)
        writer.commit()
    job.refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_dataset") == [(5,)]
    assert job.is_unchanged(now=NOW)


def test_a_new_window_opens_the_gate(job: SyncJob, quiet_url: str) -> None:
    """Rows of the future become rows of the new day, although nobody wrote anything."""
    execute(quiet_url, "INSERT INTO records VALUES (9, '2024-01-11 08:00+00', 'tomorrow')")
    job.refresh(now=NOW)
    tomorrow = NOW + timedelta(days=1)
    assert job.is_unchanged(now=NOW + timedelta(hours=11))
    assert not job.is_unchanged(now=tomorrow)
    assert "2024-01-11" in job.refresh(now=tomorrow).halves[Half.DATASET].partitions


def test_another_spec_opens_the_gate(job: SyncJob, quiet_url: str, store: Store) -> None:
    """A changed filter of the metadata needs a refresh, though the source is as it was."""
    assert not job_of(store, quiet_url, spec_of(filter_columns=["model_name"])).is_unchanged(now=NOW)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM records WHERE created_at < now()",
        "SELECT * FROM records WHERE created_at::date <> CURRENT_DATE",
        "SELECT id, created_at, model FROM records, pg_stat_database WHERE datname = current_database()",
    ],
)
def test_a_query_that_changes_by_itself_has_no_gate(quiet_url: str, store: Store, query: str) -> None:
    """Rows that age out of a query are gone without a write."""
    fill(quiet_url)
    job = job_of(store, quiet_url, spec_of(dataset_query=query))
    job.refresh(now=NOW)
    assert not job.is_unchanged(now=NOW)


def test_after_a_selection_the_gate_stays_open_until_the_next_refresh(job: SyncJob, store: Store) -> None:
    """One replaced day proves nothing about the others."""
    job.replace(Selection(frozenset({Half.RESULTS}), frozenset({"2024-01-02"})), now=NOW)
    status = read_status(store, job.spec)
    assert status.gate is None
    assert "selection" in (status.message or "")
    assert not job.is_unchanged(now=NOW)
    job.refresh(now=NOW)
    assert read_status(store, job.spec).message is None
    assert job.is_unchanged(now=NOW)


def test_a_lost_file_opens_the_gate(job: SyncJob, store: Store) -> None:
    """What is gone here is not equal to the source, whatever the source says."""
    file = next(iter(store.manifest().tables["demo_dataset"].files))
    (store.root / file.path).unlink()
    assert not job.is_unchanged(now=NOW)
    assert job.refresh(now=NOW).halves


def test_a_status_of_another_store_content_proves_nothing(job: SyncJob, store: Store) -> None:
    """After a restore from a backup the store is older than its status."""
    status = read_status(store, job.spec)
    job.rebuild(now=NOW)
    write_status(store, job.spec, status)
    assert not job.is_unchanged(now=NOW)


def test_a_source_that_is_gone_proves_nothing_and_says_so(job: SyncJob) -> None:
    """The run then fails with a sentence; a tick must not."""
    told: list[str] = []
    lost = replace(job, url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), log=told.append)
    assert not lost.is_unchanged(now=NOW)
    assert len(told) == 1


def test_a_crash_of_the_server_opens_the_gate(postgres: EmbeddedPostgres, store: Store, tmp_path: Path) -> None:
    """Unlogged tables are empty afterwards, and lost commits give their numbers to others."""
    url = postgres.url("postgres").get_secret_value()
    fill(url)
    execute(url, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
    job = job_of(store, url)
    job.refresh(now=NOW)
    assert job.is_unchanged(now=NOW)
    postgres.stop("immediate")
    postgres.start()
    assert not job_of(store, postgres.url("postgres").get_secret_value()).is_unchanged(now=NOW)


def test_a_recovery_after_a_killed_backend_opens_the_gate(postgres: EmbeddedPostgres, store: Store) -> None:
    """As a crash, but the server's process lives on: only the position of its last checkpoint tells."""
    url = postgres.url("postgres").get_secret_value()
    fill(url)
    execute(url, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
    job = job_of(store, url)
    job.refresh(now=NOW)
    question = "SELECT pg_postmaster_start_time(), pg_current_snapshot()::text"
    before = asked_of(url, question)
    assert job.is_unchanged(now=NOW)
    kill_a_backend(url)
    assert asked_of(url, question) == before, "nothing else tells"
    assert not job.is_unchanged(now=NOW)


def kill_a_backend(url: str) -> None:
    """Have a server end all sessions and recover, as it does when one of its processes dies."""
    with psycopg.connect(url, autocommit=True) as witness, psycopg.connect(url) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            while True:
                witness.execute("SELECT pg_sleep(0.01)")
    while True:
        with suppress(psycopg.OperationalError):
            return psycopg.connect(url).close()


def test_a_failed_sync_keeps_the_gate_open(job: SyncJob, store: Store) -> None:
    """An error is healed by the next refresh, not by a tick that sees a quiet source."""
    status = read_status(store, job.spec)
    write_status(store, job.spec, replace(status, state=State.ERROR, message="a disk was full"))
    assert not job.is_unchanged(now=NOW)
    job.refresh(now=NOW)
    assert read_status(store, job.spec).state is State.READY


def test_the_present_is_the_default(quiet_url: str, store: Store) -> None:
    """Ticks give no time."""
    execute(
        quiet_url,
        "CREATE TABLE records (id bigint, created_at timestamptz, model text)",
        "CREATE TABLE scores (id bigint, created_at timestamptz, metric text, score float8)",
    )
    day = datetime.now(UTC).date() - timedelta(days=2)
    job = job_of(store, quiet_url, spec_of(start=day.isoformat()))
    job.refresh()
    assert job.is_unchanged()
