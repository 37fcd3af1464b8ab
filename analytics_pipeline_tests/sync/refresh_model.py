"""The model test's machine: the store that follows a changing source, and what readers may see of it.

Belongs here: what can happen to the store, and what must hold after each step and after each sync.
Does not: what happens in the source (`source_machine`), how long it runs (`test_refresh_model`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from analytics_pipeline.errors import IncompatibleColumn, RowLimitTooSmall, StaleReader
from analytics_pipeline.store import CompactionRules, Manifest, Store, create_store, open_store
from analytics_pipeline.sync.checks import Check
from analytics_pipeline.sync.engine import Selection, SyncJob
from analytics_pipeline.sync.outcome import SyncOutcome
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.reset import forget_fingerprints
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline.sync.windows import REST
from analytics_pipeline_tests.sync.pairs import MOMENTS, Pair, Shown, by_partition, is_joined, names_of, within
from analytics_pipeline_tests.sync.processes import NEVER, Verb, start, work_until_killed
from analytics_pipeline_tests.sync.scenario import job_of, leavings, spec_of
from analytics_pipeline_tests.sync.source_machine import ChangingSource, halves
from analytics_pipeline_tests.sync.source_model import (
    TABLES,
    Column,
    Rows,
    rows_of,
    store_name,
)

RULES = CompactionRules(newest=1, most_files=3, fewest_files=2, file_bytes=2**12, commit_bytes=2**13)

NAMES = names_of(spec_of())
some_limit = st.integers(1, 8)
some_halves = st.sets(halves, min_size=1).map(frozenset)


class Backup(NamedTuple):
    """A backup, and what readers saw when it was made.

    Attributes:
        kind: of the view's join.
    """

    folder: Path
    shown: Shown
    kind: str

    @property
    def pair(self) -> Pair:
        return Pair(self.shown.dataset, self.shown.results, self.kind)


class SourceAndStore(ChangingSource):
    """A source that people write to, and the store that follows it."""

    folders: Iterator[Path]

    @initialize(tier=st.sampled_from([None, None, Tier.CURSOR]), rows_per_step=st.sampled_from([1, 10**6]))
    def begin_store(self, tier: Tier | None, rows_per_step: int) -> None:
        self.store: Store = create_store(next(self.folders))
        self.told: list[str] = []
        self.tier, self.rows_per_step = tier, rows_per_step
        self.has_orphans = False
        self.backups: list[Backup] = []

    def teardown(self) -> None:
        try:
            if hasattr(self, "store") and hasattr(self, "source"):  # an example may end before it begins
                self.catch_up()
        finally:
            if hasattr(self, "store"):
                self.store.close()
            if hasattr(self, "source"):
                self.source.connection.close()

    @property
    def job(self) -> SyncJob:
        job = job_of(self.store, self.url, self.spec, tier=self.tier, log=self.told.append, pauses=(0.1, 0.2, 0.4, 0.8))
        return replace(job, rows_per_step=self.rows_per_step)

    # What happens to the store ----------------------------------------------------------------------------------------

    @rule()
    def refresh(self) -> None:
        """A second look finds nothing; it is an audit, because a refresh would be let pass by the gate."""
        self.catch_up()
        files = self.files()
        assert not self.job.audit(now=self.now).halves
        assert self.files() == files

    def catch_up(self) -> None:
        """A refresh; where that is refused because of a column's type, a rebuild, as the error says."""
        if self.is_clashing(frozenset(Half)):
            before, possible = self.shown(), [*self.possible]
            with pytest.raises(IncompatibleColumn):
                self.job.refresh(now=self.now)
            assert self.shown() == before
            assert read_status(self.store, self.spec).state is State.ERROR
            self.possible = possible
            self.rebuild()
        else:
            self.settled(self.job.refresh(now=self.now))

    @rule()
    def refresh_again(self) -> None:
        """So that syncs are as frequent as all the rest."""
        self.catch_up()

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

    @precondition(lambda self: not self.is_clashing(frozenset(Half)))
    @rule(most=some_limit, verb=st.sampled_from([Verb.REFRESH, Verb.AUDIT, Verb.REBUILD]))
    def sync_within_a_limit(self, most: int, verb: Verb) -> None:
        """Somebody sets `max_sync_rows`, and takes it back before what comes next."""
        source, before = self.current(), self.shown()
        wanted = within(source, most, self.windows(), self.variant.is_local)
        job = replace(self.job, spec=self.limited(most))
        verbs = {Verb.REFRESH: job.refresh, Verb.AUDIT: job.audit, Verb.REBUILD: job.rebuild}
        if wanted is None:
            with pytest.raises(RowLimitTooSmall):
                verbs[verb](now=self.now)
            assert self.shown() == before
            return
        verbs[verb](now=self.now)
        shown = self.shown()
        assert shown[:2] == wanted[:2]
        assert self.is_joined(shown, wanted.join)
        assert read_status(self.store, job.spec).truncated == (wanted != source)
        assert not job.audit(now=self.now).halves
        self.possible = [wanted, source]

    def limited(self, most: int | None) -> SplitSyncSpec:
        return self.spec.model_copy(update={"max_sync_rows": most})

    @rule()
    def reset(self) -> None:
        """Nothing that a reader sees changes, but nobody believes it any more."""
        before = self.shown()
        if forget_fingerprints(self.store, self.spec):
            assert not self.job.is_unchanged(now=self.now)
        assert self.shown() == before

    @precondition(lambda self: self.store.manifest().version > 0)
    @rule()
    def back_up(self) -> None:
        folder = self.store.root.parent / f"backup-{len(self.backups)}"
        view = self.store.backup(folder).views.get(self.spec.view)
        self.backups.append(Backup(folder, self.shown(), view.kind if view else "inner"))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Whatever was published since, and by whatever spec."""
        backup = data.draw(st.sampled_from(self.backups))
        self.store.restore(backup.folder)
        assert self.shown() == backup.shown
        self.possible = [backup.pair, self.current()]
        assert not self.job.is_unchanged(now=self.now)

    # What other processes do meanwhile --------------------------------------------------------------------------------

    @rule(verb=st.sampled_from(Verb), step=st.integers(0, 45), most=st.none() | some_limit)
    def kill(self, verb: Verb, step: int, most: int | None) -> None:
        """A process that dies before its next change of the disk; readers see the old or the new, whole."""
        left = within(self.current(), most, self.windows(), self.variant.is_local) if most else None
        self.possible.extend([left] if left else [])
        process = self.started(verb, step, most if left else None)
        self.read_until_ended(process)
        self.has_orphans = True

    @precondition(lambda self: not self.is_clashing(frozenset(Half)))
    @rule(verb=st.sampled_from([Verb.REFRESH, Verb.AUDIT]))
    def several_at_once(self, verb: Verb) -> None:
        version = self.store.manifest().version
        processes = [self.started(each, NEVER) for each in (Verb.REFRESH, verb)]
        self.read_until_ended(*processes)
        assert [process.exitcode for process in processes] == [0, 0]
        assert self.store.manifest().version <= version + 1
        self.is_current()

    @precondition(lambda self: self.backups and not self.is_clashing(frozenset(Half)))
    @rule(data=st.data(), verb=st.sampled_from([Verb.REFRESH, Verb.REBUILD]))
    def restore_meanwhile(self, data: st.DataObject, verb: Verb) -> None:
        """One comes after the other; a refresh of what was restored may find a type that does not fit."""
        backup = data.draw(st.sampled_from(self.backups))
        self.possible.append(backup.pair)
        process = self.started(verb, NEVER)
        self.store.restore(backup.folder)
        self.read_until_ended(process)
        assert process.exitcode == 0
        if self.shown() == backup.shown:
            self.possible = [backup.pair, self.current()]
        else:
            self.is_current()

    @precondition(lambda self: not self.is_clashing(frozenset(Half)))
    @rule(verb=st.sampled_from([Verb.REFRESH, Verb.REBUILD]))
    def compact_meanwhile(self, verb: Verb) -> None:
        process = self.started(verb, NEVER)
        self.store.compact(RULES)
        self.read_until_ended(process)
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

    def started(self, verb: Verb, step: int, most: int | None = None) -> Any:
        arguments = (self.store.root, self.url, self.limited(most), self.now, self.rows_per_step, verb, step, RULES)
        return start(work_until_killed, *arguments)

    def read_until_ended(self, *processes: Any) -> None:
        """Read again and again, and leave the processes some of the time."""
        for process in processes:
            while process.is_alive():
                self.readers_see_what_the_source_once_had()
                process.join(0.005)

    # What must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def readers_see_what_the_source_once_had(self) -> None:
        shown = self.shown()
        fitting = [pair for pair in self.possible if pair[:2] == shown[:2]]
        assert fitting, f"the source never was {shown}"
        assert any(self.is_joined(shown, pair.join) for pair in fitting), shown

    def settled(self, outcome: SyncOutcome) -> None:
        """After a sync that reports success."""
        self.is_current()
        spec, shown, manifest = self.spec, self.shown(), self.store.manifest()
        assert outcome.manifest.version <= manifest.version
        counts = {name: len(rows or ()) for name, rows in zip(NAMES, shown, strict=True)}
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
            was, is_, wanted = (
                by_partition(rows, self.windows(), self.variant.is_local)
                for rows in (before[number], after[number], source.table(half))
            )
            for key in is_.keys() | was.keys() | wanted.keys():
                assert is_[key] == (wanted if key in replaced else was)[key], (half, key)
        self.possible = [Pair(after.dataset, after.results, source.join), source]
        self.readers_see_what_the_source_once_had()

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
                found = [self.read(name, manifest) for name in NAMES]
            except StaleReader:
                continue
            if self.store.manifest().version == manifest.version:
                return Shown(*found)

    def is_joined(self, shown: Shown, join: str) -> bool:
        results = self.store.manifest().tables.get(NAMES[1])
        return is_joined(shown, join, [name for name, _ in results.columns] if results else ())

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
