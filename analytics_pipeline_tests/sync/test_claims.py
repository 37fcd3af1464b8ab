"""What a sync claims of the store: only what it has looked at, in the source that it was told of."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr, ValidationError

from analytics_pipeline.errors import DuplicateKeys, SourceConnectionRefused, TooManyPartitions
from analytics_pipeline.store import Store
from analytics_pipeline.sync.checks import Check, CheckResult
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.outcome import SyncOutcome
from analytics_pipeline.sync.reset import forget_fingerprints
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, ROW_VERSIONS, fill, job_of, published, spec_of


def check_of(outcome: SyncOutcome, name: Check, half: Half) -> CheckResult:
    (found,) = [check for check in outcome.checks if check.name is name and check.table == f"demo_{half.value}"]
    return found


def verified(job: SyncJob) -> SyncJob:
    """A job whose gate is closed: nothing was written since its last refresh."""
    job.refresh(now=NOW)
    assert job.is_unchanged(now=NOW)
    return job


@pytest.mark.parametrize("option", ["-csearch_path=other", "-capp.tenant=other"])
def test_the_gate_of_another_session_proves_nothing(postgres_url: str, store: Store, option: str) -> None:
    """Options of a URL decide which tables and rows its queries mean."""
    fill(postgres_url)
    job = verified(job_of(store, postgres_url))
    joint = "&" if "?" in postgres_url else "?"
    other = replace(job, url=SecretStr(f"{postgres_url}{joint}options={option.replace('=', '%3D')}"))
    assert not other.is_unchanged(now=NOW)


def test_a_search_path_that_moves_without_a_transaction_opens_the_gate(postgres_url: str, store: Store) -> None:
    """A reload of the server's settings is no write."""
    fill(postgres_url)
    execute(postgres_url, "CREATE SCHEMA other")
    job = verified(job_of(store, postgres_url))
    try:
        execute(postgres_url, "ALTER SYSTEM SET search_path = 'other', 'public'", "SELECT pg_reload_conf()")
        while _search_path(postgres_url) == '"$user", public':
            pass
        assert not job.is_unchanged(now=NOW)
    finally:
        execute(postgres_url, "ALTER SYSTEM RESET search_path", "SELECT pg_reload_conf()")


