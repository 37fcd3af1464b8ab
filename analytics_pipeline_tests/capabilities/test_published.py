"""The tables of runs in the published catalog: beside everything else, live, whatever happens to either store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.errors import QueryFailed
from analytics_pipeline.store import Store, create_store, open_store
from analytics_pipeline_tests.capabilities.scenario import OtherRecord, WiderRecord, run
from analytics_pipeline_tests.capabilities.test_readers import (
    damage_pages,
    foreign_file,
    from_a_later_version,
    overwrite,
    remove,
)
from analytics_pipeline_tests.store.scenario import facts, publish

JOINED = "SELECT e.run_uid FROM facts f JOIN capabilities.example e ON f.label = e.dataset_id ORDER BY ALL"


@pytest.fixture
def published(tmp_path: Path) -> Store:
    """A store with a table `facts`, and a session that was open from the start, as the API has one."""
    store = create_store(tmp_path / "store")
    publish(store, {"facts": {"d1": facts(1, label="cifar10")}})
    assert store.query("SELECT count(*) FROM facts").item() == 1
    return store


@pytest.fixture
def runs(published: Store) -> AnalyticsStore:
    """The capability store that lies in it."""
    return AnalyticsStore(ParquetBackend(published.root / "capabilities", compact_after=10**6))


def tables_of(store: AnalyticsStore) -> ParquetBackend:
    """Its backend."""
    assert isinstance(store.backend, ParquetBackend)
    return store.backend


def seen(store: Store) -> list[str]:
    """The runs that a JOIN with a published table finds: by the open session, a new one, and another process's tool."""
    found = store.query(JOINED)["run_uid"].to_list()
    fresh = open_store(store.root)
    try:
        assert fresh.query(JOINED)["run_uid"].to_list() == found
    finally:
        fresh.close()
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{store.root / 'catalog.duckdb'}' AS published (READ_ONLY)")
        connection.execute("USE published")
        assert [uid for (uid,) in connection.execute(JOINED).fetchall()] == found
    return found


def test_new_rows_are_seen_at_once_by_a_session_that_was_open_before(published: Store, runs: AnalyticsStore) -> None:
    """Nobody tells the catalog of a new file: it looks for them itself."""
    runs.write([run("a")])
    assert seen(published) == ["a"]
    catalog = (published.root / "catalog.duckdb").resolve().stat().st_mtime_ns
    runs.write([run("b")])
    assert seen(published) == ["a", "b"]
    assert (published.root / "catalog.duckdb").resolve().stat().st_mtime_ns == catalog


def test_rows_are_seen_once_before_and_after_compaction_and_a_sweep(published: Store, runs: AnalyticsStore) -> None:
    """The catalog lists the copies, and finds what came after them."""
    backend = tables_of(runs)
    for uid in "abc":
        runs.write([run(uid)])
    backend.tables.compact()
    assert seen(published) == ["a", "b", "c"]
    runs.write([run("d"), run("a")])
    assert seen(published) == ["a", "b", "c", "d"]
    backend.tables.compact()
    backend.tables.sweep(grace=timedelta(0))
    runs.write([run("e")])
    assert seen(published) == ["a", "b", "c", "d", "e"]
    assert published.query("SELECT count(*) FROM capabilities.runs").item() == 15


def test_commits_of_the_store_keep_the_tables_of_runs(published: Store, runs: AnalyticsStore) -> None:
    """Each version has a catalog of its own."""
    runs.write([run("a")])
    publish(published, {"facts": {"d2": facts(2, label="other")}})
    runs.write([run("b")])
    assert seen(published) == ["a", "b"]


def test_new_columns_and_tables_are_seen(published: Store, runs: AnalyticsStore) -> None:
    """By the session that was open before there was any."""
    runs.write([run("a")])
    assert seen(published) == ["a"]
    runs.backend.write([WiderRecord(run_uid="b", dataset_id="cifar10", score=1, sample_count=1, augmented=True)])
    assert published.query("SELECT augmented FROM capabilities.example ORDER BY run_uid").rows() == [(None,), (True,)]
    runs.backend.write([OtherRecord(run_uid="c", dataset_id="d")])
    assert published.query("SELECT run_uid FROM capabilities.other").rows() == [("c",)]
    assert seen(published) == ["a", "b"]


