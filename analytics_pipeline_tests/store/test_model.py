"""The store against a dictionary: whatever is committed, swept and reopened, it holds what a dictionary would."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from analytics_pipeline.store import Change, JoinView, Replace, create_store, open_store
from analytics_pipeline_tests.store.scenario import change_of, facts, files_listed, files_on_disk
from analytics_pipeline_tests.thinning import run_histories, thinned

TABLES = ("facts", "notes", "extras")
ROWS = st.lists(st.integers(0, 9), max_size=4)
KEYS = st.sampled_from(["d0", "d1", "d2", "d7", "late", "a/b ä"])
PARTITIONS = st.dictionaries(KEYS, ROWS, max_size=4)
REACH = st.sampled_from([Replace.PARTITIONS, Replace.TABLE])
CHANGES = st.dictionaries(
    st.sampled_from(TABLES),
    st.tuples(PARTITIONS, st.sampled_from([Replace.PARTITIONS, Replace.TABLE])),
    min_size=1,
    max_size=3,
)
JOIN = JoinView("joined", "facts", "notes", "id", "note", "inner")


class StoreIsADictionary(RuleBasedStateMachine):
    """Tables → partitions → ids."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = create_store(self.folder / "store", grace=timedelta(0))
        self.model: dict[str, dict[str, list[int]]] = {}
        self.commits = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(changes=CHANGES)
    def commit(self, changes: dict[str, tuple[dict[str, list[int]], Replace]]) -> None:
        """Several tables at once; some replace partitions, some are rebuilt."""
        self.commits += 1
        with self.store.stage(f"sync-{self.commits}") as stage:
            made = []
            for table, (partitions, replace) in changes.items():
                rows = {key: facts(*ids) for key, ids in partitions.items()}
                made.append(change_of(stage, table, rows, replace=replace))
                self.model[table] = partitions if replace is Replace.TABLE else self.model.get(table, {}) | partitions
            self.store.commit(stage, Change(made, [JOIN]))

    @rule()
    def sweep(self) -> None:
        """Afterwards the folder holds exactly what the manifest lists."""
        self.store.sweep()
        assert files_on_disk(self.store) == files_listed(self.store)

    @rule(lose_catalog=st.booleans())
    def reopen(self, lose_catalog: bool) -> None:  # noqa: FBT001
        """As another process would, perhaps without the catalog."""
        if lose_catalog:
            self.store.layout.catalog.unlink(missing_ok=True)
        self.store.close()
        self.store = open_store(self.store.root, grace=timedelta(0))

    @rule()
    def move(self) -> None:
        """The folder is moved to another place."""
        self.store.close()
        moved = self.store.root.with_name(f"store-{self.commits}-{self.store.root.name[:9]}x")
        self.store = open_store(self.store.root.rename(moved), grace=timedelta(0))

    @invariant()
    def holds_what_the_dictionary_holds(self) -> None:
        """Rows of each table and of the join, and the partitions' sizes."""
        for table, partitions in self.model.items():
            expected = sorted(number for ids in partitions.values() for number in ids)
            assert [row[0] for row in self.store.query(f"SELECT id FROM {table} ORDER BY id").rows()] == expected
            sizes = {key: partition.rows for key, partition in self.store.manifest().tables[table].partitions.items()}
            assert sizes == {key: len(ids) for key, ids in partitions.items()}
        if {"facts", "notes"} <= self.model.keys():
            left, right = (
                [number for ids in self.model[table].values() for number in ids] for table in ("facts", "notes")
            )
            pairs = sum(right.count(number) for number in left)
            assert self.store.query("SELECT count(*) FROM joined").item() == pairs


@pytest.mark.parametrize("examples", thinned([8, 100], 2))
def test_a_store_is_a_dictionary(examples: int) -> None:
    """Short histories in each build, long ones in the slow suite."""
    run_histories(StoreIsADictionary, examples, steps=10)
