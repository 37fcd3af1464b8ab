"""A whole sync through a pooler, from a standby, in another encoding, time zone and date style.

Each is first, unchanged, changed, audited and checked, and the store is equal to the source after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.checks import Check
from analytics_pipeline.sync.spec import Half
from analytics_pipeline_tests.servers.fixtures import Pooler
from analytics_pipeline_tests.servers.postgres import InstalledPostgres, Standby, database_of
from analytics_pipeline_tests.sync.conftest import store as store  # a fixture  # noqa: PLC0414
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    RECORDS_OF_SOURCE,
    RECORDS_OF_STORE,
    ROW_VERSIONS,
    asked_of,
    fill,
    job_of,
    published,
    sessions,
    spec_of,
)

pytestmark = pytest.mark.postgres

KINDS: Mapping[str, Mapping[str, Any]] = {"checksum": {}, "row versions": ROW_VERSIONS}
SCORES_OF_SOURCE = "SELECT id, created_at, metric, score FROM scores ORDER BY id, created_at, metric"
SCORES_OF_STORE = "SELECT dataset_id, timestamp, metric, score FROM demo_results ORDER BY ALL"


def assert_equal(store: Store, url: str) -> None:
    assert published(store, RECORDS_OF_STORE) == asked_of(url, RECORDS_OF_SOURCE)
    assert published(store, SCORES_OF_STORE) == asked_of(url, SCORES_OF_SOURCE)


def whole_sync(
    store: Store,
    writes_to: str,
    reads_from: str,
    changes: Mapping[str, Any],
    written: Callable[[], None] = lambda: None,
) -> None:
    """Sync through each verb; `written` is called after each write, before the next read."""
    fill(writes_to)
    written()
    job = job_of(store, reads_from, spec_of(**changes))
    first = job.refresh(now=NOW)
    assert {half: sum(outcome.partitions.values()) for half, outcome in first.halves.items()} == {
        Half.DATASET: 4,
        Half.RESULTS: 5,
    }
    assert_equal(store, writes_to)
    version = store.manifest().version
    assert not job.refresh(now=NOW).halves

    execute(
        writes_to,
        "INSERT INTO records VALUES (9, '2024-01-03 02:30-03:30', 'größen')",
        "UPDATE scores SET score = 0.75 WHERE id = 1",
        "DELETE FROM records WHERE id = 3",
    )
    written()
    assert not job.is_unchanged(now=NOW)
    second = job.refresh(now=NOW)
    assert second.halves[Half.DATASET].partitions.keys() == {"2024-01-03", "2024-01-05"}
    assert second.halves[Half.RESULTS].partitions.keys() == {"2024-01-02"}
    assert_equal(store, writes_to)
    assert store.manifest().version > version
    assert not job.audit(now=NOW).halves
    failing = {check.name for check in job.check(now=NOW) if not check.passed}
    assert failing == {Check.NO_ORPHAN_RESULTS, Check.ROWS_IN_REST}
    job.rebuild(now=NOW)
    assert_equal(store, writes_to)
    assert sessions(writes_to) == 0


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("pool_size", [2, 4, 20])
def test_a_whole_sync_through_a_transaction_pooler(
    postgres_url: str, pooler: Pooler, store: Store, pool_size: int, changes: Mapping[str, Any]
) -> None:
    """The application that shares the pool finds no setting of ours in those of its sessions that are still open."""
    pool = pooler(postgres_url, pool_size)
    pooled = pool.url(database_of(postgres_url))
    query = (
        "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'application_name' "
        "AND name NOT LIKE '%client_encoding' ORDER BY name"
    )

    whole_sync(store, postgres_url, pooled, changes)
    assert job_of(store, pooled, spec_of(**changes)).is_unchanged(now=NOW)  # its session goes back to the pool

    servers = [row for row in pool.shown("servers") if row["database"] == database_of(postgres_url)]
    clients = [psycopg.connect(pooled, prepare_threshold=None) for _ in servers]
    try:
        left = {tuple(client.execute(query.encode()).fetchall()) for client in clients}
    finally:
        for client in clients:
            client.close()
    assert left <= {()}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_a_whole_sync_in_another_time_zone_and_date_style(
    debian_url: str, store: Store, changes: Mapping[str, Any]
) -> None:
    name = database_of(debian_url)
    execute(
        debian_url,
        f"ALTER DATABASE \"{name}\" SET DateStyle = 'SQL, DMY'",
        f"ALTER DATABASE \"{name}\" SET IntervalStyle = 'sql_standard'",
    )
    whole_sync(store, debian_url, debian_url, changes)


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_a_whole_sync_from_a_latin1_database(latin1_url: str, store: Store, changes: Mapping[str, Any]) -> None:
    whole_sync(store, f"{latin1_url}&client_encoding=UTF8", latin1_url, changes)


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_a_whole_sync_from_a_standby(
    debian_url: str, standby: Standby, store: Store, changes: Mapping[str, Any]
) -> None:
    """Its transactions are those of the primary: row versions tell the same, and its snapshots can be exported."""
    replica = standby.url(database_of(debian_url)).get_secret_value()
    whole_sync(store, debian_url, replica, changes, standby.catch_up)


def test_a_promoted_standby_is_synced_from_as_the_primary_was(
    debian_server: InstalledPostgres, debian_url: str, promotable: Standby, store: Store
) -> None:
    """What is unproven after the switch is compared, and found equal."""
    fill(debian_url)
    job_of(store, debian_url).refresh(now=NOW)
    promotable.catch_up()
    promotable.promote()
    promoted = promotable.url(database_of(debian_url)).get_secret_value()
    execute(promoted, "INSERT INTO records VALUES (9, '2024-01-03', 'x')")
    job = job_of(store, promoted)
    assert not job.is_unchanged(now=NOW)
    job.refresh(now=NOW)
    assert_equal(store, promoted)
