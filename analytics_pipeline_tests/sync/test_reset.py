"""Reset: the next refresh reads everything anew, and until then nobody sees a difference."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from analytics_pipeline.store import CompactionRules, Store, create_store, open_store
from analytics_pipeline.sync.reset import forget_fingerprints
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import SyncType, is_truncated, read_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, ROW_VERSIONS, fill, job_of, published, spec_of

ROWS = "SELECT * FROM demo_data ORDER BY ALL"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "store")


@pytest.mark.parametrize("kind", [{}, ROW_VERSIONS], ids=["checksum", "xmin"])
def test_after_a_reset_every_partition_is_read_once_more(
    postgres_url: str, store: Store, kind: dict[str, object]
) -> None:
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(**kind))
    job.refresh(now=NOW)
    before, rows = store.manifest(), published(store, ROWS)
    assert not job.refresh(now=NOW).halves

    assert forget_fingerprints(store, job.spec) == ["demo_dataset", "demo_results"]

    assert published(store, ROWS) == rows
    assert list(store.manifest().live_files) == list(before.live_files), "no row was written or moved"
    outcome = job.refresh(now=NOW)
    for half in Half:
        assert outcome.halves[half].partitions.keys() == before.tables[job.spec.table(half)].partitions.keys()
    assert published(store, ROWS) == rows
    assert read_status(store, job.spec).sync_type is SyncType.FULL
    assert not job.refresh(now=NOW).halves


def test_a_reset_of_compacted_partitions_moves_no_row(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    store.compact(CompactionRules(newest=0, most_files=1, fewest_files=1))
    assert any(file.of for file in store.manifest().live_files), "partitions share a file"
    files = list(store.manifest().live_files)

    forget_fingerprints(store, job.spec)

    assert list(store.manifest().live_files) == files


def test_partitions_that_the_limit_left_out_stay_left_out(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    execute(postgres_url, "DELETE FROM records WHERE id = 4", "DELETE FROM scores WHERE id = 4")
    job = job_of(store, postgres_url, spec_of(max_sync_rows=1))
    job.refresh(now=NOW)
    assert is_truncated(store.manifest(), job.spec)
    rows = published(store, ROWS)

    forget_fingerprints(store, job.spec)

    assert is_truncated(store.manifest(), job.spec)
    job.refresh(now=NOW)
    assert published(store, ROWS) == rows
    assert is_truncated(store.manifest(), job.spec)


def test_a_limit_that_leaves_nothing_out_is_not_truncated_by_a_reset(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(max_sync_rows=100))
    job.refresh(now=NOW)

    forget_fingerprints(store, job.spec)

    assert not is_truncated(store.manifest(), job.spec)


def test_a_reset_of_what_was_never_published_or_reset_before_commits_nothing(postgres_url: str, store: Store) -> None:
    job = job_of(store, postgres_url)
    assert forget_fingerprints(store, job.spec) == []
    assert store.manifest().version == 0

    fill(postgres_url)
    job.refresh(now=NOW)
    forget_fingerprints(store, job.spec)
    version = store.manifest().version
    forget_fingerprints(store, job.spec)
    assert store.manifest().version == version


def test_a_reset_in_the_middle_of_a_refresh_comes_after_it(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "UPDATE records SET model = 'new' WHERE id = 3")
    moved_on = threading.Event()
    began: list[threading.Thread] = []

    def reset() -> None:
        forget_fingerprints(open_store(store.root), job.spec, lambda _: moved_on.set())
        moved_on.set()

    def log(line: str) -> None:
        if "rows in" in line and not began:
            began.append(threading.Thread(target=reset))
            began[0].start()
            assert moved_on.wait(60)

    assert replace(job, log=log).refresh(now=NOW).halves.keys() == {Half.DATASET}
    began[0].join()
    assert not job.is_unchanged(now=NOW)
    outcome = job.refresh(now=NOW)
    for half in Half:
        partitions = store.manifest().tables[job.spec.table(half)].partitions
        assert outcome.halves[half].partitions.keys() == partitions.keys(), (
            "what the refresh had read was forgotten, too"
        )
