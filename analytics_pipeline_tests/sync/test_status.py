"""The status: true at any time, also after a kill, a restart, a loss of its file."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.errors import SourceNameMissing
from analytics_pipeline.store import Store, open_store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import SILENCE, State, SyncType, read_status, write_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.processes import start, sync_and_tell
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, spec_of


def test_an_empty_store_is_not_synced(store: Store) -> None:
    """Otherwise nobody knows whether to wait or to press the button."""
    status = read_status(store, spec_of())
    assert (status.state, status.last_sync, status.last_verified) == (State.NOT_SYNCED, None, None)


def test_a_sync_leaves_what_people_ask_for(postgres_url: str, store: Store) -> None:
    """Full at first; then the rows that came, less those that went."""
    fill(postgres_url)
    job = replace(job_of(store, postgres_url), run_id="run-1")
    job.refresh(now=NOW)
    first = read_status(store, job.spec)
    assert (first.state, first.sync_type, first.run_id) == (State.READY, SyncType.FULL, "run-1")
    assert (first.last_incremental, first.incremental_rows, first.heartbeat) == (None, 0, None)
    assert first.rows == {"demo_dataset": 4, "demo_results": 5, "demo_data": 5}
    assert first.watermarks == {
        "demo_dataset": "2024-01-05T12:00:00+00:00",
        "demo_results": "2024-01-09T00:00:00+00:00",
    }
    execute(postgres_url, "DELETE FROM scores WHERE id = 1", "INSERT INTO records VALUES (7, '2024-01-05', 'new')")
    job.refresh(now=NOW)
    second = read_status(store, job.spec)
    assert (second.sync_type, second.incremental_rows) == (SyncType.INCREMENTAL, -1)
    assert first.last_sync is not None
    assert second.last_sync is not None
    assert second.last_sync > first.last_sync
    assert second.last_incremental == second.last_sync


def test_the_watermark_is_the_newest_row_whatever_partition_holds_it(postgres_url: str, store: Store) -> None:
    """A row of the future lies among those that belong to no window."""
    fill(postgres_url)
    execute(postgres_url, "INSERT INTO records VALUES (8, '2024-02-01 00:00+00', 'future')")
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    assert read_status(store, job.spec).watermarks["demo_dataset"] == "2024-02-01T00:00:00+00:00"


def test_a_selection_is_told_until_the_next_refresh(postgres_url: str, store: Store) -> None:
    """It promises its window and its half only."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.replace(Selection(frozenset({Half.DATASET})), now=NOW)
    status = read_status(store, job.spec)
    assert "demo_dataset" in (status.message or "")
    assert status.last_verified is None
    job.refresh(now=NOW)
    assert read_status(store, job.spec).message is None


def test_a_failure_is_the_status_with_its_sentence(postgres_url: str, store: Store) -> None:
    """And what was known of the data stays known."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    before = read_status(store, job.spec)
    execute(postgres_url, "ALTER TABLE scores RENAME TO other")
    with pytest.raises(SourceNameMissing):
        job.refresh(now=NOW)
    after = read_status(store, job.spec)
    assert after.state is State.ERROR
    assert "scores" in (after.message or "")
    assert (after.last_sync, after.last_verified, after.rows) == (before.last_sync, before.last_verified, before.rows)


def tell_status(root: Path, told: Path) -> None:
    """What another process knows of the dataset."""
    told.write_text(repr(read_status(open_store(root), spec_of())))


def test_A8_a_new_process_knows_the_status(postgres_url: str, store: Store, tmp_path: Path) -> None:  # noqa: N802
    """Otherwise everything looks unsynced after a restart, or at least as if nobody knew how fresh it is."""
    fill(postgres_url)
    before = datetime.now(UTC)
    replace(job_of(store, postgres_url), run_id="run-8").refresh(now=NOW)
    known = read_status(store, spec_of())
    assert (known.state, known.run_id, known.rows["demo_data"]) == (State.READY, "run-8", 5)
    assert known.last_verified is not None
    assert before <= known.last_verified <= datetime.now(UTC)
    process = start(tell_status, store.root, tmp_path / "told")
    process.join()
    assert (tmp_path / "told").read_text() == repr(known)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"dataset": "demo"}', None])
def test_a_lost_or_broken_file_is_made_up_for(postgres_url: str, store: Store, damage: bytes | None) -> None:
    """The published store tells what it can."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    file = store.root.parent / "status" / "demo.json"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    status = read_status(store, job.spec)
    assert (status.state, status.rows["demo_results"], status.last_verified) == (State.READY, 5, None)
    job.refresh(now=NOW)
    assert read_status(store, job.spec).last_verified is not None


def test_a_sync_without_heartbeat_is_interrupted(store: Store) -> None:
    """Half a minute of silence is long: a live sync writes every five seconds."""
    spec = spec_of()
    silent = SILENCE + timedelta(seconds=1)
    for age, state in ((timedelta(seconds=5), State.SYNCING), (silent, State.ERROR), (-2 * silent, State.ERROR)):
        status = replace(read_status(store, spec), state=State.SYNCING, heartbeat=datetime.now(UTC) - age)
        write_status(store, spec, status)
        assert read_status(store, spec).state is state
    assert "interrupted" in (read_status(store, spec).message or "")


def test_a_killed_sync_was_syncing_and_the_next_one_is_ready(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """The file of a dead process must neither stop the next sync nor outlive it."""
    fill(postgres_url)
    with psycopg.connect(postgres_url) as blocker:
        blocker.execute("LOCK TABLE scores IN ACCESS EXCLUSIVE MODE")
        process = start(sync_and_tell, store.root, postgres_url, tmp_path / "told")
        while read_status(store, spec_of()).state is not State.SYNCING:
            assert process.is_alive()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    file = store.root.parent / "status" / "demo.json"
    values = json.loads(file.read_text())
    values["heartbeat"] = (datetime.now(UTC) - SILENCE - timedelta(seconds=1)).isoformat()
    file.write_text(json.dumps(values))
    assert read_status(store, spec_of()).state is State.ERROR
    job_of(store, postgres_url).refresh(now=NOW)
    assert read_status(store, spec_of()).state is State.READY


def test_the_status_holds_no_secret(postgres_url: str, store: Store) -> None:
    """It is a plain file, and its message an error's."""
    fill(postgres_url)
    url = postgres_url.replace("postgres@", "postgres:geheim-42@")
    job = job_of(store, url)
    job.refresh(now=NOW)
    with pytest.raises(SourceNameMissing):
        job_of(store, url, spec_of(dataset_query="SELECT * FROM nowhere")).refresh(now=NOW)
    for file in (store.root.parent / "status").iterdir():
        assert "geheim" not in file.read_text()
