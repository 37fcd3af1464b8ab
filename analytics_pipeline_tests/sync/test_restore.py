"""Restore: a backup comes back whole, whatever syncs do meanwhile, and the next refresh brings it up to date."""

from __future__ import annotations

import threading
from pathlib import Path

from analytics_pipeline.store import Store, open_store
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, asked_of, fill, job_of, published, spec_of

MODELS = "SELECT dataset_id, model_name FROM demo_dataset ORDER BY ALL"


def test_after_a_restore_a_refresh_reads_what_changed_since_the_backup(
    postgres_url: str, store: Store, tmp_path: Path
) -> None:
    """Otherwise the way back costs a full sync, or the store stays in the past."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    store.backup(tmp_path / "copy")
    execute(postgres_url, "UPDATE records SET model = 'new' WHERE id = 3")
    job.refresh(now=NOW)
    store.restore(tmp_path / "copy")
    assert not job.is_unchanged(now=NOW)
    outcome = job.refresh(now=NOW)
    assert {half: set(done.partitions) for half, done in outcome.halves.items()} == {Half.DATASET: {"2024-01-05"}}
    assert published(store, MODELS) == asked_of(postgres_url, "SELECT id, model FROM records ORDER BY 1, 2")


def test_a_restore_in_the_middle_of_a_refresh_comes_after_it(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """The refresh would publish its partitions beside older ones, as a state that the source never had."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    store.backup(tmp_path / "copy")
    backed_up = published(store, MODELS)
    execute(postgres_url, "UPDATE records SET model = 'second' WHERE id = 3")
    job_of(store, postgres_url).refresh(now=NOW)
    execute(postgres_url, "UPDATE records SET model = 'third' WHERE id = 1")
    moved_on = threading.Event()
    began: list[threading.Thread] = []

    def restored() -> None:
        open_store(store.root).restore(tmp_path / "copy", lambda _: moved_on.set())
        moved_on.set()

    def log(line: str) -> None:
        if "rows in" in line and not began:
            began.append(threading.Thread(target=restored))
            began[0].start()
            assert moved_on.wait(60)

    job_of(store, postgres_url, log=log).refresh(now=NOW)
    began[0].join()
    assert published(store, MODELS) == backed_up
    assert read_status(store, spec_of()).last_verified is None
    assert len(job_of(store, postgres_url).refresh(now=NOW).halves[Half.DATASET].partitions) == 2
    assert published(store, MODELS) == asked_of(postgres_url, "SELECT id, model FROM records ORDER BY 1, 2")
    assert read_status(store, spec_of()).state is State.READY
