"""Backups: a store that stands by itself, and the way back to it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.errors import BackupRefused, DataFileMissing, ManifestUnreadable
from analytics_pipeline.store import (
    Change,
    CompactionRules,
    JoinView,
    Manifest,
    Store,
    create_store,
    open_store,
)
from analytics_pipeline.store.store import open_for_restore
from analytics_pipeline_tests.store.scenario import change_of, facts, files_listed, files_on_disk, publish, tree
from analytics_pipeline_tests.store.values import EVERYTHING, bits, everything, stored

JOIN = JoinView("joined", "facts", "notes", "id", "note", "inner")


def ids(store: Store, table: str = "facts") -> list[int]:
    """All ids of a table."""
    return [row[0] for row in store.query(f"SELECT id FROM {table} ORDER BY id").rows()]


def publish_pair(store: Store, *numbers: int) -> Manifest:
    """Two joined tables with metadata; one of them compacted."""
    with store.stage("pair") as stage:
        made = [change_of(stage, name, {f"d{n}": facts(n) for n in numbers}) for name in ("facts", "notes")]
        manifest = store.commit(stage, Change(made, [JOIN], {"joined": {"n": list(numbers)}}))
    store.compact(CompactionRules(newest=1, most_files=2, fewest_files=1))
    return manifest


def content(manifest: Manifest) -> object:
    """What a manifest says of rows, not of files."""
    tables = {
        name: (table.columns, [(replace(part, files=()), part.rows) for part in table.partitions.values()])
        for name, table in manifest.tables.items()
    }
    return tables, manifest.views, manifest.metadata


def test_a_backup_is_a_store_of_its_own(store: Store, tmp_path: Path) -> None:
    """It must be of use when nothing of the original is left, wherever it is carried."""
    publish_pair(store, 1, 2, 3, 4)
    before = content(store.manifest())
    copied = store.backup(tmp_path / "backups" / "monday")
    assert copied == store.manifest()
    shutil.rmtree(store.root)
    carried = (tmp_path / "backups" / "monday").rename(tmp_path / "carried")
    again = open_store(carried)
    assert content(again.manifest()) == before
    assert ids(again, "joined") == [1, 2, 3, 4]
    assert again.manifest().retired == ()
    assert files_on_disk(again) == files_listed(again)
    publish(again, {"facts": {"d2": facts(20)}})
    assert ids(again) == [1, 3, 4, 20]
    again.close()


def test_a_backup_can_be_asked_at_once_by_any_duckdb(store: Store, tmp_path: Path) -> None:
    """Nobody has to know this package to look into it."""
    publish_pair(store, 1, 2)
    store.backup(tmp_path / "copy")
    with duckdb.connect(str(tmp_path / "copy" / "catalog.duckdb"), read_only=True) as plain:
        assert plain.execute("SELECT id FROM joined ORDER BY id").fetchall() == [(1,), (2,)]
        assert plain.execute("SELECT root FROM _store_info").fetchall() == [(str(tmp_path / "copy"),)]


def test_a_backup_shares_no_file_with_its_store(store: Store, tmp_path: Path) -> None:
    """A bad block under a hard link would take both."""
    publish_pair(store, 1, 2, 3)
    store.backup(tmp_path / "copy")
    copies = {path.stat().st_ino for path in (tmp_path / "copy").rglob("*.parquet")}
    assert copies
    assert copies.isdisjoint(path.stat().st_ino for path in store.root.rglob("*.parquet"))
    assert not list(store.layout.staging.iterdir())


def test_a_backup_is_one_version_though_the_store_moves_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of hours outlasts the grace of the files it copies."""
    publish_pair(store, 1, 2, 3)
    copy = shutil.copyfile

    def slowly(source: Path, target: Path) -> None:
        publish(store, {"facts": {f"d{n}": facts(n * 10) for n in (1, 2, 3)}})
        store.sweep()
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", slowly)
    store.backup(tmp_path / "copy")
    assert ids(open_store(tmp_path / "copy")) == [1, 2, 3]
    assert ids(store) == [10, 20, 30]


def test_a_failed_backup_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """Half a backup must not be taken for one."""
    publish_pair(store, 1, 2, 3)
    (store.root / next(store.manifest().live_files).path).unlink()
    with pytest.raises(DataFileMissing):
        store.backup(tmp_path / "backups" / "copy")
    assert not list((tmp_path / "backups").iterdir())
    assert not list(store.layout.staging.iterdir())


def test_places_that_hold_something_are_refused(store: Store, tmp_path: Path) -> None:
    """A backup never overwrites another one."""
    publish_pair(store, 1)
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "empty"
    for folder in (full, empty):
        folder.mkdir()
    for path in (full / "x", file):
        path.write_text("x")
    for target in (full, file, store.root, store.root / "copy", store.root / "tables" / "facts"):
        with pytest.raises(BackupRefused):
            store.backup(target)
    store.backup(empty)
    assert ids(open_store(empty)) == [1]
    assert (full / "x").read_text() == "x"


def test_an_empty_store_has_an_empty_backup(store: Store, tmp_path: Path) -> None:
    """A nightly backup begins before the first sync."""
    store.backup(tmp_path / "copy")
    assert open_store(tmp_path / "copy").manifest() == Manifest()
    with pytest.raises(BackupRefused, match="anything"):
        store.restore(tmp_path / "copy")


