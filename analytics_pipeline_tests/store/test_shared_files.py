"""Files that several partitions share: what is listed, what replacing one does to the others, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from analytics_pipeline.errors import DataFileMissing, PartitionRefused, PartitionsMoved
from analytics_pipeline.store import Change, Manifest, Partition, Stage, Store, TableChange, open_store
from analytics_pipeline_tests.store.scenario import (
    change_of,
    facts,
    files_listed,
    files_on_disk,
    publish,
)
from analytics_pipeline_tests.store.values import EVERYTHING, bits, everything, stored

DAYS = {"d0": facts(0, 1), "d1": facts(2), "d2": facts(3, 4, 5)}


def shared_change(stage: Stage) -> TableChange:
    """The partitions of DAYS in one file."""
    rows = [row for of_day in DAYS.values() for row in of_day]
    made = change_of(stage, "facts", {"d0": rows, "d1": [], "d2": []})
    (file,) = made.partitions[0].files
    begins = {"d0": 0, "d1": 2, "d2": 3}
    partitions = [replace(part, files=(file.run(begins[part.key], len(DAYS[part.key])),)) for part in made.partitions]
    return replace(made, partitions=partitions)


def publish_shared(store: Store) -> Manifest:
    """Commit the partitions of DAYS in one file."""
    with store.stage("shared") as stage:
        return store.commit(stage, Change([shared_change(stage)]))


class Late(Store):
    """Sees a store as it was, until its first attempt to commit failed; something happens there meanwhile."""

    def __init__(self, store: Store, meanwhile: Callable[[], object]) -> None:
        super().__init__(store.layout)
        self.looks = 0
        self._meanwhile = meanwhile

    def manifest(self) -> Manifest:
        """The state before what happens meanwhile."""
        seen = super().manifest()
        self.looks += 1
        if self.looks == 1:
            self._meanwhile()
        return seen


def ids(store: Store, table: str = "facts") -> list[int]:
    """All ids of a table."""
    return [row[0] for row in store.query(f"SELECT id FROM {table} ORDER BY id").rows()]


def partition(store: Store, key: str) -> Partition:
    """A published partition of `facts`."""
    return store.manifest().tables["facts"].partitions[key]


def test_a_shared_file_is_listed_once_and_each_partition_has_its_share(store: Store) -> None:
    """A file that a view lists twice gives every row twice."""
    publish_shared(store)
    assert ids(store) == [0, 1, 2, 3, 4, 5]
    assert len(list(store.manifest().live_files)) == 1
    assert [part.rows for part in store.manifest().tables["facts"].partitions.values()] == [2, 1, 3]
    size = next(store.manifest().live_files).bytes
    shares = [part.bytes for part in store.manifest().tables["facts"].partitions.values()]
    assert size - len(shares) < sum(shares) <= size
    again = open_store(store.root)
    assert again.manifest() == store.manifest()
    again.close()


def test_replacing_one_partition_of_a_shared_file_keeps_the_rows_of_the_others(store: Store) -> None:
    """A late row of last month must not cost the rest of the month."""
    publish_shared(store)
    before = {key: partition(store, key) for key in DAYS}
    publish(store, {"facts": {"d1": facts(20, 21)}})
    assert ids(store) == [0, 1, 3, 4, 5, 20, 21]
    for key in ("d0", "d2"):
        after = partition(store, key)
        assert replace(after, files=()) == replace(before[key], files=())
        assert after.rows == before[key].rows
    assert partition(store, "d0").files[0].path == partition(store, "d2").files[0].path
    store.sweep()
    assert files_on_disk(store) == files_listed(store)
    assert ids(store) == [0, 1, 3, 4, 5, 20, 21]


def test_all_partitions_of_a_shared_file_may_be_replaced_at_once(store: Store) -> None:
    """Then nothing has to move."""
    publish_shared(store)
    publish(store, {"facts": {"d0": facts(7), "d1": [], "d2": facts(8)}})
    assert ids(store) == [7, 8]
    assert len(files_listed(store)) == 2


@pytest.mark.parametrize("replaced", ["d0", "d1", "d2"])
def test_every_value_survives_the_move_to_another_file(store: Store, replaced: str) -> None:
    """Nobody reads these rows from the source again: what a copy changes stays changed."""
    days = {"d0": everything(0, 1, 2), "d1": everything(3, 4), "d2": everything(5, 6, 7)}
    with store.stage("shared") as stage:
        rows = [row for of_day in days.values() for row in of_day]
        made = change_of(stage, "facts", {"d0": rows, "d1": [], "d2": []}, schema=EVERYTHING)
        (file,) = made.partitions[0].files
        runs = {"d0": file.run(0, 3), "d1": file.run(3, 2), "d2": file.run(5, 3)}
        partitions = [replace(part, files=(runs[part.key],)) for part in made.partitions]
        store.commit(stage, Change([replace(made, partitions=partitions)]))
    assert stored(store, "facts") == bits(rows)
    publish(store, {"facts": {replaced: []}}, schema=EVERYTHING)
    kept = [row for key, of_day in days.items() if key != replaced for row in of_day]
    assert stored(store, "facts") == bits(kept)


def test_the_rows_of_a_partition_keep_their_order(store: Store) -> None:
    """So that a file reads as well afterwards as it did before."""
    rows = facts(*range(400_000, 0, -1))
    with store.stage("large") as stage:
        made = change_of(stage, "facts", {"d0": [*rows, *facts(-1)], "d1": []})
        (file,) = made.partitions[0].files
        runs = {"d0": file.run(0, len(rows)), "d1": file.run(len(rows), 1)}
        partitions = [replace(part, files=(runs[part.key],)) for part in made.partitions]
        store.commit(stage, Change([replace(made, partitions=partitions)]))
    publish(store, {"facts": {"d1": []}})
    assert store.query("SELECT id FROM facts")["id"].to_list() == list(range(400_000, 0, -1))


@pytest.mark.parametrize(
    ("begin", "rows"), [(0, 1), (1, 2), (0, 3)], ids=["a row is missing", "a row is given twice", "both"]
)
def test_runs_that_are_not_the_whole_file_are_refused(store: Store, begin: int, rows: int) -> None:
    """The view lists whole files: rows of nobody would appear in it."""
    with store.stage("runs") as stage:
        made = shared_change(stage)
        first, *others = made.partitions
        wrong = replace(first, files=(replace(first.files[0], begin=begin, rows=rows),))
        with pytest.raises(PartitionRefused, match="belong to no partition"):
            store.commit(stage, Change([replace(made, partitions=[wrong, *others])]))
    assert store.manifest().version == 0


def test_a_damaged_shared_file_damages_all_its_partitions(store: Store) -> None:
    """A refresh reads again what is damaged; a partition left out would stay lost."""
    publish_shared(store)
    path = store.root / partition(store, "d0").files[0].path
    path.write_bytes(path.read_bytes()[:-1])
    assert store.damaged_partitions("facts") == {"d0", "d1", "d2"}
    with store.stage("one") as stage, pytest.raises(DataFileMissing):
        store.commit(stage, Change([change_of(stage, "facts", {"d1": facts(9)})]))
    publish(store, {"facts": DAYS})
    assert ids(store) == [0, 1, 2, 3, 4, 5]


def test_a_change_that_expects_another_partition_is_refused_whole(store: Store) -> None:
    """A compaction that writes yesterday's rows over today's refresh would lose it."""
    seen = publish(store, {"facts": DAYS}).tables["facts"].partitions
    publish(store, {"facts": {"d1": facts(99)}})
    with store.stage("late") as stage:
        change = replace(change_of(stage, "facts", {"d0": facts(7), "d1": facts(8)}), expected=seen)
        with pytest.raises(PartitionsMoved, match="d1") as refused:
            store.commit(stage, Change([change]))
    assert refused.value.keys == ("d1",)
    assert ids(store) == [0, 1, 3, 4, 5, 99]


def test_rows_that_another_commit_replaces_during_the_move_are_not_brought_back(store: Store) -> None:
    """The rows of the others are copied before the lock; a refresh of theirs that is faster must win."""
    publish_shared(store)
    with store.stage("slow") as stage:
        change = change_of(stage, "facts", {"d1": facts(20)})
        with store.preview(stage, Change([change])) as preview:
            publish(store, {"facts": {"d2": facts(30)}})
            assert preview.rows("SELECT id FROM facts ORDER BY id") == [(0,), (1,), (3,), (4,), (5,), (20,)]
        assert stage.moved
        store.commit(stage, Change([change]))
    assert ids(store) == [0, 1, 20, 30]


def test_a_file_that_comes_to_be_shared_during_a_commit_is_split(store: Store) -> None:
    """A compaction may finish between the look at the store and the commit's lock."""
    publish(store, {"facts": DAYS})

    late = Late(store, lambda: publish_shared(store))
    with late.stage("late") as stage:
        late.commit(stage, Change([change_of(stage, "facts", {"d1": facts(20)})]))
    assert late.looks == 2
    assert ids(store) == [0, 1, 3, 4, 5, 20]


