"""An attempt: one snapshot of the source, what is stale in it, its rows, one commit. Either all of it happens, or none.

Belongs here: the order of these steps, the connections that they need, stopping both halves when one fails.
Does not: when to try again, the status, the lock (`engine`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, auto
from functools import partial
from threading import Event
from typing import TypeVar

from pydantic import SecretStr

from analytics_pipeline.store import Manifest, Replace, ResumableStage, Stage, Store, Table
from analytics_pipeline.sync.changes import Changes, Comparison
from analytics_pipeline.sync.connections import (
    asked,
    cancel_labelled,
    cancelled_by_interrupt,
    label_of,
    labelled,
    together,
)
from analytics_pipeline.sync.derived import refuse_unfit
from analytics_pipeline.sync.guard import Found, Guard
from analytics_pipeline.sync.judge import Judge
from analytics_pipeline.sync.limit import RowLimit
from analytics_pipeline.sync.plan import HalfPlan, plan_halves
from analytics_pipeline.sync.postgres.opening import Spares
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.postgres.snapshot import Snapshot, open_snapshot
from analytics_pipeline.sync.publishing import Publishing
from analytics_pipeline.sync.reading import HalfRead, Log, Reading
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.steps import Steps

T = TypeVar("T")
Choose = Callable[[Comparison], Changes]


class Streams(StrEnum):
    """When the connections that rows stream through are opened.

    A rewrite of a table that waits behind the snapshot's locks keeps out every connection that comes later. Opened
    first, none does; but a refresh that finds nothing has opened them for nothing, which is half of what it costs.
    """

    FIRST = auto()
    WHEN_NEEDED = auto()


class Staging(StrEnum):
    """Whether a sync that dies or fails leaves what it had read to the next one."""

    WHERE_LARGE = auto()
    """Where all of a half is read, and that is more than one step."""
    ALWAYS = auto()


@dataclass(frozen=True)
class Wish:
    """What a sync is to replace.

    Args:
        halves: those that it looks at.
        choose: the partitions of a half.
        whole: what becomes of a table of which every partition is replaced.
        streams: when to open the connections for rows.
        staging: whether what was read outlives a failure.
    """

    halves: frozenset[Half]
    choose: Choose
    whole: Replace = Replace.TABLE
    streams: Streams = Streams.FIRST
    staging: Staging = Staging.WHERE_LARGE


@dataclass(frozen=True)
class HalfDone:
    """What was found and read of one half; `read` is None where nothing of it was stale."""

    plan: HalfPlan
    changes: Changes
    read: HalfRead | None


@dataclass(frozen=True)
class Done:
    """What an attempt did.

    Args:
        sync_id: of the stage and of the partitions.
        before: the store's state when it began.
        manifest: the store's state afterwards.
        halves: those that it looked at.
        snapshot_at: the source's state is that of this moment.
        until: the last window holds this moment.
        gate: what the source's gate said in the snapshot; None where it proves nothing.
        source: who answered.
    """

    sync_id: str
    before: Manifest
    manifest: Manifest
    halves: Mapping[Half, HalfDone]
    snapshot_at: datetime
    until: datetime
    gate: str | None
    source: Found

    @property
    def reads(self) -> Sequence[HalfRead]:
        """The halves that were read."""
        return [half.read for half in self.halves.values() if half.read is not None]


@dataclass(frozen=True)
class Attempt:
    """A dataset, its source and the store, as `SyncJob` has them."""

    spec: SplitSyncSpec
    url: SecretStr
    store: Store
    log: Log
    tier: Tier | None
    stall_timeout: float
    rows_per_step: int
    guard: Guard

    @property
    def patience(self) -> float:
        """Seconds after which a question that Postgres itself would have stopped by now is not answered any more."""
        return self.spec.query_timeout + self.stall_timeout

    def run(self, wish: Wish, now: datetime) -> Done:
        """Read what a wish chooses, and commit it.

        Args:
            wish: what to replace.
            now: the last partition is the one that holds this moment.

        Raises:
            SyncError, StoreError: nothing has changed.
        """
        unique = uuid.uuid4().hex[:16]
        sync_id, label = f"{self.spec.name}-{unique}", f"analytics_pipeline {unique}"
        is_anew = wish.whole is Replace.TABLE_AND_COLUMNS  # windows of a clock that was wrong go with everything else
        before, until = self.store.manifest(), now if is_anew else self.until(now)
        with ExitStack() as until_committed:
            with cancelled_by_interrupt(self.url, label), self._snapshot(label, wish) as snapshot:
                began = datetime.now(UTC)
                plans = self._plans(snapshot, until, {} if is_anew else before.tables)
                source = asked(snapshot, self.stall_timeout, self.guard.look)
                self.guard.refuse_other_source(source)
                refuse_unfit(self.spec, plans)
                for plan in plans.values():
                    if lost := plan.losses(before.tables.get(plan.table)):
                        self.log(lost)
                stage = until_committed.enter_context(self._stage(sync_id, wish, plans))
                judge = Judge(snapshot, self.spec, self.stall_timeout, self.log)
                halves = self._read(wish, plans, judge, stage, sync_id)
            reads = [half.read for half in halves.values() if half.read is not None]
            chosen = [(half.read, half.changes) for half in halves.values() if half.read is not None]
            self.guard.refuse_removal(before, chosen, wish.whole, source)
            manifest = Publishing(self.spec, self.store, self.log).commit(stage, plans, reads, wish.whole)
            if isinstance(stage, ResumableStage):
                stage.discard()
        return Done(sync_id, before, manifest, halves, began, until, judge.gate(), source)

    def compare(self, wish: Wish, now: datetime) -> tuple[Mapping[Half, Changes], Found]:
        """What a wish would choose, and who answered, without reading or changing anything.

        Args:
            wish: what to compare.
            now: as for `run`.

        Raises:
            SyncError: the source cannot be asked.
        """
        label = f"analytics_pipeline {uuid.uuid4().hex[:16]}"
        with cancelled_by_interrupt(self.url, label), self._snapshot(label, wish) as snapshot:
            plans = self._plans(snapshot, self.until(now), self.store.manifest().tables)
            source = asked(snapshot, self.stall_timeout, self.guard.look)
            judge = Judge(snapshot, self.spec, self.stall_timeout, self.log)
            choose = self._choosing(wish, plans)

            def ask(half: Comparison, _failed: Event) -> tuple[Half, Changes]:
                return half.plan.half, choose(half)[1]

            return dict(self._at_once(wish, plans, judge, ask)), source

    def _snapshot(self, label: str, wish: Wish) -> AbstractContextManager[Snapshot]:
        """A snapshot with the connections that a wish needs, under a common name."""
        return open_snapshot(
            labelled(self.url, label),
            [self.spec.dataset_query, self.spec.results_query],
            query_timeout=self.spec.query_timeout,
            on_notice=self.log,
            stall_timeout=self.stall_timeout,
            spares=self._spares(wish),
        )

    def _stage(
        self, sync_id: str, wish: Wish, plans: Mapping[Half, HalfPlan]
    ) -> AbstractContextManager[Stage | ResumableStage]:
        tables = self.store.manifest().tables
        whole = [plan for plan in plans.values() if plan.is_other_than(tables.get(plan.table))]
        large = any(plan.estimate > self.rows_per_step for plan in whole)
        if wish.staging is Staging.ALWAYS or large:
            return self.store.resumable_stage(f"{self.spec.name}-whole")
        return self.store.stage(sync_id)

    def _plans(self, snapshot: Snapshot, until: datetime, published: Mapping[str, Table]) -> Mapping[Half, HalfPlan]:
        source = str(snapshot.source)
        return asked(
            snapshot, self.stall_timeout, lambda session: plan_halves(self.spec, session, source, until, published)
        )

    def until(self, now: datetime) -> datetime:
        """The moment in the last window: one that is published stays, though this machine's clock may be behind."""
        tables = self.store.manifest().tables
        published = [tables[name] for name in map(self.spec.table, Half) if name in tables]
        lowers = [part.lower for table in published for part in table.partitions.values() if part.lower is not None]
        return max([now, *lowers])

    def _spares(self, wish: Wish) -> Spares:
        """Connections to open at once: to fingerprint each half, and perhaps to read it. The first one judges."""
        halves = len(wish.halves)
        splits = self.tier in {None, Tier.PARALLEL} and bool(self.spec.partition_column)
        streams = 0 if self.tier is Tier.CURSOR else halves * (self.spec.sync_workers if splits else 1)
        limit = 1 + halves + (streams or halves)
        if self.spec.connections is not None:
            limit = min(limit, self.spec.connections)
        if wish.streams is Streams.WHEN_NEEDED:
            return Spares(psycopg=halves, limit=limit)
        return Spares(adbc=streams, psycopg=halves, limit=limit)

    def _read(
        self, wish: Wish, plans: Mapping[Half, HalfPlan], judge: Judge, stage: Stage, sync_id: str
    ) -> Mapping[Half, HalfDone]:
        """Choose and read in all halves at once; the first failure stops the others."""
        reading = Reading(self.spec, sync_id, self.log, *self._way(wish, judge.snapshot), self.stall_timeout)
        steps = None
        if isinstance(stage, ResumableStage):
            steps = Steps(reading, stage, self.rows_per_step)
            steps.resume()
        choose = self._choosing(wish, plans)

        def read(compared: Comparison, failed: Event) -> tuple[Half, HalfDone]:
            half, changes = choose(compared)
            if not changes.stale or failed.is_set():
                return half.plan.half, HalfDone(half.plan, changes, None)
            if steps and changes.stale >= half.plan.bounds.keys():
                return half.plan.half, HalfDone(half.plan, changes, steps.half(half, changes, failed))
            return half.plan.half, HalfDone(half.plan, changes, reading.half(half, changes, stage, failed))

        return dict(self._at_once(wish, plans, judge, read))

    def _way(self, wish: Wish, snapshot: Snapshot) -> tuple[Tier | None, int]:
        """The tier of a read, None for the fastest that works, and its connections at most."""
        if snapshot.connections is None:
            return self.tier, self.spec.sync_workers
        tier = Tier.CURSOR if snapshot.connections == 1 and self.tier is None else self.tier
        streams = max(1, snapshot.connections - 1)
        at_once = len(wish.halves) if _reads_at_once(wish, snapshot) else 1
        return tier, min(self.spec.sync_workers, max(1, streams // at_once))

    def _choosing(
        self, wish: Wish, plans: Mapping[Half, HalfPlan]
    ) -> Callable[[Comparison], tuple[Comparison, Changes]]:
        """How the partitions of a half are chosen, and by which plan they are read, within the limit of rows."""
        if self.spec.max_sync_rows is None:
            return lambda half: (half, wish.choose(half))
        limit = RowLimit(self.spec.max_sync_rows, self.log)
        if Half.DATASET not in wish.halves:
            dataset = plans[Half.DATASET]
            limit.known(dataset, self.store.manifest().tables.get(dataset.table))
        return lambda half: limit.choose(half, wish.choose)

    def _at_once(
        self,
        wish: Wish,
        plans: Mapping[Half, HalfPlan],
        judge: Judge,
        work: Callable[[Comparison, Event], tuple[Half, T]],
    ) -> Sequence[tuple[Half, T]]:
        """Do the same for each half of a wish at once, and judge both queries meanwhile."""
        failed, tables = Event(), self.store.manifest().tables
        halves = [
            Comparison(
                judge.snapshot,
                plan,
                tables.get(plan.table),
                self.patience,
                partial(judge.doubts, half),
                partial(judge.moves, half),
            )
            for half, plan in plans.items()
            if half in wish.halves
        ]

        def judged() -> None:
            judge.run()

        tasks: list[Callable[[], tuple[Half, T] | None]] = [judged, *(partial(work, half, failed) for half in halves)]

        def in_order() -> list[tuple[Half, T] | None]:
            return [task() for task in tasks]

        def cancel() -> None:
            judge.snapshot.pool.cancel_all()
            cancel_labelled(judge.snapshot.address, label_of(judge.snapshot))

        if _reads_at_once(wish, judge.snapshot):
            return [done for done in together(tasks, failed, cancel) if done is not None]
        return [done for done in together([in_order], failed, cancel)[0] if done is not None]


def _reads_at_once(wish: Wish, snapshot: Snapshot) -> bool:
    """Whether each half can have a connection for its rows beside the one for questions."""
    return snapshot.connections is None or snapshot.connections > len(wish.halves)