def test_a_restore_brings_back_the_whole_state_in_one_commit(store: Store, tmp_path: Path) -> None:
    """Tables, views, metadata and fingerprints belong together."""
    publish_pair(store, 1, 2, 3, 4)
    before = content(store.manifest())
    store.backup(tmp_path / "copy")
    source = tree(tmp_path / "copy")
    publish(store, {"facts": {"d1": facts(100)}, "later": {"d0": facts(7)}})
    version = store.manifest().version
    done = store.restore(tmp_path / "copy")
    assert (done.manifest.version, done.gone) == (version + 1, ("later",))
    assert content(store.manifest()) == before
    assert ids(store, "joined") == [1, 2, 3, 4]
    assert tree(tmp_path / "copy") == source
    shutil.rmtree(tmp_path / "copy")
    store.sweep()
    assert files_on_disk(store) == files_listed(store)
    assert ids(store, "joined") == [1, 2, 3, 4]
    publish(store, {"facts": {"d2": facts(20)}})
    assert ids(store) == [1, 3, 4, 20]


def test_a_restore_keeps_the_files_before_for_readers_and_can_be_undone(tmp_path: Path) -> None:
    """Whoever restores the wrong backup wants to go back."""
    store = create_store(tmp_path / "store", grace=timedelta(hours=1))
    publish_pair(store, 1, 2)
    store.backup(tmp_path / "old")
    publish_pair(store, 5, 6)
    store.backup(tmp_path / "new")
    live = files_listed(store)
    store.restore(tmp_path / "old")
    store.sweep()
    assert live <= files_on_disk(store)
    assert ids(store) == [1, 2]
    store.restore(tmp_path / "new")
    assert ids(store) == [1, 2, 5, 6]


def test_every_value_survives_backup_and_restore(store: Store, tmp_path: Path) -> None:
    """Bytes are copied, not rows; this says that nothing else happens to them."""
    rows = everything(0, 1, 2)
    publish(store, {"facts": {"d0": rows}}, schema=EVERYTHING)
    store.backup(tmp_path / "copy")
    other = create_store(tmp_path / "other")
    other.restore(tmp_path / "copy")
    assert stored(other, "facts") == bits(rows)


def _lose(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _garble(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize("harm", [_lose, _cut, _garble])
def test_a_damaged_backup_is_refused_whole(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """The state before is better than a part of another one."""
    publish_pair(store, 1, 2)
    store.backup(tmp_path / "copy")
    publish(store, {"facts": {"d1": facts(100)}})
    version = store.manifest().version
    harm(max((tmp_path / "copy" / "tables").rglob("*.parquet")))
    with pytest.raises(BackupRefused, match="damaged"):
        store.restore(tmp_path / "copy")
    assert store.manifest().version == version
    assert ids(store) == [2, 100]
    assert not list(store.layout.staging.iterdir())


@pytest.mark.parametrize("harm", [_cut, _garble, _empty])
def test_a_store_whose_newest_manifest_is_damaged_is_restored(
    store: Store, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """That is the hour for which the backups were made."""
    publish_pair(store, 1, 2)
    store.backup(tmp_path / "copy")
    publish(store, {"facts": {"d1": facts(100)}})
    version, files = store.manifest().version, files_on_disk(store)
    harm(store.layout.manifest_of(version))
    with pytest.raises(ManifestUnreadable):
        open_store(store.root).manifest()
    again = open_for_restore(store.root)
    done = again.restore(tmp_path / "copy")
    assert (done.manifest.version, done.gone) == (version + 1, ())
    assert ids(again, "joined") == [1, 2]
    assert ids(open_store(store.root)) == [1, 2]
    assert files < files_on_disk(store), "readers of the version before keep theirs for the grace period"
    store.sweep()
    assert files_on_disk(store) == files_listed(store)
    publish(again, {"facts": {"d2": facts(20)}})
    assert ids(again) == [1, 20]


def test_a_restore_waits_for_who_works_on_a_dataset_and_they_for_it(store: Store, tmp_path: Path) -> None:
    """A sync that goes on after a restore publishes what it found out about another state."""
    publish_pair(store, 1)
    store.backup(tmp_path / "copy")
    publish(store, {"facts": {"d1": facts(100)}})
    other, waits, order = open_store(store.root), threading.Event(), []

    def told(line: str) -> None:
        assert f"process {os.getpid()}" in line
        waits.set()

    def restored() -> None:
        other.restore(tmp_path / "copy", told)
        order.append("restored")
        waits.set()

    with store.exclusive("demo", pytest.fail), store.exclusive("other", pytest.fail):
        thread = threading.Thread(target=restored)
        thread.start()
        assert waits.wait(60)
        order.append("worked")
    thread.join()
    assert order == ["worked", "restored"]
    assert ids(store) == [1]


def test_what_is_no_backup_is_refused(store: Store, tmp_path: Path) -> None:
    """A mistyped path must not empty the store."""
    publish_pair(store, 1)
    for source in (tmp_path / "nowhere", tmp_path, store.root):
        with pytest.raises(BackupRefused):
            store.restore(source)
    assert ids(store) == [1]
