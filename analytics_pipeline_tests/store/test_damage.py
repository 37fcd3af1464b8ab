"""Damage: lost and cut files harm only who reads them; a lost catalog harms nobody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import DataFileMissing, ManifestUnreadable, QueryFailed, StoreFormatUnknown
from analytics_pipeline.store import JoinView, Store, create_store, open_store
from analytics_pipeline_tests.damage import HARMS as HARMS_OF_FILES
from analytics_pipeline_tests.store.scenario import facts, files_listed, files_on_disk, publish

JOIN = JoinView("joined", "facts", "notes", "id", "note", "inner")


def damage(store: Store, table: str) -> None:
    """Remove the first file of a table."""
    (store.root / next(store.manifest().tables[table].files).path).unlink()


def cut(store: Store, table: str) -> None:
    """Cut the first file of a table."""
    path = store.root / next(store.manifest().tables[table].files).path
    path.write_bytes(path.read_bytes()[:-7])


def ids(store: Store, table: str) -> list[int]:
    """All ids of a table."""
    return [row[0] for row in store.query(f"SELECT id FROM {table} ORDER BY id").rows()]


def publish_three(store: Store) -> None:
    """Three tables of two days, two of them joined."""
    rows = {"d0": facts(1), "d1": facts(2)}
    publish(store, {"facts": rows, "notes": rows, "extras": rows}, views=[JOIN])


@pytest.mark.parametrize("harm", [damage, cut])
def test_several_damaged_tables_are_healed_one_after_the_other(
    store: Store, harm: Callable[[Store, str], None]
) -> None:
    """If each had to wait for the others, none could ever be refreshed again."""
    publish_three(store)
    harm(store, "facts")
    harm(store, "notes")
    assert store.damaged_partitions("facts") == store.damaged_partitions("notes") == {"d0"}
    publish(store, {"extras": {"d1": facts(3)}})
    assert ids(store, "extras") == [1, 3]
    publish(store, {"facts": {"d0": facts(1)}})
    assert ids(store, "facts") == [1, 2]
    assert not store.damaged_partitions("facts")
    assert store.damaged_partitions("notes") == {"d0"}
    publish(store, {"notes": {"d0": facts(1)}})
    assert ids(store, "joined") == [1, 2]


@pytest.mark.parametrize("harm", [damage, cut])
@pytest.mark.parametrize(
    "query", ["SELECT count(*) FROM {t}", "SELECT 1 FROM {t} WHERE id = 77", "SELECT max(label) FROM {t} WHERE id > 99"]
)
@pytest.mark.parametrize("table", ["facts", "joined"])
def test_a_damaged_table_is_never_read_as_an_empty_one(
    store: Store, harm: Callable[[Store, str], None], query: str, table: str
) -> None:
    """A dashboard of zeros is worse than none."""
    publish_three(store)
    harm(store, "facts")
    publish(store, {"extras": {"d1": facts(3)}})
    with pytest.raises((DataFileMissing, QueryFailed), match=r"facts.*d0-\w+\.parquet"):
        store.query(query.format(t=table))
    with duckdb.connect(str(store.layout.catalog), read_only=True) as plain, pytest.raises(duckdb.Error, match="facts"):
        plain.execute(query.format(t=table)).fetchall()


def test_a_commit_to_a_damaged_table_that_does_not_heal_it_is_refused(store: Store) -> None:
    """Readers would lose the version before for one that they cannot read either."""
    publish_three(store)
    damage(store, "facts")
    with pytest.raises(DataFileMissing, match="facts"):
        publish(store, {"facts": {"d1": facts(3)}})
    assert store.manifest().version == 1


def test_a_mistyped_query_is_told_as_such_while_a_table_is_damaged(store: Store) -> None:
    """Otherwise whoever mistypes a column looks for a lost file."""
    publish_three(store)
    damage(store, "facts")
    with pytest.raises(QueryFailed, match="nonsense"):
        store.query("SELECT nonsense FROM notes")
    with pytest.raises(QueryFailed, match="SELEC"):
        store.query("SELECT 1 FROM nowhere_at_all_SELEC")


@pytest.mark.parametrize("harm", HARMS_OF_FILES.values(), ids=HARMS_OF_FILES)
def test_a_damaged_manifest_is_named_and_left_for_the_version_before_by_whoever_compares(
    store: Store, harm: Callable[[Path], None]
) -> None:
    """Readers must not take an older state for the current one; a refresh can, for it compares with the source."""
    publish_three(store)
    publish(store, {"facts": {"d1": facts(20)}})
    harm(store.layout.manifest_of(2))
    again = open_store(store.root)
    for ask in (again.manifest, lambda: ids(again, "facts")):
        with pytest.raises(ManifestUnreadable, match=r"000000002\.parquet"):
            ask()
    told: list[str] = []
    assert again.recover(told.append)
    assert "000000002.parquet" in told[0]
    assert "version 1" in told[0]
    assert not again.recover()
    assert again.manifest().version == 3
    assert ids(again, "facts") == ids(again, "joined") == [1, 2]
    publish(again, {"facts": {"d1": facts(30)}})
    assert ids(again, "facts") == [1, 30]
    with duckdb.connect(str(store.layout.catalog), read_only=True) as plain:
        assert plain.execute("SELECT id FROM facts ORDER BY id").fetchall() == [(1,), (30,)]
    again.sweep()
    assert files_on_disk(again) >= files_listed(again)
    again.close()


def test_no_flipped_byte_of_a_manifest_goes_unseen(store: Store) -> None:
    """Parquet has no checksum of its own over names, counts and windows."""
    publish_three(store)
    path = store.layout.manifest_of(1)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 100)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((ManifestUnreadable, StoreFormatUnknown)):
            Store(store.layout).manifest()


def test_the_only_manifest_that_is_lost_is_an_error_and_no_empty_store(store: Store) -> None:
    publish_three(store)
    store.layout.manifest_of(1).unlink()
    again = open_store(store.root)
    with pytest.raises(ManifestUnreadable, match="it is gone"):
        again.manifest()
    assert again.recover()
    assert not again.manifest().tables
    assert publish(again, {"facts": {"d0": facts(1)}}).version == 3


def _truncate(store: Store) -> None:
    path = store.layout.catalog_of(store.manifest().version)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:5000])


def _garble(store: Store) -> None:
    path = store.layout.catalog_of(store.manifest().version)
    path.chmod(0o644)
    path.write_bytes(b"garbage" * 5000)


def _empty(store: Store) -> None:
    path = store.layout.catalog_of(store.manifest().version)
    path.chmod(0o644)
    path.write_bytes(b"")


def _dangle(store: Store) -> None:
    store.layout.catalog_of(store.manifest().version).unlink()


def _lose_folder(store: Store) -> None:
    shutil.rmtree(store.layout.catalogs)


def _lose_link(store: Store) -> None:
    store.layout.catalog.unlink()


def _lose_both(store: Store) -> None:
    _lose_folder(store)
    _lose_link(store)


def _point_elsewhere(store: Store) -> None:
    store.layout.catalog.unlink()
    store.layout.catalog.symlink_to("manifest")


HARMS = [_truncate, _garble, _empty, _dangle, _lose_folder, _lose_link, _lose_both, _point_elsewhere]


@pytest.mark.parametrize("harm", HARMS)
def test_a_lost_or_corrupt_catalog_is_made_again_when_the_store_is_opened(
    store: Store, harm: Callable[[Store], None]
) -> None:
    """Everything in it follows from the manifest."""
    publish_three(store)
    before = store.manifest()
    harm(store)
    again = open_store(store.root)
    assert again.manifest() == before
    assert ids(again, "joined") == [1, 2]
    again.close()
    with duckdb.connect(str(store.layout.catalog), read_only=True) as plain:
        assert plain.execute("SELECT id FROM joined ORDER BY id").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize("harm", HARMS)
def test_an_open_store_reads_and_writes_on_without_its_catalog(store: Store, harm: Callable[[Store], None]) -> None:
    """A sync that runs while somebody tidies up must not fail for a file that it can make itself."""
    publish_three(store)
    harm(store)
    assert ids(store, "facts") == [1, 2]
    store.regenerate_catalog()
    assert ids(open_store(store.root), "facts") == [1, 2]
    harm(store)
    publish(store, {"facts": {"d1": facts(5)}})
    with duckdb.connect(str(store.layout.catalog), read_only=True) as plain:
        assert plain.execute("SELECT id FROM facts ORDER BY id").fetchall() == [(1,), (5,)]


def test_files_of_other_names_are_no_versions(store: Store) -> None:
    """Somebody's copy would be the newest version for ever, and nothing could be read."""
    publish(store, {"facts": {"d1": facts(1)}})
    for name in ("7.parquet", "000000009.parquet.bak", "²³.parquet", "notes.txt"):
        (store.layout.manifests / name).write_text("not ours")
    assert store.manifest().version == 1


