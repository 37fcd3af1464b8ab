"""Death in the middle: a sync that ends half-way says why, leaves the store as it was, and nothing behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.errors import (
    AnalyticsError,
    SourceConnectionLost,
    SourceError,
    SourceQueryInvalid,
    SourceStalled,
    SourceTimeout,
    StoreError,
)
from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.store import Store, create_store, open_store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.sync.postgres_reading import execute, proxied
from analytics_pipeline_tests.sync.processes import start, sync_and_tell, sync_until_killed, sync_with_small_files
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    asked_of,
    content,
    fill,
    job_of,
    leavings,
    published,
    sessions,
    spec_of,
)

SLOWLY = (
    "CREATE FUNCTION slowly(bigint) RETURNS text IMMUTABLE LANGUAGE plpgsql AS "
    "'BEGIN PERFORM pg_sleep(0.02); RETURN ''slept''; END'"
)
"""So declared, the query is not doubted: it is read at once, and not fingerprinted before."""

SLOW = "SELECT id, created_at, slowly(id) AS slept FROM records"
MANY = "INSERT INTO records SELECT g, '2024-01-02', repeat(md5(g::text), 40) FROM generate_series(1, 5000) AS g"
STEPS, STRIDE = 60, 4
"""Every fourth step of a sync is tried in each build, the others in the slow suite."""

COUNTS = "SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM scores)"


def published_then_changed(store: Store, url: str) -> None:
    """A synced store whose source has many new rows."""
    fill(url)
    job_of(store, url).refresh(now=NOW)
    execute(url, MANY, SLOWLY)


def fails_as(expected: type[AnalyticsError], store: Store, sync: Callable[[], object]) -> str:
    """A sync that must fail so, and leave the store as it was; gives the error's words."""
    before, manifest = content(store), store.manifest()
    with pytest.raises(expected) as caught:
        sync()
    assert content(store) == before
    assert open_store(store.root).manifest() == manifest
    assert leavings(store) == set()
    assert published(store, "SELECT count(*) FROM demo_dataset") == [(4,)]
    return str(caught.value)


def recovers(store: Store, url: str) -> None:
    """Locks are free: the next sync works, and a sweep finds nothing to do."""
    job_of(store, url).refresh(now=NOW)
    counts = "SELECT (SELECT count(*) FROM demo_dataset), (SELECT count(*) FROM demo_results)"
    assert published(store, counts) == asked_of(url, COUNTS)
    assert store.sweep().orphans == ()
    assert leavings(store) == set()


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_a_server_that_crashes_during_a_read(postgres: EmbeddedPostgres, store: Store, tier: Tier) -> None:
    """Otherwise the rows that had arrived are published as the whole partition."""
    url = postgres.url("postgres").get_secret_value()
    published_then_changed(store, url)
    reading = once_reading(url, lambda: postgres.stop("immediate"))
    job = job_of(store, url, spec_of(dataset_query=SLOW, sync_chunk_size=100), tier=tier)
    message = fails_as(SourceError, store, lambda: job.replace(Selection(), now=NOW))
    reading.join()
    assert any(words in message for words in ("was lost", "No connection to"))
    postgres.start()
    recovers(store, url)


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_a_backend_that_is_terminated_during_a_read(postgres_url: str, store: Store, tier: Tier) -> None:
    """Otherwise an administrator who ends a session shortens a table."""
    published_then_changed(store, postgres_url)
    reading = once_reading(postgres_url, lambda: end_sessions(postgres_url, "wait_event = 'PgSleep'"))
    job = job_of(store, postgres_url, spec_of(dataset_query=SLOW, sync_chunk_size=100), tier=tier)
    message = fails_as(SourceConnectionLost, store, lambda: job.replace(Selection(), now=NOW))
    reading.join()
    assert "terminating connection due to administrator command" in message
    recovers(store, postgres_url)
    assert sessions(postgres_url) == 0


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_a_connection_that_freezes_during_a_read(postgres_url: str, store: Store, tier: Tier) -> None:
    """Otherwise a firewall that forgets a connection stops a dataset for good, and no later sync may begin."""
    published_then_changed(store, postgres_url)
    with proxied(postgres_url) as proxy:
        reading = once_reading(postgres_url, proxy.freeze)
        spec = spec_of(dataset_query=SLOW, sync_chunk_size=100, query_timeout=2)
        job = job_of(store, proxy.url, spec, tier=tier, stall_timeout=1.0)
        message = fails_as(SourceStalled, store, lambda: job.replace(Selection(), now=NOW))
        reading.join()
    assert "127.0.0.1" in message
    recovers(store, postgres_url)


def test_a_query_that_runs_into_its_timeout(postgres_url: str, store: Store) -> None:
    """Otherwise a slow query keeps the source's locks for hours, or ends without a reason."""
    published_then_changed(store, postgres_url)
    spec = spec_of(dataset_query=SLOW, query_timeout=1)
    message = fails_as(SourceTimeout, store, lambda: job_of(store, postgres_url, spec).replace(Selection(), now=NOW))
    assert "statement timeout" in message
    assert "Raise query_timeout" in message
    recovers(store, postgres_url)


