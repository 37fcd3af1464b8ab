"""Digests: what readers get is what was written, or somebody is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import BackupRefused, DataFileDamaged, DataFileMissing
from analytics_pipeline.store import CompactionRules, DataFile, Store
from analytics_pipeline.store.manifest_file import read_manifest
from analytics_pipeline_tests.damage import HARMS, flip
from analytics_pipeline_tests.store.scenario import facts, ids, publish

MERGE_ALL = CompactionRules(newest=0, most_files=1, fewest_files=1)
DAYS = {"facts": {f"d{number}": facts(number, 100 + number) for number in range(4)}}


def files(store: Store) -> list[DataFile]:
    return list(store.manifest().tables["facts"].files)


def without_digests(store: Store) -> None:
    """Make the newest manifest one of a release that recorded no digests."""
    path = store.layout.manifest_of(store.manifest().version)
    table = pq.read_table(path)
    meta = json.loads(table.schema.metadata[b"analytics_pipeline"])
    del meta["has_digest"]
    former = table.drop_columns(["file_digest"])
    former = former.replace_schema_metadata({b"analytics_pipeline": json.dumps(meta).encode()})
    pq.write_table(former, path, compression="zstd")


def test_the_manifest_holds_the_digest_of_every_file(store: Store) -> None:
    publish(store, DAYS)
    for file in files(store):
        assert file.digest == hashlib.sha256((store.root / file.path).read_bytes()).hexdigest()


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_damaged_file_is_found_and_no_query_reads_it_any_more(store: Store, harm: Callable[[Path], None]) -> None:
    """Eight flipped bytes would be other values in somebody's dashboard, with every check green."""
    publish(store, DAYS)
    victim = files(store)[1]
    harm(store.root / victim.path)

    found = store.set_aside_damage(["facts"])

    assert found.damaged.keys() == {victim.path}
    assert store.damaged_partitions("facts") == {"d1"}
    with pytest.raises(DataFileMissing, match=Path(victim.path).name):
        ids(store)
    publish(store, {"facts": {"d1": facts(1, 101)}})
    assert ids(store) == [0, 1, 2, 3, 100, 101, 102, 103]
    assert not store.set_aside_damage(["facts"]).damaged


def test_a_compaction_never_launders_damaged_bytes(store: Store) -> None:
    """The merged file would get a digest of its own, and the damage would be proven right for ever."""
    publish(store, DAYS)
    victim = files(store)[2]
    flip(store.root / victim.path)
    (done,) = store.compact(MERGE_ALL)
    assert victim.path in str(done.left)
    assert store.damaged_partitions("facts") == {"d2"}


def test_merged_and_split_files_have_digests_of_their_own(store: Store) -> None:
    publish(store, DAYS)
    store.compact(MERGE_ALL)
    assert len(files(store)) == 1
    assert not store.set_aside_damage(["facts"]).unproven
    publish(store, {"facts": {"d1": facts(1)}})
    found = store.set_aside_damage(["facts"])
    assert not found.damaged
    assert not found.unproven


def test_a_refresh_of_one_partition_does_not_launder_its_neighbours_in_a_damaged_file(store: Store) -> None:
    publish(store, DAYS)
    store.compact(MERGE_ALL)
    flip(store.root / files(store)[0].path)
    with pytest.raises(DataFileDamaged, match="facts"):
        publish(store, {"facts": {"d1": facts(1)}})
    assert store.damaged_partitions("facts") == {"d0", "d1", "d2", "d3"}
    publish(store, DAYS)
    assert ids(store) == [0, 1, 2, 3, 100, 101, 102, 103]


def test_a_backup_of_a_damaged_file_is_refused(store: Store, tmp_path: Path) -> None:
    """A backup that holds the damage is worse than none: somebody relies on it."""
    publish(store, DAYS)
    flip(store.root / files(store)[0].path)
    with pytest.raises(DataFileDamaged, match=r"tables/facts/"):
        store.backup(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_damaged_backup_is_not_restored(store: Store, tmp_path: Path) -> None:
    publish(store, DAYS)
    store.backup(tmp_path / "backup")
    flip(tmp_path / "backup" / files(store)[0].path)
    with pytest.raises(BackupRefused, match=r"is damaged: tables/facts/"):
        store.restore(tmp_path / "backup")
    assert store.manifest().version == 1


def test_files_of_an_earlier_release_open_and_count_as_unproven(store: Store) -> None:
    """Nothing is known of what was written, so nothing is claimed; the next commit of a partition records it."""
    publish(store, DAYS)
    without_digests(store)
    manifest = read_manifest(store.layout.manifest_of(1))
    assert {file.digest for file in manifest.live_files} == {None}
    again = Store(store.layout)
    assert len(again.set_aside_damage(["facts"]).unproven) == 4
    publish(again, {"facts": {"d1": facts(1, 101)}})
    assert len(again.set_aside_damage(["facts"]).unproven) == 3
    assert ids(again) == [0, 1, 2, 3, 100, 101, 102, 103]
