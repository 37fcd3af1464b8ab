"""The store against a dictionary: whatever is done to it, in whatever order, it answers like one."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend, Record
from analytics_pipeline.store import Store, create_store
from analytics_pipeline_tests.capabilities.scenario import ExampleRecord, Run, WiderRecord
from analytics_pipeline_tests.thinning import run_histories, thinned

UIDS = st.sampled_from([f"run-{number}" for number in range(8)])
WHO = st.sampled_from([0, 1])
NAMES = st.sampled_from(["1000000000000_0badcafe.parquet", "9000000000000_0badcafe.parquet", "a.parquet", "b.parquet"])
ROWS = "SELECT run_uid, score FROM {prefix}example ORDER BY ALL"


class StoreOfRuns(RuleBasedStateMachine):
    """Two objects over one folder, which lies in a published store; rows by file in a dictionary."""

    @initialize()
    def begin(self) -> None:
        """An empty store."""
        self.folder = Path(tempfile.mkdtemp())
        self.published: Store = create_store(self.folder / "store")
        self.open()
        self.files: dict[str, list[tuple[str, float]]] = {}
        self.runs: set[str] = set()
        self.score = 0.0

    def open(self) -> None:
        """Two objects, of which one compacts often."""
        self.root = self.published.root / "capabilities"
        self.backends = [ParquetBackend(self.root, compact_after=limit) for limit in (2, 10**6)]

    def known(self) -> set[str]:
        """The runs that are stored."""
        return {uid for rows in self.files.values() for uid, _ in rows}

    @rule(who=WHO, uids=st.lists(UIDS, max_size=4), wider=st.booleans())
    def write(self, who: int, uids: list[str], *, wider: bool) -> None:
        """Runs, some of them twice in the call, some of them known."""
        self.score += 1
        kind = WiderRecord if wider else ExampleRecord
        records: list[Record] = [kind(run_uid=uid, dataset_id="d", score=self.score, sample_count=1) for uid in uids]
        new = [uid for uid in dict.fromkeys(uids) if uid not in self.known()]
        store = AnalyticsStore(self.backends[who])
        receipt = store.write_with_receipt([Run(uid, [one]) for uid, one in zip(uids, records, strict=True)])
        assert receipt.run_table_files.keys() == set(new)
        for uid in new:
            path = receipt.resolve_run_uri(uid)
            assert path is not None
            self.files.setdefault(Path(path).name, []).append((uid, self.score))
        self.runs.update(uids)

    @rule(name=NAMES, uid=UIDS)
    def add_a_foreign_file(self, name: str, uid: str) -> None:
        """Of another program, with any name, also of a run that is there."""
        if name in self.files:
            return
        folder = self.root / "example"
        folder.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"run_uid": [uid], "score": [-1.0]}).write_parquet(folder / name)
        self.files[name] = [(uid, -1.0)]

    @rule(number=st.integers(0, 100))
    def delete_a_file(self, number: int) -> None:
        """By hand."""
        if self.files:
            name = sorted(self.files)[number % len(self.files)]
            (self.root / "example" / name).unlink()
            self.backends[number % len(self.backends)].tables.forget("example")
            del self.files[name]

    @rule(who=WHO)
    def compact(self, who: int) -> None:
        """However little there is."""
        self.backends[who].tables.compact()

    @rule(who=WHO)
    def sweep(self, who: int) -> None:
        """Without any grace."""
        self.backends[who].tables.sweep(grace=timedelta(0))

    @rule(parts=st.sampled_from(["*", "", "-wal"]))
    def lose_the_index(self, parts: str) -> None:
        """Or a part of it."""
        for path in self.root.glob(f".index.sqlite{parts}"):
            path.unlink()

    @rule(who=WHO)
    def rebuild(self, who: int) -> None:
        """On somebody's order."""
        self.backends[who].tables.rebuild_index()

    @rule()
    def move(self) -> None:
        """To another place, as a copy."""
        target = self.folder / uuid.uuid4().hex
        if self.root.is_dir():
            shutil.copytree(self.root, target / "capabilities")
        shutil.rmtree(self.published.root)
        self.published = create_store(target)
        self.open()

    @rule(who=WHO)
    def look_at_the_catalog(self, who: int) -> None:
        """It shows the same, once somebody has looked."""
        self.backends[who].tables.publish()
        if self.known():
            assert self.published.query(ROWS.format(prefix="capabilities.")).rows() == self.expected()

    def expected(self) -> list[tuple[str, float]]:
        """All rows."""
        return sorted(row for rows in self.files.values() for row in rows)

    @invariant()
    def both_objects_answer_like_the_dictionary(self) -> None:
        """Rows, runs, tables."""
        for backend in getattr(self, "backends", []):
            has = {"example"} if self.known() else set()
            has |= {"runs"} if self.runs else set()
            assert set(backend.list_tables()) == has
            if self.known():
                assert backend.query_sql(ROWS.format(prefix="")).rows() == self.expected()
            if self.runs:
                found = backend.query_sql("SELECT run_uid, count(*) FROM runs GROUP BY 1").rows()
                assert dict(found) == dict.fromkeys(self.runs, 3)

    def teardown(self) -> None:
        """Nothing is left."""
        if hasattr(self, "folder"):
            self.published.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("examples", thinned([8, 60], 2))
def test_a_store_holds_each_run_once_whatever_happens_to_its_files(examples: int) -> None:
    """Short histories in each build, long ones in the slow suite."""
    run_histories(StoreOfRuns, examples, steps=10)
