"""Kills: a process that dies at any step of a sync is healed by the next refresh, and by nothing else."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics_pipeline.store import Store, open_store
from analytics_pipeline.store.verify import verify_store
from analytics_pipeline.sync.status import SILENCE, DatasetStatus, State, SyncType, read_status, write_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.processes import Verb, refresh_for, start, work_until
from analytics_pipeline_tests.sync.scenario import NOW, asked_of, fill, job_of, leavings, published, sessions, spec_of
from analytics_pipeline_tests.thinning import thinned

STEPS: Mapping[str, str] = {
    "the dataset's lock is held": "call sync.status.syncing",
    "the status says syncing": "return sync.status.write_status",
    "the snapshot is open": "call sync.attempt.Attempt._plans",
    "the plans are made": "return sync.attempt.Attempt._plans",
    "the stage is open": "call sync.attempt.Attempt._read",
    "the queries are judged": "return sync.judge.Judge._ask",
    "a half is compared": "return sync.changes.changed",
    "rows are written": "return sync.routing.Router.take",
    "files are closed": "return store.files.PartitionedWriter.close",
    "a half is read": "return sync.reading.Reading.half",
    "both halves are read": "call sync.publishing.Publishing.commit",
    "the metadata is counted": "return sync.metadata.dataset_figures",
    "the commit's lock is held": "call store.commit._take_files",
    "the files are in their places": "return store.commit._check_files",
    "the catalog is built": "return store.commit._place_catalog",
    "the manifest is written": "return store.manifest_file.write_manifest",
    "the version is claimed": "return store.commit._claim",
    "the catalog is published": "return store.catalog.publish_catalog",
    "old versions are pruned": "return store.commit.prune",
    "the stage is removed": "return store.stage._remove",
    "the outcome is known": "return sync.outcome.status_after",
    "the status says ready": "call sync.engine.SyncJob._sweep",
    "dead stages are swept": "return store.stage.sweep_stages",
    "unlisted files are swept": "return store.sweep._remove_unlisted",
    "retired files are forgotten": "return store.manifest.Manifest.without_retired",
    "all is done": "return sync.engine.SyncJob.refresh",
}
"""Every step of a refresh, in order, by the call or return with which it is over."""

STEPS_OF_REBUILD: Mapping[str, str] = {
    "what died before is looked through": "return sync.steps.Steps.resume",
    "a step begins": "call sync.reading.Reading.half",
    "a step is noted": "return store.stage.ResumableStage.write_note",
    "the files are in their places": STEPS["the files are in their places"],
    "the version is claimed": STEPS["the version is claimed"],
    "the stage is given up": "return store.stage.ResumableStage.discard",
}

CHANGES = (
    "INSERT INTO records VALUES (5, '2024-01-02', 'new'), (6, '2024-01-09', 'new')",
    "UPDATE records SET created_at = '2024-01-07' WHERE id = 4",
    "INSERT INTO scores VALUES (5, '2024-01-02', 'm', 1), (6, NULL, 'm', 1)",
    "DELETE FROM scores WHERE id = 3",
)
SHOWN = {
    "demo_dataset": "SELECT dataset_id, timestamp, model_name FROM demo_dataset ORDER BY ALL",
    "demo_results": "SELECT dataset_id, timestamp, metric, score FROM demo_results ORDER BY ALL",
    "demo_data": "SELECT dataset_id, metric, score, model_name FROM demo_data ORDER BY ALL",
}
SOURCE = {
    "demo_dataset": "SELECT id, created_at, model FROM records ORDER BY 1, 2, 3",
    "demo_results": "SELECT id, created_at, metric, score FROM scores ORDER BY 1, 2, 3, 4",
    "demo_data": "SELECT id, metric, score, model FROM scores JOIN records USING (id) ORDER BY 1, 2, 3, 4",
}
Rows = Mapping[str, object]


def shown(store: Store) -> Rows:
    return {name: published(store, query) for name, query in SHOWN.items()}


def of_source(url: str) -> Rows:
    return {name: asked_of(url, query) for name, query in SOURCE.items()}


def synced_then_changed(store: Store, url: str) -> None:
    fill(url)
    job_of(store, url).refresh(now=NOW)
    execute(url, *CHANGES)


def status_in_a_minute(store: Store) -> DatasetStatus:
    """What a reader is told when nobody has given a sign of life since the kill."""
    status = read_status(store, spec_of())
    if status.state is not State.SYNCING:
        return status
    write_status(store, spec_of(), replace(status, heartbeat=datetime.now(UTC) - 2 * SILENCE))
    return read_status(store, spec_of())


def heals(store: Store, url: str) -> None:
    """The next refresh waits for nobody and makes the store equal to its source; the next that is no tick tidies up."""
    told: list[str] = []
    job = job_of(store, url, log=told.append)
    job.refresh(now=NOW)
    assert not [line for line in told if "Waiting" in line]
    assert shown(store) == shown(open_store(store.root)) == of_source(url)
    status = read_status(store, spec_of())
    assert (status.state, status.message) == (State.READY, None)
    assert status.rows == {name: len(asked_of(url, query)) for name, query in SOURCE.items()}
    assert status.last_sync is not None
    assert status.last_sync >= max(
        part.synced_at for table in store.manifest().tables.values() for part in table.partitions.values()
    )
    assert not job.audit(now=NOW).halves
    assert list(verify_store(store).damages) == []
    assert {path for path in leavings(store) if not path.startswith("staging/resumable.")} == set()
    while sessions(url):
        pass  # of the dead process; its server notices


@pytest.mark.parametrize("step", thinned(STEPS, 4))
def test_a_refresh_killed_at_any_step_is_healed_by_the_next(
    postgres_url: str, store: Store, tmp_path: Path, step: str
) -> None:
    """Otherwise somebody has to find a lock or a folder by hand, and looks at half of a refresh until then."""
    synced_then_changed(store, postgres_url)
    before, order = shown(store), list(STEPS)
    process = start(work_until, store.root, postgres_url, tmp_path / "told", Verb.REFRESH, STEPS[step])
    process.join()
    assert (process.exitcode, (tmp_path / "told").read_text()) == (-signal.SIGKILL, STEPS[step])
    is_published = order.index(step) >= order.index("the version is claimed")
    assert shown(store) == (of_source(postgres_url) if is_published else before)
    is_syncing = order.index("the status says syncing") <= order.index(step) < order.index("the status says ready")
    assert read_status(store, spec_of()).state is (State.SYNCING if is_syncing else State.READY)
    status = status_in_a_minute(store)
    assert status.state is (State.ERROR if is_syncing else State.READY)
    assert status.rows == {name: len(published(store, query)) for name, query in SHOWN.items()}
    assert ("interrupted" in (status.message or "")) == is_syncing
    heals(store, postgres_url)
    assert read_status(store, spec_of()).sync_type is SyncType.INCREMENTAL


@pytest.mark.parametrize("step", thinned(STEPS_OF_REBUILD, 2))
def test_a_rebuild_killed_at_any_step_is_healed_by_a_refresh(
    postgres_url: str, store: Store, tmp_path: Path, step: str
) -> None:
    """What it leaves to the next rebuild may not get into the way of anything else."""
    synced_then_changed(store, postgres_url)
    before, order = shown(store), list(STEPS_OF_REBUILD)
    place = STEPS_OF_REBUILD[step]
    process = start(work_until, store.root, postgres_url, tmp_path / "told", Verb.REBUILD, place)
    process.join()
    assert (process.exitcode, (tmp_path / "told").read_text()) == (-signal.SIGKILL, place)
    is_published = order.index(step) >= order.index("the version is claimed")
    assert shown(store) == (of_source(postgres_url) if is_published else before)
    assert status_in_a_minute(store).state is State.ERROR
    heals(store, postgres_url)
    job_of(store, postgres_url).rebuild(now=NOW)
    assert leavings(store) == set()


def kill_at_random(store: Store, url: str, folder: Path, times: int) -> None:
    """Refreshes that die anywhere, one after the other, each after a change."""
    synced_then_changed(store, url)
    told = folder / "told"
    start(refresh_for, store.root, url, told, -1).join()
    events, chance = int(told.read_text()), random.Random(times)  # noqa: S311 - the same moments each time
    for number in range(times):
        execute(url, f"INSERT INTO records VALUES ({100 + number}, '2024-01-0{1 + number % 9}', 'k')")
        execute(url, f"UPDATE scores SET score = {number} WHERE id = {1 + number % 4}")
        before, at = shown(store), chance.randrange(1, events + 1)
        process = start(refresh_for, store.root, url, told, at)
        process.join()
        assert process.exitcode in {-signal.SIGKILL, 0}, at
        assert shown(store) in (before, of_source(url)), at
        assert status_in_a_minute(store).state in {State.ERROR, State.READY}
        heals(store, url)


def test_a_refresh_killed_at_random_is_healed_by_the_next(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """Between the named steps there are others."""
    kill_at_random(store, postgres_url, tmp_path, times=5)


@pytest.mark.slow
def test_refreshes_killed_at_random_are_healed_at_length(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """As above, as often as a bad machine does it in a year."""
    kill_at_random(store, postgres_url, tmp_path, times=200)