def _search_path(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW search_path").fetchone()
        assert row
        return str(row[0])


def test_what_somebody_else_published_is_not_verified(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """A restored state looks like a fresh one."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    store.backup(tmp_path / "backup")
    execute(postgres_url, "DELETE FROM scores")
    job.refresh(now=NOW)
    assert read_status(store, job.spec).rows["demo_results"] == 0
    store.restore(tmp_path / "backup")
    status = read_status(store, job.spec)
    assert (status.state, status.rows["demo_results"], status.last_verified) == (State.READY, 5, None)
    assert job.refresh(now=NOW).halves.keys() == {Half.RESULTS}
    assert read_status(store, job.spec).last_verified is not None


def test_a_reset_leaves_nothing_verified_and_nothing_truncated(postgres_url: str, store: Store) -> None:
    """Its partitions are there, only their fingerprints are not."""
    fill(postgres_url)
    job = verified(job_of(store, postgres_url))
    forget_fingerprints(store, job.spec)
    status = read_status(store, job.spec)
    assert (status.last_verified, status.truncated) == (None, False)
    assert job.refresh(now=NOW).halves.keys() == set(Half)


def test_a_key_that_is_declared_later_is_checked_before_it_passes(postgres_url: str, store: Store) -> None:
    """Nothing is read for it, for no row changed."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    doubled = job_of(store, postgres_url, spec_of(primary_key={"results": ["id"]}))
    (unknown,) = [check for check in doubled.check(now=NOW) if check.name is Check.UNIQUE_KEYS]
    assert not unknown.passed
    with pytest.raises(DuplicateKeys, match=r"demo_results: 1 keys \(id\)"):
        doubled.refresh(now=NOW)
    unique = job_of(store, postgres_url, spec_of(primary_key={"dataset": ["id"]}))
    assert not check_of(unique.refresh(now=NOW), Check.EQUALS_SOURCE, Half.DATASET).numbers["partitions_read"]
    assert check_of(unique.refresh(now=NOW), Check.UNIQUE_KEYS, Half.DATASET).passed


def test_a_check_by_hand_sees_other_values_in_as_many_rows(postgres_url: str, store: Store) -> None:
    """Equal counts are no equality."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "UPDATE records SET model = 'z' WHERE id = 3")
    found = {check.table: check for check in job.check(now=NOW) if check.name is Check.EQUALS_SOURCE}
    assert "2024-01-05 (other values in 1 rows)" in found["demo_dataset"].description
    assert (found["demo_dataset"].passed, found["demo_results"].passed) == (False, True)


def test_a_check_by_hand_sees_that_the_columns_are_others(postgres_url: str, store: Store) -> None:
    """Then no fingerprint can be compared, which is no equality either."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "ALTER TABLE records ADD COLUMN extra int")
    found = {check.table: check for check in job.check(now=NOW) if check.name is Check.EQUALS_SOURCE}
    assert not found["demo_dataset"].passed
    assert "others now" in found["demo_dataset"].description


def test_a_first_sync_tells_what_it_read(postgres_url: str, store: Store) -> None:
    """Nothing was compared, and yet all is equal: it was read in this very snapshot."""
    fill(postgres_url)
    check = check_of(job_of(store, postgres_url).refresh(now=NOW), Check.EQUALS_SOURCE, Half.RESULTS)
    assert check.passed
    assert (check.numbers["partitions_read"], check.numbers["rows_in_source"]) == (11, 5)


def test_row_versions_of_results_do_not_tell_whose_record_is_kept(postgres_url: str, store: Store) -> None:
    """Results written by one transaction have one version, whichever record comes and goes."""
    fill(postgres_url)
    execute(
        postgres_url,
        "TRUNCATE records, scores",
        "INSERT INTO records VALUES (1, '2024-01-09', 'a'), (2, '2024-01-02', 'b')",
        "INSERT INTO scores VALUES (1, '2024-01-10', 'm', 1), (2, '2024-01-10', 'm', 2)",
    )
    job = job_of(store, postgres_url, spec_of(max_sync_rows=1, **ROW_VERSIONS))
    job.refresh(now=NOW)
    execute(
        postgres_url,
        "UPDATE records SET created_at = CASE id WHEN 1 THEN timestamptz '2024-01-02' ELSE '2024-01-09' END",
    )
    job.refresh(now=NOW)
    assert published(store, "SELECT dataset_id FROM demo_dataset") == [(2,)]
    assert published(store, "SELECT dataset_id FROM demo_results") == [(2,)]


def test_keys_of_two_types_that_join_do_so_within_a_limit(postgres_url: str, store: Store) -> None:
    """A uuid and its text are one key in the store."""
    execute(
        postgres_url,
        "CREATE TABLE records (id uuid, created_at timestamptz)",
        "CREATE TABLE scores (id text, created_at timestamptz)",
        "INSERT INTO records SELECT md5(g::text)::uuid, date '2024-01-01' + g FROM generate_series(1, 4) g",
        "INSERT INTO scores SELECT upper(id::text), created_at FROM records",
        "INSERT INTO scores SELECT id::text, created_at FROM records",
    )
    job_of(store, postgres_url, spec_of(max_sync_rows=3)).refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_dataset") == [(3,)]
    assert published(store, "SELECT count(*) FROM demo_results") == [(3,)]


def test_a_rebuild_within_a_limit_replaces_the_whole_table(postgres_url: str, store: Store) -> None:
    """A column that the source dropped goes with it, as without a limit."""
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(max_sync_rows=2))
    job.refresh(now=NOW)
    execute(postgres_url, "ALTER TABLE records DROP COLUMN model")
    outcome = job.rebuild(now=NOW)
    table = outcome.manifest.tables["demo_dataset"]
    assert "model_name" not in [column.name for column in table.columns]
    assert {partition.sync_id for partition in table.partitions.values()} == {outcome.sync_id}
    assert read_status(store, job.spec).truncated


def test_the_limit_is_known_without_the_status_file(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(max_sync_rows=2))
    job.refresh(now=NOW)
    (store.root.parent / "status" / "demo.json").unlink()
    assert read_status(store, job.spec).truncated


def test_a_status_that_cannot_be_written_fails_no_sync(postgres_url: str, store: Store) -> None:
    """What is published is told to Dagster, or nobody would ever hear of it."""
    fill(postgres_url)
    told: list[str] = []
    folder = store.root.parent / "status"

    def log(line: str) -> None:
        told.append(line)
        while line.startswith("demo_results:") and not folder.is_file():
            with suppress(OSError):  # the heartbeat may be writing
                folder.rename(folder.with_name(f"status-{uuid.uuid4().hex}"))
                folder.write_text("in the way")

    outcome = job_of(store, postgres_url, log=log).refresh(now=NOW)
    assert outcome.halves.keys() == set(Half)
    assert [line for line in told if "its status could not be written" in line]
    folder.unlink()
    assert job_of(store, postgres_url).refresh(now=NOW).manifest.version == outcome.manifest.version
    assert read_status(store, spec_of()).state is State.READY


@pytest.mark.parametrize(
    "damage",
    [
        b'{"dataset": "demo", "state": "syncing", "heartbeat": "2026-11-21T00:00:00"}',
        b'{"dataset": "demo", "state": "error", "last_sync": "2026-11-21T00:00:00"}',
        b'{"dataset": "demo", "state": "error", "rows": [1]}',
        b'{"dataset": "demo", "state": "ready", "rows": {"demo_dataset": "x"}}',
        b"[" * 100_000,
    ],
)
def test_a_status_of_wrong_types_is_none(postgres_url: str, store: Store, damage: bytes) -> None:
    """It would stop each refresh until somebody deletes it."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    (store.root.parent / "status" / "demo.json").write_bytes(damage)
    assert read_status(store, job.spec).state is State.READY
    job.refresh(now=NOW)
    assert read_status(store, job.spec).last_verified is not None


def test_a_rebuild_forgets_the_windows_of_a_clock_that_was_wrong(postgres_url: str, store: Store) -> None:
    """A refresh keeps them, for another machine's clock may only be ahead."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW + timedelta(days=30))
    assert len(job.refresh(now=NOW).manifest.tables["demo_dataset"].partitions) == 41
    assert len(job.rebuild(now=NOW).manifest.tables["demo_dataset"].partitions) == 11


def test_a_clock_that_is_wrong_by_millennia_is_named(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    with pytest.raises(TooManyPartitions, match="this machine's clock"):
        job_of(store, postgres_url).refresh(now=datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_sync_rows": True}, "is a number, not true or false"),
        ({"refresh_interval_minutes": True}, "is a number, not true or false"),
        ({"primary_key": {"dataset": []}}, "primary_key"),
        ({"primary_key": {"dataset": [None]}}, "is a name, or a list of names"),
        ({"filter_columns": [" "]}, "is a name, or a list of names"),
        ({"visible_metrics": []}, "visible_metrics"),
        ({"auto_load": True, "sync_mode": "manual"}, "remove auto_load"),
    ],
)
def test_values_that_would_switch_off_what_was_asked_for_are_refused(changes: dict[str, Any], says: str) -> None:
    """`yes` would be one row, an empty key no check at all."""
    with pytest.raises(ValidationError, match=says):
        spec_of(**changes)


@pytest.mark.parametrize("option", ["-c foo=bar", "-c work_mem=lots"])
def test_a_connection_that_will_never_be_accepted_is_tried_once(postgres_url: str, store: Store, option: str) -> None:
    """Waiting cures no wrong option."""
    fill(postgres_url)
    joint = "&" if "?" in postgres_url else "?"
    told: list[str] = []
    url = f"{postgres_url}{joint}options={option.replace(' ', '%20').replace('=', '%3D')}"
    with pytest.raises(SourceConnectionRefused, match="Correct the options"):
        job_of(store, url, log=told.append, pauses=(60.0,)).refresh(now=NOW)
    assert not [line for line in told if "trying again" in line]