def test_a_version_that_is_a_link_to_nothing_is_named(store: Store) -> None:
    """A reader that takes it for a pruned one would look again without end."""
    publish(store, {"facts": {"d1": facts(1)}})
    (store.layout.manifests / "000000002.parquet").symlink_to("nowhere")
    with pytest.raises(ManifestUnreadable, match=r"000000002\.parquet"):
        open_store(store.root).manifest()


@pytest.mark.parametrize("meta", [{}, {"format": "two"}, {"format": 2, "tables": []}, {"format": 2, "tables": [1]}])
def test_a_manifest_of_another_shape_is_damaged(store: Store, meta: dict[str, object]) -> None:
    """Whatever is wrong with it, the way out is the same."""
    publish(store, {"facts": {"d1": facts(1)}})
    path = store.layout.manifest_of(1)
    table = pq.read_table(path).replace_schema_metadata({b"analytics_pipeline": json.dumps(meta).encode()})
    pq.write_table(table, path)
    with pytest.raises(ManifestUnreadable):
        open_store(store.root).manifest()


def test_a_store_without_manifests_is_not_begun_anew(store: Store) -> None:
    """The next sweep would take all files that the new store does not list."""
    publish(store, {"facts": {"d1": facts(1)}})
    shutil.rmtree(store.layout.manifests)
    before = files_on_disk(store)
    with pytest.raises(ManifestUnreadable, match="while data files are there"):
        create_store(store.root)
    assert files_on_disk(store) == before
