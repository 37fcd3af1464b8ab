"""The model test's machine: a source that people write to, the store that follows it, and what readers may see.

Belongs here: what can happen to both, in any order, and what must hold after each step and after each sync.
Does not: the source's SQL (`source_model`), how long it runs (`test_refresh_model`).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from analytics_pipeline.errors import IncompatibleColumn, StaleReader
from analytics_pipeline.store import CompactionRules, Manifest, Store, create_store, open_store
from analytics_pipeline.sync.checks import Check
from analytics_pipeline.sync.engine import Selection, SyncJob
from analytics_pipeline.sync.outcome import SyncOutcome
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline.sync.windows import REST, Window
from analytics_pipeline_tests.sync.processes import NEVER, Verb, start, work_until_killed
from analytics_pipeline_tests.sync.scenario import ROW_VERSIONS, job_of, leavings, spec_of
from analytics_pipeline_tests.sync.source_model import (
    MICROSECOND,
    TABLES,
    TYPES,
    VARIANTS,
    WIDER,
    Column,
    Row,
    Rows,
    Source,
    Variant,
    microseconds,
    rows_of,
    store_name,
)

RULES = CompactionRules(newest=1, most_files=3, fewest_files=2, file_bytes=2**12, commit_bytes=2**13)
MOMENTS = {"happened", "moment"}
"""Names of the incremental column in the store."""

halves = st.sampled_from(list(Half))
some_halves = st.sets(halves, min_size=1).map(frozenset)
few = st.integers(1, 4)


class Pair(NamedTuple):
    """Both tables of one moment, and the kind of their join; None for a table that is not there."""

    dataset: Rows | None
    results: Rows | None
    join: str = "inner"

    def table(self, half: Half) -> Rows | None:
        return self.dataset if half is Half.DATASET else self.results


class Shown(NamedTuple):
    """What readers see at one moment."""

    dataset: Rows | None
    results: Rows | None
    view: Rows | None


class SourceAndStore(RuleBasedStateMachine):
    """A source that people write to, and the store that follows it."""

    url: str
    folders: Iterator[Path]

    @initialize(
        variant=st.sampled_from(VARIANTS),
        row_versions=st.booleans(),
        star=st.booleans(),
        tier=st.sampled_from([None, None, Tier.CURSOR]),
        column=st.sampled_from([None, "id", "happened"]),
        join=st.sampled_from(["inner", "left"]),
        rows_per_step=st.sampled_from([1, 10**6]),
    )
    def begin(
        self,
        variant: Variant,
        row_versions: bool,  # noqa: FBT001 - hypothesis gives it by name
        star: bool,  # noqa: FBT001
        tier: Tier | None,
        column: str | None,
        join: str,
        rows_per_step: int,
    ) -> None:
        self.variant, self.now, self.next_id = variant, variant.now, 1
        self.source = Source(self.url, variant, star)
        self.settings: dict[str, Any] = {
            "normalize": "monitoring",
            "incremental_column": "happened",
            "epoch": variant.epoch,
            "partition_column": column,
            "join": join,
            **variant.geometries[0].as_settings(),
            **(ROW_VERSIONS if row_versions else {}),
        }
        self.store: Store = create_store(next(self.folders))
        self.told: list[str] = []
        self.tier, self.rows_per_step = tier, rows_per_step
        self.possible = [Pair(None, None)]
        self.has_orphans = False
        self.source_changed()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            try:
                self.refresh()
            finally:
                self.store.close()
                self.source.connection.close()

    # What people do in the source -----------------------------------------------------------------------------------

    @property
    def spec(self) -> SplitSyncSpec:
        queries = {"dataset_query": self.source.query(Half.DATASET), "results_query": self.source.query(Half.RESULTS)}
        return spec_of(**queries, **self.settings)

    @property
    def job(self) -> SyncJob:
        job = job_of(self.store, self.url, self.spec, tier=self.tier, log=self.told.append, pauses=(0.1, 0.2, 0.4, 0.8))
        return replace(job, rows_per_step=self.rows_per_step)

    def current(self, connection: psycopg.Connection | None = None) -> Pair:
        """Both tables as the source has them; only this test writes to them."""
        spec = self.spec
        dataset, results = (self.source.rows(half, spec, connection) for half in Half)
        return Pair(dataset, results, spec.join)

    def source_changed(self) -> None:
        """From now on readers may see this, too."""
        self.possible.append(self.current())

    def write(self, *statements: str) -> None:
        for statement in statements:
            note(statement)
            self.source.run(statement)
            self.source_changed()

    def windows(self) -> Sequence[Window]:
        return self.spec.windows(self.now)

    def some_moment(self, data: st.DataObject) -> str:
        """Where rows can get lost: the edges of windows, outside of all, nowhere."""
        spec = self.spec
        edges = [edge for window in self.windows() for edge in (window.local, window.local_end)]
        around = [edge + shift for edge in (*edges[:4], *edges[-6:]) for shift in (-MICROSECOND, timedelta(0))]
        far = [edges[0] - timedelta(days=400), edges[-1] + timedelta(days=400)]
        choices: list[datetime | str | None] = [*around, *far, "infinity", "-infinity", None]
        moment = data.draw(st.sampled_from(choices))
        return self.variant.literal(moment, spec.timezone or "UTC")

    def insert_sql(self, half: Half, data: st.DataObject) -> str:
        value = "'new'" if half is Half.DATASET else "0.5"
        number = self.next_id
        self.next_id += half is Half.RESULTS
        name = self.source.value(half).name
        return f"INSERT INTO {TABLES[half]} (id, happened, {name}) VALUES ({number}, {self.some_moment(data)}, {value})"

    def update_sql(self, half: Half, every: int, number: int) -> str:
        value = f"nullif('{number}', '0')" if half is Half.DATASET else f"nullif({number}, 0)"
        return f"UPDATE {TABLES[half]} SET {self.source.value(half).name} = {value} WHERE id % {every} = 0"

    def move_sql(self, half: Half, every: int, data: st.DataObject) -> str:
        return f"UPDATE {TABLES[half]} SET happened = {self.some_moment(data)} WHERE id % {every} = 0"

    @rule(half=halves, data=st.data(), count=few)
    def insert(self, half: Half, data: st.DataObject, count: int) -> None:
        """New rows, late rows, rows of equal time; some belong to a record, some to none."""
        self.write(*(self.insert_sql(half, data) for _ in range(count)))

    @rule(half=halves, every=few)
    def double(self, half: Half, every: int) -> None:
        table = TABLES[half]
        self.write(f"INSERT INTO {table} SELECT * FROM {table} WHERE id % {every} = 0 LIMIT 20")

    @rule(half=halves, every=few, number=st.integers(0, 9))
    def update(self, half: Half, every: int, number: int) -> None:
        self.write(self.update_sql(half, every, number))

    @rule(half=halves, every=few, data=st.data())
    def move(self, half: Half, every: int, data: st.DataObject) -> None:
        """An update of the incremental column: between windows, and in and out of the rest."""
        self.write(self.move_sql(half, every, data))

    @rule(half=halves, every=few)
    def delete(self, half: Half, every: int) -> None:
        self.write(f"DELETE FROM {TABLES[half]} WHERE id % {every} = 1")

    @rule(tables=st.sampled_from(["records", "scores", "records, scores"]))
    def truncate(self, tables: str) -> None:
        self.write(f"TRUNCATE {tables}")

    @rule()
    def time_passes(self) -> None:
        """A new window opens: rows of the future become rows of it."""
        self.now = self.windows()[-1].upper

    # What changes in the tables and in the spec -----------------------------------------------------------------------

    @rule(
        half=halves, name=st.sampled_from(["region", "extra"]), type_=st.sampled_from(list(TYPES)), filled=st.booleans()
    )
    def add_column(self, half: Half, name: str, type_: str, filled: bool) -> None:  # noqa: FBT001
        if name not in [column.name for column in self.source.columns[half]]:
            note(f"add {name} {type_} to {half}")
            self.source.add(half, name, type_, filled=filled)
            self.source_changed()

    @rule(half=halves, every=few)
    def fill_columns(self, half: Half, every: int) -> None:
        for column in self.source.columns[half][3:]:
            value = TYPES.get(column.type, "7")
            self.write(f"UPDATE {TABLES[half]} SET {column.name} = {value} WHERE id % {every} = 0")

    @rule(half=halves)
    def drop_column(self, half: Half) -> None:
        for column in self.source.columns[half][3:]:
            self.source.drop(half, column)
            self.source_changed()
            return

    @rule(half=halves)
    def widen(self, half: Half) -> None:
        for column in self.source.columns[half]:
            if column.type in WIDER and column.name != "happened" and column.type != "bigint":
                note(f"{column} to {WIDER[column.type]}")
                self.source.retype(half, column, WIDER[column.type])
                self.source_changed()
                return

    @rule(half=halves)
    def retype(self, half: Half) -> None:
        """To a type that the published column cannot hold."""
        for column in self.source.columns[half][3:]:
            if not column.is_text:
                note(f"{column} to text")
                self.source.retype(half, column, "text")
                self.source_changed()
                return

    @rule(half=halves, other=st.booleans())
    def rename_value(self, half: Half, other: bool) -> None:  # noqa: FBT001
        names = {Half.DATASET: ("label", "title"), Half.RESULTS: ("score", "points")}
        self.settings.pop("columns", None)
        self.source.rename(half, names[half][other])
        self.source_changed()

    @rule(half=halves, filtered=st.booleans())
    def filter_rows(self, half: Half, filtered: bool) -> None:  # noqa: FBT001
        if "fingerprint" not in self.settings:
            self.source.where[half] = " WHERE id % 3 <> 1" if filtered else ""
            self.source_changed()

    @rule(renamed=st.sets(st.sampled_from(["happened", "value"])))
    def rename_columns_in_spec(self, renamed: set[str]) -> None:
        names = {"happened": "happened", "value": self.source.value(Half.DATASET).shown}
        targets = {"happened": "moment", "value": "caption"}
        self.settings["columns"] = {names[key]: targets[key] for key in renamed}
        self.source_changed()

    @rule(data=st.data())
    def change_geometry(self, data: st.DataObject) -> None:
        self.settings |= data.draw(st.sampled_from(self.variant.geometries)).as_settings()

    @rule(join=st.sampled_from(["inner", "left"]))
    def change_join(self, join: str) -> None:
        self.settings["join"] = join
        self.source_changed()

    @rule(names=st.sets(st.sampled_from(["label", "region", "caption"])))
    def change_filters(self, names: set[str]) -> None:
        self.settings["filter_columns"] = sorted(names)

    # What happens to the store ----------------------------------------------------------------------------------------

    @rule()
    def refresh(self) -> None:
        if self.is_clashing(frozenset(Half)):
            before, possible = self.shown(), [*self.possible]
            with pytest.raises(IncompatibleColumn):
                self.job.refresh(now=self.now)
            assert self.shown() == before
            assert read_status(self.store, self.spec).state is State.ERROR
            self.possible = possible
            self.rebuild()
            return
        self.settled(self.job.refresh(now=self.now))
        files = self.files()
        again = self.job.refresh(now=self.now)
        assert not again.halves
        assert self.files() == files

    @rule()
    def refresh_again(self) -> None:
        """So that syncs are as frequent as all the rest."""
        self.refresh()

    @rule()
    def audit(self) -> None:
        if not self.is_clashing(frozenset(Half)):
            self.settled(self.job.audit(now=self.now))

    @rule()
    def rebuild(self) -> None:
        self.settled(self.job.rebuild(now=self.now))

    @rule()
    def tick(self) -> None:
        """What a gate lets pass is equal to its source."""
        if self.job.is_unchanged(now=self.now):
            self.is_current()

    @rule()
    def refresh_by_a_clock_that_is_behind(self) -> None:
        """Another machine's clock: what is published stays in its windows."""
        earlier = self.windows()
        if not self.is_clashing(frozenset(Half)):
            self.settled(self.job.refresh(now=earlier[max(0, len(earlier) - 2)].lower))

    @rule(chosen=some_halves, data=st.data())
    def replace_some(self, chosen: frozenset[Half], data: st.DataObject) -> None:
        keys = [window.key for window in self.windows()] + [REST]
        wanted = data.draw(st.sets(st.sampled_from(keys[:3] + keys[-4:]), min_size=1).map(frozenset))
        if self.is_clashing(chosen):
            return
        before, source = self.shown(), self.current()
        outcome = self.job.replace(Selection(chosen, wanted), now=self.now)
        after = self.shown()
        self.check_replaced(outcome, before, after, source)
        for half in chosen:
            assert outcome.halves[half].partitions.keys() >= wanted

    @rule(chosen=some_halves)
    def replace_all(self, chosen: frozenset[Half]) -> None:
        if self.is_clashing(chosen):
            return
        before, source = self.shown(), self.current()
        outcome = self.job.replace(Selection(chosen), now=self.now)
        self.check_replaced(outcome, before, self.shown(), source)
        assert outcome.halves.keys() == chosen

    @rule()
    def sweep(self) -> None:
        swept = open_store(self.store.root, grace=timedelta(0)).sweep()
        assert self.has_orphans or not swept.orphans
        self.has_orphans = False

    @rule()
    def compact(self) -> None:
        """Nothing that a reader sees changes."""
        before = self.shown()
        for table in self.store.compact(RULES):
            assert table.left is None
        assert self.shown() == before

    # What other processes do meanwhile --------------------------------------------------------------------------------

    @rule(verb=st.sampled_from(Verb), step=st.integers(0, 45))
    def kill(self, verb: Verb, step: int) -> None:
        """A process that dies before its next change of the disk; readers see the old or the new, whole."""
        process = self.started(verb, step)
        while process.is_alive():
            self.readers_see_what_the_source_once_had()
        process.join()
        self.has_orphans = True

    @precondition(lambda self: not self.is_clashing(frozenset(Half)))
    @rule(verb=st.sampled_from([Verb.REFRESH, Verb.AUDIT]))
    def several_at_once(self, verb: Verb) -> None:
        version = self.store.manifest().version
        processes = [self.started(each, NEVER) for each in (Verb.REFRESH, verb)]
        while any(process.is_alive() for process in processes):
            self.readers_see_what_the_source_once_had()
        assert [process.exitcode for process in processes] == [0, 0]
        assert self.store.manifest().version <= version + 1
        self.is_current()

    @precondition(lambda self: not self.is_clashing(frozenset(Half)))
    @rule(verb=st.sampled_from([Verb.REFRESH, Verb.REBUILD]))
    def compact_meanwhile(self, verb: Verb) -> None:
        process = self.started(verb, NEVER)
        self.store.compact(RULES)
        while process.is_alive():
            self.readers_see_what_the_source_once_had()
        process.join()
        assert process.exitcode == 0
        self.is_current()

    @precondition(lambda self: not self.is_clashing(frozenset(Half)))
    @rule(
        data=st.data(), kinds=st.lists(st.sampled_from(["insert", "update", "move", "delete"]), min_size=2, max_size=6)
    )
    def refresh_while_somebody_writes(self, data: st.DataObject, kinds: list[str]) -> None:
        statements = [self.some_change(kind, data) for kind in kinds]
        writer = threading.Thread(target=self.write_in_transactions, args=(statements,))
        writer.start()
        try:
            self.job.refresh(now=self.now)
        finally:
            writer.join()
        self.readers_see_what_the_source_once_had()

    def some_change(self, kind: str, data: st.DataObject) -> str:
        half = data.draw(halves)
        changes: Mapping[str, Callable[[], str]] = {
            "insert": lambda: self.insert_sql(half, data),
            "update": lambda: self.update_sql(half, 2, 5),
            "move": lambda: self.move_sql(half, 3, data),
            "delete": lambda: f"DELETE FROM {TABLES[half]} WHERE id % 4 = 1",
        }
        return changes[kind]()

    def write_in_transactions(self, statements: Sequence[str]) -> None:
        """Each state is known before anybody else can see it."""
        with psycopg.connect(self.url) as connection:
            for statement in statements:
                connection.execute(statement.encode())
                self.possible.append(self.current(connection))
                connection.commit()

    def started(self, verb: Verb, step: int) -> Any:
        arguments = (self.store.root, self.url, self.spec, self.now, self.rows_per_step, verb, step, RULES)
        return start(work_until_killed, *arguments)

    # What must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def readers_see_what_the_source_once_had(self) -> None:
        if hasattr(self, "store"):
            shown = self.shown()
            fitting = [pair for pair in self.possible if pair[:2] == shown[:2]]
            assert fitting, f"the source never was {shown}"
            assert any(self.is_joined(shown, pair.join) for pair in fitting), shown

    def settled(self, outcome: SyncOutcome) -> None:
        """After a sync that reports success."""
        self.is_current()
        spec, shown, manifest = self.spec, self.shown(), self.store.manifest()
        assert outcome.manifest.version <= manifest.version
        counts = {name: len(rows or ()) for name, rows in zip(names_of(spec), shown, strict=True)}
        assert {name: table.rows for name, table in manifest.tables.items()} == dict(list(counts.items())[:2])
        assert {name: manifest.metadata[name].value["row_count"] for name in counts} == counts
        status = read_status(self.store, spec)
        assert (status.state, status.message, status.rows) == (State.READY, None, counts)
        assert all(check.passed for check in outcome.checks if check.name is Check.EQUALS_SOURCE)
        self.check_filters(manifest, spec)
        if "nothing was written" not in (self.told or [""])[-1]:
            assert {path for path in leavings(self.store) if not path.startswith("staging/resumable.")} == set()
            self.has_orphans = False

    def check_filters(self, manifest: Manifest, spec: SplitSyncSpec) -> None:
        for half in Half:
            listed: Any = manifest.metadata[spec.table(half)].value["filter_values"]
            rows = self.shown()[list(Half).index(half)] or ()
            for name in {"label", "caption"} & set(listed):
                assert listed[name] == sorted({dict(row)[name] for row in rows if name in dict(row)})

    def is_current(self) -> None:
        """The store equals the source, row by row, and from now on readers see nothing older."""
        shown, current = self.shown(), self.current()
        assert shown.dataset == current.dataset
        assert shown.results == current.results
        assert self.is_joined(shown, current.join)
        self.possible = [current]

    def check_replaced(self, outcome: SyncOutcome, before: Shown, after: Shown, source: Pair) -> None:
        """Replaced partitions are the source's, the others as they were; this mixture is what readers see then."""
        for half in Half:
            number = list(Half).index(half)
            replaced = set(outcome.halves[half].partitions) if half in outcome.halves else set()
            was, is_, wanted = map(self.by_partition, (before[number], after[number], source.table(half)))
            for key in is_.keys() | was.keys() | wanted.keys():
                assert is_[key] == (wanted if key in replaced else was)[key], (half, key)
        self.possible = [Pair(after.dataset, after.results, source.join), source]
        self.readers_see_what_the_source_once_had()

    def by_partition(self, rows: Rows | None) -> Mapping[str, list[Row]]:
        windows = self.windows()
        local = self.variant.is_local
        edges = [microseconds(window.local if local else window.lower) for window in windows]
        edges.append(microseconds(windows[-1].local_end if local else windows[-1].upper))
        keys = [REST, *(window.key for window in windows), REST]
        found: dict[str, list[Row]] = defaultdict(list)
        for row in rows or ():
            at = moment_of(row)
            found[REST if at is None else keys[bisect_right(edges, at)]].append(row)
        return found

    def is_clashing(self, chosen: frozenset[Half]) -> bool:
        """Whether a column of the source has become a text, or was one, in the eyes of the published table."""
        spec = self.spec
        return any(self.clashes(half, column, spec) for half in chosen for column in self.source.columns[half])

    def clashes(self, half: Half, column: Column, spec: SplitSyncSpec) -> bool:
        table = self.store.manifest().tables.get(spec.table(half))
        published = dict(table.columns).get(store_name(column, spec)) if table else None
        return published is not None and (published == "VARCHAR") != column.is_text

    def files(self) -> tuple[int, set[Path]]:
        return self.store.manifest().version, set(self.store.layout.tables.rglob("*"))

    def shown(self) -> Shown:
        """What a reader sees now, all of it of one version."""
        while True:
            manifest = self.store.manifest()
            try:
                found = [self.read(name, manifest) for name in names_of(self.spec)]
            except StaleReader:
                continue
            if self.store.manifest().version == manifest.version:
                return Shown(*found)

    def read(self, name: str, manifest: Manifest) -> Rows | None:
        if name not in manifest.tables and (name not in manifest.views or len(manifest.tables) < len(Half)):
            return None
        unit = self.variant.unit if self.variant.epoch else 1
        rows = self.store.query(f"SELECT * FROM {name}").rows(named=True)
        moments = MOMENTS | {f"dataset_{name}" for name in MOMENTS}
        return rows_of(
            {key: value * unit if key in moments and isinstance(value, int) else value for key, value in row.items()}
            for row in rows
        )

    def is_joined(self, shown: Shown, join: str) -> bool:
        """Whether the view is the join of the tables beside it, with the newest of a record's several rows."""
        if shown.dataset is None or shown.results is None:
            return shown.view is None
        left = [name for name, _ in self.store.manifest().tables[self.spec.table(Half.RESULTS)].columns]
        partners = newest(shown.dataset)
        allowed: dict[Row, set[Row]] = {}
        wanted: Counter[Row] = Counter()
        for row in shown.results:
            candidates = partners.get(dict(row).get("dataset_id"), set())
            if candidates or join == "left":
                wanted[row] += 1
                allowed[row] = {renamed(each, left) for each in candidates} or {()}
        found: Counter[Row] = Counter()
        for row in shown.view or ():
            mine = tuple(item for item in row if item[0] in left)
            theirs = tuple(item for item in row if item[0] not in left)
            if theirs not in allowed.get(mine, set()):
                return False
            found[mine] += 1
        return found == wanted


def names_of(spec: SplitSyncSpec) -> tuple[str, str, str]:
    return spec.table(Half.DATASET), spec.table(Half.RESULTS), spec.view


def moment_of(row: Row) -> int | None:
    return next((int(value) for name, value in row if name in MOMENTS), None)


def newest(records: Rows) -> Mapping[Any, set[Row]]:
    """The newest row of each record; several where they are of one moment."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in records:
        if "dataset_id" in dict(row):
            found[dict(row)["dataset_id"]].append(row)
    best: dict[Any, set[Row]] = {}
    for key, rows in found.items():
        last = max((at for at in map(moment_of, rows) if at is not None), default=None)
        best[key] = {row for row in rows if moment_of(row) == last}
    return best


def renamed(record: Row, taken: Sequence[str]) -> Row:
    """A record as the view shows it: without its key, and beside a result's columns."""
    return tuple(
        sorted((f"dataset_{name}" if name in taken else name, value) for name, value in record if name != "dataset_id")
    )
