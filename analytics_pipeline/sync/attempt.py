"""An attempt: one snapshot of the source, what is stale in it, its rows, one commit. Either all of it happens, or none.

Belongs here: the order of these steps, the connections that they need, stopping both halves when one fails.
Does not: when to try again, the status, the lock (`engine`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Event

import psycopg
from pydantic import SecretStr

from analytics_pipeline.store import Manifest, Replace, Stage, Store, Table
from analytics_pipeline.sync.changes import Changes
from analytics_pipeline.sync.connections import asked, cancel_labelled, labelled, together
from analytics_pipeline.sync.gate import source_gate
from analytics_pipeline.sync.plan import HalfPlan, plan_halves
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.postgres.snapshot import Snapshot, Spares, open_snapshot
from analytics_pipeline.sync.publishing import Publishing
from analytics_pipeline.sync.reading import HalfRead, Log, Reading
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

Choose = Callable[[Snapshot, HalfPlan, Table | None], Changes]


@dataclass(frozen=True)
class Wish:
    """What a sync is to replace.

    Args:
        halves: those that it looks at.
        choose: the partitions of a half, asked with its plan and its published table, in the snapshot.
        whole: what becomes of a table of which every partition is replaced.
    """

    halves: frozenset[Half]
    choose: Choose
    whole: Replace = Replace.TABLE


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
        gate: what the source's gate said in the snapshot; None where it proves nothing.
    """

    sync_id: str
    before: Manifest
    manifest: Manifest
    halves: Mapping[Half, HalfDone]
    snapshot_at: datetime
    gate: str | None

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
        before = self.store.manifest()
        with self.store.stage(sync_id) as stage:
            with self.snapshot(label, wish.halves) as snapshot:
                began = datetime.now(UTC)
                plans, gate = self.plans(snapshot, now)
                cancel = partial(cancel_labelled, self.url, label)
                halves = self._read(wish, plans, snapshot, stage, cancel)
            reads = [half.read for half in halves.values() if half.read is not None]
            manifest = Publishing(self.spec, self.store, self.log).commit(stage, plans, reads, wish.whole)
        return Done(sync_id, before, manifest, halves, began, gate)

    def compare(self, wish: Wish, now: datetime) -> Mapping[Half, Changes]:
        """What a wish would choose, without reading or changing anything.

        Args:
            wish: what to compare.
            now: as for `run`.

        Raises:
            SyncError: the source cannot be asked.
        """
        label = f"analytics_pipeline {uuid.uuid4().hex[:16]}"
        tables, failed = self.store.manifest().tables, Event()
        with self.snapshot(label, wish.halves) as snapshot:
            plans, _ = self.plans(snapshot, now)

            def ask(half: Half, plan: HalfPlan) -> tuple[Half, Changes]:
                return half, wish.choose(snapshot, plan, tables.get(plan.table))

            tasks = [partial(ask, half, plan) for half, plan in plans.items() if half in wish.halves]
            return dict(together(tasks, failed, partial(cancel_labelled, self.url, label)))

    def snapshot(self, label: str, halves: frozenset[Half]) -> AbstractContextManager[Snapshot]:
        """A snapshot with all connections that a sync of these halves needs, under a common name."""
        return open_snapshot(
            labelled(self.url, label),
            [self.spec.dataset_query, self.spec.results_query],
            query_timeout=self.spec.query_timeout,
            on_notice=self.log,
            stall_timeout=self.stall_timeout,
            spares=self._spares(len(halves)),
        )

    def plans(self, snapshot: Snapshot, now: datetime) -> tuple[Mapping[Half, HalfPlan], str | None]:
        """The plans of both halves, and what the source's gate says in their snapshot."""
        source, until = str(snapshot.source), self.until(now)

        def ask(session: psycopg.Connection) -> tuple[Mapping[Half, HalfPlan], str | None]:
            plans = plan_halves(self.spec, session, source, until)
            gate = self._gate(session) if all(plan.traits.moves_only_with_writes for plan in plans.values()) else None
            return plans, gate

        return asked(snapshot, self.stall_timeout, ask)

    def until(self, now: datetime) -> datetime:
        """The moment in the last window: one that is published stays, though this machine's clock may be behind."""
        tables = self.store.manifest().tables
        published = [tables[name] for name in map(self.spec.table, Half) if name in tables]
        lowers = [part.lower for table in published for part in table.partitions.values() if part.lower is not None]
        return max([now, *lowers])

    def _gate(self, session: psycopg.Connection) -> str | None:
        try:
            with session.transaction():
                return source_gate(session)
        except psycopg.Error as error:
            reason = str(error).split("\n")[0]
            self.log(f"{self.spec.name}: unchanged sources cannot be told without fingerprints here ({reason}).")
            return None

    def _spares(self, halves: int) -> Spares:
        """All connections that the sync will need: one to describe, then to fingerprint and to read each half."""
        splits = self.tier in {None, Tier.PARALLEL} and self.spec.partition_column is not None
        if self.tier is Tier.CURSOR:
            return Spares(psycopg=1 + 2 * halves)
        streams = self.spec.sync_workers if splits else 1
        return Spares(adbc=halves * streams, psycopg=1 + halves * (2 if splits else 1))

    def _read(
        self,
        wish: Wish,
        plans: Mapping[Half, HalfPlan],
        snapshot: Snapshot,
        stage: Stage,
        cancel: Callable[[], None],
    ) -> Mapping[Half, HalfDone]:
        """Choose and read in all halves at once; the first failure stops the others."""
        failed = Event()
        tables = self.store.manifest().tables
        reading = Reading(self.spec, self.log, self.tier, self.stall_timeout)

        def read(plan: HalfPlan) -> HalfDone:
            changes = wish.choose(snapshot, plan, tables.get(plan.table))
            wanted = bool(changes.stale) and not failed.is_set()
            return HalfDone(plan, changes, reading.half(plan, changes, snapshot, stage, failed) if wanted else None)

        tasks = [partial(read, plan) for half, plan in plans.items() if half in wish.halves]
        return {done.plan.half: done for done in together(tasks, failed, cancel)}
