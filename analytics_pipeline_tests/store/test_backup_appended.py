"""Backups and restores of a store that holds append-only tables, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from analytics_pipeline.store import Store, create_store, open_store
from analytics_pipeline.store.append.tables import AppendTables
from analytics_pipeline.store.append.views import SCHEMAS
from analytics_pipeline_tests.store.scenario import facts, publish

SCHEMA = SCHEMAS[0]


class ByUid:
    """A row is known by its uid."""

    def columns(self, _table: str) -> tuple[str, ...]:
        return ("uid",)

    def of(self, _table: str, rows: pa.Table) -> list[tuple[str, ...]]:
        return [(str(uid),) for uid in rows.column("uid").to_pylist()]


def add(store: Store, *uids: str) -> int:
    """Add rows one by one; gives how many were new."""
    tables = AppendTables(store.root / SCHEMA, ByUid(), compact_after=3)
    return sum(tables.append({"notes": pa.table({"uid": [uid]})})["notes"].rows.num_rows for uid in uids)


def uids(store: Store) -> list[str]:
    return [row[0] for row in store.query(f"SELECT uid FROM {SCHEMA}.notes ORDER BY uid").rows()]


@pytest.fixture
def filled(store: Store) -> Store:
    publish(store, {"facts": {"d1": facts(1)}})
    add(store, "a", "b", "c", "d")  # three of them in a compacted copy
    return store


def test_a_backup_holds_them_and_stands_by_itself(filled: Store, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup")
    add(filled, "later")
    shutil.rmtree(filled.root)

    backup = open_store(tmp_path / "backup")
    assert uids(backup) == ["a", "b", "c", "d"]
    assert add(backup, "a", "d", "new") == 1  # it knows what it has
    assert uids(backup) == ["a", "b", "c", "d", "new"]


def test_a_backup_without_its_index_is_read_all_the_same(filled: Store, tmp_path: Path) -> None:
    (filled.root / SCHEMA / ".index.sqlite").write_bytes(b"damaged" * 1000)

    filled.backup(tmp_path / "backup")

    backup = open_store(tmp_path / "backup")
    assert uids(backup) == ["a", "b", "c", "d"]
    assert add(backup, "a", "new") == 1


def test_a_copy_by_hand_is_read_at_once(filled: Store, tmp_path: Path) -> None:
    """Its index may have been copied while somebody wrote it; the files are whole."""
    shutil.copytree(filled.root, tmp_path / "copy", symlinks=True)

    assert uids(open_store(tmp_path / "copy")) == ["a", "b", "c", "d"]


def test_a_restore_brings_them_back_where_they_are_lost(filled: Store, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup")
    new = create_store(tmp_path / "other disk" / "store")

    new.restore(tmp_path / "backup")

    assert uids(new) == ["a", "b", "c", "d"]
    assert add(new, "a", "e") == 1


def test_a_restore_takes_nothing_from_those_that_are_there_and_says_so(filled: Store, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup")
    add(filled, "later")
    told: list[str] = []

    filled.restore(tmp_path / "backup", told.append)

    assert uids(filled) == ["a", "b", "c", "d", "later"]
    assert told == [f"The tables of {SCHEMA} are left as they are: nothing is ever taken from them."]