@pytest.mark.parametrize("kept", [(), (30,)], ids=["emptied", "replaced"])
def test_rows_that_another_commit_replaces_before_the_lock_are_not_brought_back(
    store: Store, kept: tuple[int, ...]
) -> None:
    """The copies of the others' rows were made from a version that is no more: the commit is made again."""
    publish_shared(store)
    late = Late(store, lambda: publish(store, {"facts": {"d2": facts(*kept)}}))
    with late.stage("late") as stage:
        late.commit(stage, Change([change_of(stage, "facts", {"d1": facts(20)})]))
    assert late.looks == 2
    assert ids(store) == [0, 1, 20, *kept]


def test_a_failed_commit_leaves_published_files_where_they_are(store: Store) -> None:
    """A partition may be published again with its files, under another fingerprint."""
    publish_shared(store)
    current = store.manifest().tables["facts"]
    files = files_on_disk(store)
    again = [replace(part, fingerprint="new") for part in current.partitions.values()]
    with store.stage("again") as stage:
        unfit = Change([TableChange("facts", current.columns, again)], metadata={"facts": {"n": float("nan")}})
        with pytest.raises(ValueError, match="JSON"):
            store.commit(stage, unfit)
        assert files_on_disk(store) == files
        store.commit(stage, Change([TableChange("facts", current.columns, again)]))
    assert {part.fingerprint for part in store.manifest().tables["facts"].partitions.values()} == {"new"}
    assert ids(store) == [0, 1, 2, 3, 4, 5]