def test_the_first_failure_stops_the_other_half_and_is_the_one_told(postgres_url: str, store: Store) -> None:
    """Otherwise a typing error in one query is reported after the hours that the other one takes, or not at all."""
    published_then_changed(store, postgres_url)
    spec = spec_of(
        dataset_query="SELECT id, created_at, 1 / (id - 3) AS x FROM records WHERE id < 5",
        results_query="SELECT id, created_at, pg_sleep(3600)::text AS slept FROM scores",
    )
    before = threading.active_count()
    message = fails_as(
        SourceQueryInvalid, store, lambda: job_of(store, postgres_url, spec).replace(Selection(), now=NOW)
    )
    assert "division by zero" in message
    assert threading.active_count() <= before + 1  # the thread that cancels may be about to end
    assert sessions(postgres_url) == 0
    recovers(store, postgres_url)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=4m tmpfs {folder} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("mounting a small tmpfs takes root")
    yield folder
    assert os.system(f"umount -l {folder}") == 0  # noqa: S605


def test_a_full_disk_is_told_in_words(postgres_url: str, small_disk: Path) -> None:
    """Otherwise the run ends with an error number inside a trace of a Parquet library."""
    store = create_store(small_disk / "store")
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    execute(
        postgres_url,
        MANY.replace(
            "repeat(md5(g::text), 40)", "(SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 100) i)"
        ),
    )
    message = fails_as(StoreError, store, lambda: job_of(store, postgres_url).refresh(now=NOW))
    assert str(store.root) in message
    assert any(words in message for words in ("Free some space", "Make room"))
    execute(postgres_url, "DELETE FROM records WHERE id > 4")
    recovers(store, postgres_url)
    store.close()


def test_a_file_size_limit_is_told_in_words(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """As above, for those who may not mount: a quota."""
    published_then_changed(store, postgres_url)
    told, before = tmp_path / "told", content(store)
    process = start(sync_with_small_files, store.root, postgres_url, 20_000, told)
    process.join()
    assert "StoreDiskFull: The disk of" in told.read_text()
    assert content(store) == before
    assert leavings(store) == set()
    recovers(store, postgres_url)


@pytest.mark.parametrize("begin", [0, *(pytest.param(begin, marks=pytest.mark.slow) for begin in range(1, STRIDE))])
def test_A5_a_sync_killed_at_any_step_duplicates_nothing(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, begin: int
) -> None:
    """Otherwise a crash between the rows and the note that they were written doubles them at the next run."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    for step in range(begin, STEPS, STRIDE):
        execute(postgres_url, f"INSERT INTO records VALUES ({100 + step}, '2024-01-0{1 + step % 9}', 'k')")
        process = start(sync_until_killed, store.root, postgres_url, step)
        process.join()
        rows = published(store, "SELECT count(*), count(DISTINCT dataset_id) FROM demo_dataset")[0]
        assert rows[0] == rows[1]
        job_of(store, postgres_url).refresh(now=NOW)
        assert published(store, "SELECT count(*) FROM demo_dataset") == asked_of(
            postgres_url, "SELECT count(*) FROM records"
        )
        assert leavings(store) == set()
        if process.exitcode == 0:
            break
    assert process.exitcode == 0, "the last step was reached"
    assert step > 5


def test_A8_others_open_and_read_the_store_during_a_sync(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, tmp_path: Path
) -> None:
    """Otherwise nobody can look at yesterday's figures while today's are fetched; and two syncs would mix."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    execute(postgres_url, "INSERT INTO records VALUES (5, '2024-01-02', 'e')")
    told = [tmp_path / "first", tmp_path / "second"]
    with psycopg.connect(postgres_url) as blocker:
        blocker.execute("LOCK TABLE scores IN ACCESS EXCLUSIVE MODE")  # the first sync waits for this
        first = start(sync_and_tell, store.root, postgres_url, told[0])
        wait_for(postgres_url, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        other = open_store(store.root)
        assert published(other, "SELECT count(*) FROM demo_data") == [(5,)]
        other.close()
        second = start(sync_and_tell, store.root, postgres_url, told[1])
        while not told[1].exists() or not told[1].read_text():
            assert second.is_alive()
        assert told[1].read_text() == f"Waiting for process {first.pid}, which holds .dataset-demo.lock.\n"
    first.join()
    second.join()
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert told[1].read_text().endswith("done\n")
    assert store.manifest().version == 2, "the second one found nothing to do"


def once_reading(url: str, act: Callable[[], object]) -> threading.Thread:
    """Act as soon as the slow query runs."""

    def watch() -> None:
        wait_for(
            url,
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
        )
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def wait_for(url: str, question: str) -> None:
    """Ask Postgres until it says yes."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(question.encode()).fetchone() != (True,):
            pass


def end_sessions(url: str, condition: str) -> None:
    execute(
        url,
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {condition} "
        "AND application_name LIKE 'analytics_pipeline%' AND datname = current_database()",
    )