@pytest.mark.parametrize("name", ["1000000000000_0badcafe.parquet", "theirs.parquet", "9999999999999_0badcafe.parquet"])
def test_foreign_files_of_any_name_are_seen_once_anybody_has_looked(
    published: Store, runs: AnalyticsStore, name: str
) -> None:
    """Also one that is older than all that was compacted."""
    runs.write([run("a")])
    runs.write([run("b")])
    tables_of(runs).tables.compact()
    foreign_file(published.root / "capabilities", name, "foreign")
    tables_of(runs).tables.publish()
    found = published.query("SELECT run_uid FROM capabilities.example ORDER BY 1")
    assert found["run_uid"].to_list() == ["a", "b", "foreign"]


def test_a_file_deleted_by_hand_leaves_the_other_rows_of_its_copy(published: Store, runs: AnalyticsStore) -> None:
    """Whoever reads the catalog gets an error that names the file, until somebody says that it may be gone."""
    for uid in "abc":
        runs.write([run(uid)])
    tables_of(runs).tables.compact()
    gone = Path(runs.get_run_uri("b"))
    gone.unlink()
    runs.write([run("d")])
    with pytest.raises(QueryFailed, match=gone.name):
        seen(published)
    tables_of(runs).tables.forget("example")
    assert seen(published) == ["a", "c", "d"]


@pytest.mark.parametrize("harm", [remove, overwrite, damage_pages, from_a_later_version])
def test_a_damaged_index_never_stops_a_commit_and_hides_no_row(
    published: Store, runs: AnalyticsStore, harm: Callable[[Path], None]
) -> None:
    """Syncs do not depend on the capability store; their catalogs list its files themselves until it is mended."""
    for uid in "ab":
        runs.write([run(uid)])
    tables_of(runs).tables.compact()
    harm(published.root / "capabilities" / ".index.sqlite")
    publish(published, {"facts": {"d2": facts(2, label="other")}})
    assert seen(published) == ["a", "b"]
    runs.write([run("c"), run("a")])
    assert seen(published) == ["a", "b", "c"]


def test_a_damaged_file_of_runs_never_stops_a_commit(published: Store, runs: AnalyticsStore) -> None:
    """Only those who ask for its table are told."""
    runs.write([run("a")])
    (published.root / "capabilities" / "example" / "torn.parquet").write_bytes(b"PAR1")
    remove(published.root / "capabilities" / ".index.sqlite")
    publish(published, {"facts": {"d2": facts(2, label="other")}})
    assert published.query("SELECT count(*) FROM facts").item() == 2
    assert published.query("SELECT count(*) FROM capabilities.runs").item() == 3


def test_a_moved_store_takes_its_runs_along(published: Store, runs: AnalyticsStore, tmp_path: Path) -> None:
    """With catalog and copies."""
    for uid in "ab":
        runs.write([run(uid)])
    tables_of(runs).tables.compact()
    published.close()
    moved = open_store(published.root.rename(tmp_path / "moved"))
    assert seen(moved) == ["a", "b"]
    AnalyticsStore(ParquetBackend(moved.root / "capabilities")).write([run("a"), run("c")])
    assert seen(moved) == ["a", "b", "c"]


def test_a_copied_store_has_runs_of_its_own(published: Store, runs: AnalyticsStore, tmp_path: Path) -> None:
    """What is written to the copy is not in the original."""
    for uid in "ab":
        runs.write([run(uid)])
    tables_of(runs).tables.compact()
    shutil.copytree(published.root, tmp_path / "copy", symlinks=True)
    copy = open_store(tmp_path / "copy")
    AnalyticsStore(ParquetBackend(copy.root / "capabilities")).write([run("a"), run("c")])
    assert seen(copy) == ["a", "b", "c"]
    assert seen(published) == ["a", "b"]
    shutil.rmtree(published.root)
    assert copy.query(JOINED)["run_uid"].to_list() == ["a", "b", "c"]


def test_a_catalog_that_could_not_be_renewed_is_renewed_by_the_next_write(
    published: Store, runs: AnalyticsStore
) -> None:
    """A writer may die, or the store be busy, between its write and the catalog."""
    runs.write([run("a")])
    manifests = published.layout.manifests
    hidden = manifests.rename(published.root / "hidden")
    manifests.write_text("in the way")
    broken = published.layout.staging.rename(published.root / "no-staging")
    manifests.unlink()
    hidden.rename(manifests)
    runs.backend.write([OtherRecord(run_uid="c", dataset_id="d")])
    broken.rename(published.layout.staging)
    runs.write([run("b")])
    assert published.query("SELECT run_uid FROM capabilities.other").rows() == [("c",)]
