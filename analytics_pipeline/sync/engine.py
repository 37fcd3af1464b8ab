"""The engine: from a selection of partitions to one commit, read in one snapshot of the source.

Belongs here: the order of a sync: lock, snapshot, plan, read both halves, check, commit, sweep.
Does not: SQL of the source (`postgres`, `windows`), files (`store`), Dagster.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from threading import Event

from pydantic import SecretStr

from analytics_pipeline.errors import SourceError, StoreError
from analytics_pipeline.store import (
    Change,
    Manifest,
    Replace,
    Stage,
    Store,
    Table,
    TableChange,
)
from analytics_pipeline.store.schema import columns_of
from analytics_pipeline.sync.changes import has_other_rules, stale_partitions, stale_rest
from analytics_pipeline.sync.connections import asked, cancel_labelled, labelled, together
from analytics_pipeline.sync.disk import writing
from analytics_pipeline.sync.plan import KEY, HalfPlan, checked_keys, plan_halves
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.postgres.snapshot import Snapshot, Spares, open_snapshot
from analytics_pipeline.sync.reading import HalfOutcome, HalfRead, Log, Reading
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.view import joined_view, order_of_doubles


@dataclass(frozen=True)
class Selection:
    """What a sync replaces.

    Args:
        halves: one or both.
        partitions: keys; None for all of them, and the rows that belong to none.
    """

    halves: frozenset[Half] = frozenset(Half)
    partitions: frozenset[str] | None = None


@dataclass(frozen=True)
class SyncOutcome:
    """What a sync did.

    Args:
        sync_id: of the sync.
        manifest: the store's state afterwards.
        halves: those that were read; none where the source had not changed.
    """

    sync_id: str
    manifest: Manifest
    halves: Mapping[Half, HalfOutcome] = field(default_factory=dict)


@dataclass(frozen=True)
class _Wish:
    """What a sync is to replace, asked for each half with its published table, in the snapshot."""

    halves: frozenset[Half]
    choose: Callable[[Snapshot, HalfPlan, Table | None], frozenset[str]]
    whole: Replace = Replace.TABLE

    def replaces(self, read: HalfRead) -> Replace:
        """How far the change of a half reaches."""
        return self.whole if read.whole else Replace.PARTITIONS


@dataclass(frozen=True)
class SyncJob:
    """A dataset, its source and the store that mirrors it.

    Args:
        spec: of the dataset.
        url: of its source.
        store: to publish in.
        log: gets a line for progress, notices and fallbacks; no line holds a secret.
        tier: read in this way and no other; None for the fastest that works.
        stall_timeout: seconds without any row after which a read is given up.
        pauses: seconds to wait, more or less, before each further attempt after a failure that may pass.
    """

    spec: SplitSyncSpec
    url: SecretStr
    store: Store
    log: Log
    tier: Tier | None = None
    stall_timeout: float = 300.0
    pauses: Sequence[float] = (1.0, 4.0, 15.0)

    def replace(self, selection: Selection, *, now: datetime | None = None) -> SyncOutcome:
        """Replace what is selected by what the source holds now, whether it changed or not.

        Single partitions bring `REST` with them where that has changed, for a row may have come from there. Where the
        spec has changed, the whole half is replaced: partitions of two specs would not fit together.

        Args:
            selection: halves and partitions.
            now: the last partition is the one that holds this moment; the present by default.

        Raises:
            SyncError: the source cannot be read, or not into these tables; the store is as it was.
            StoreError: the store refused the commit.
        """

        def chosen(snapshot: Snapshot, plan: HalfPlan, published: Table | None) -> frozenset[str]:
            return self._selected(selection.partitions, snapshot, plan, published)

        return self._run(_Wish(selection.halves, chosen), now)

    def refresh(self, *, now: datetime | None = None) -> SyncOutcome:
        """Replace the partitions whose content in the source differs from the published one; commit nothing if none.

        Args:
            now: as for `replace`.

        Raises:
            SyncError, StoreError: as `replace`.
        """

        def stale(snapshot: Snapshot, plan: HalfPlan, published: Table | None) -> frozenset[str]:
            damaged = self.store.damaged_partitions(plan.table) & plan.bounds.keys()
            if damaged:
                self.log(f"{plan.table}: files of {', '.join(sorted(damaged))} are lost or cut; they are read again.")
            return damaged | stale_partitions(snapshot, plan, published, self._patience)

        return self._run(_Wish(frozenset(Half), stale), now)

    def rebuild(self, *, now: datetime | None = None) -> SyncOutcome:
        """Replace everything, and adopt the source's columns even where the published types cannot hold them.

        Args:
            now: as for `replace`.

        Raises:
            SyncError, StoreError: as `replace`.
        """

        def everything(_snapshot: Snapshot, plan: HalfPlan, _published: Table | None) -> frozenset[str]:
            return frozenset(plan.bounds)

        return self._run(_Wish(frozenset(Half), everything, whole=Replace.TABLE_AND_COLUMNS), now)

    @property
    def _patience(self) -> float:
        """Seconds after which a question that Postgres itself would have stopped by now is not answered any more."""
        return self.spec.query_timeout + self.stall_timeout

    def _run(self, wish: _Wish, now: datetime | None) -> SyncOutcome:
        with writing(self.store.root), self.store.exclusive(self.spec.name, self.log):
            outcome = self._attempts(wish, now)
        self._sweep()
        return outcome

    def _attempts(self, wish: _Wish, now: datetime | None) -> SyncOutcome:
        """Sync, from the snapshot on, until it succeeds, fails for good, or the pauses are used up."""
        for pause in self.pauses:
            try:
                return self._attempt(wish, now)
            except SourceError as error:
                if not error.transient:
                    raise
                seconds = pause * random.uniform(0.5, 1.5)  # noqa: S311 - so that many syncs do not come back at once
                self.log(f"{self.spec.name}: trying again in {seconds:.1f} s. {error}")
                time.sleep(seconds)
        return self._attempt(wish, now)

    def _attempt(self, wish: _Wish, now: datetime | None) -> SyncOutcome:
        unique = uuid.uuid4().hex[:16]
        sync_id, label = f"{self.spec.name}-{unique}", f"analytics_pipeline {unique}"
        url = labelled(self.url, label)
        with self.store.stage(sync_id) as stage:
            with open_snapshot(
                url,
                [self.spec.dataset_query, self.spec.results_query],
                query_timeout=self.spec.query_timeout,
                on_notice=self.log,
                stall_timeout=self.stall_timeout,
                spares=self._spares(wish),
            ) as snapshot:
                plans = self._plans(snapshot, now or datetime.now(UTC))
                reads = self._read(wish, plans, snapshot, stage, lambda: cancel_labelled(self.url, label))
            manifest = self._commit(stage, plans, reads, wish)
        return SyncOutcome(sync_id, manifest, {read.plan.half: read.outcome for read in reads})

    def _spares(self, wish: _Wish) -> Spares:
        """All connections that the sync will need: one to describe, then to fingerprint and to read each half."""
        halves = len(wish.halves)
        splits = self.tier in {None, Tier.PARALLEL} and self.spec.partition_column is not None
        if self.tier is Tier.CURSOR:
            return Spares(psycopg=1 + 2 * halves)
        streams = self.spec.sync_workers if splits else 1
        return Spares(adbc=halves * streams, psycopg=1 + halves * (2 if splits else 1))

    def _plans(self, snapshot: Snapshot, now: datetime) -> Mapping[Half, HalfPlan]:
        source, until = str(snapshot.source), self._until(now)
        return asked(snapshot, self.stall_timeout, lambda session: plan_halves(self.spec, session, source, until))

    def _until(self, now: datetime) -> datetime:
        """The moment in the last window: one that is published stays, though this machine's clock may be behind."""
        tables = self.store.manifest().tables
        published = [tables[name] for name in map(self.spec.table, Half) if name in tables]
        lowers = [part.lower for table in published for part in table.partitions.values() if part.lower is not None]
        return max([now, *lowers])

    def _selected(
        self, keys: frozenset[str] | None, snapshot: Snapshot, plan: HalfPlan, published: Table | None
    ) -> frozenset[str]:
        if keys is None:
            return frozenset(plan.bounds)
        checked_keys(self.spec, keys, plan)
        if not keys:
            return keys
        if published is not None and has_other_rules(plan, published):
            self.log(f"{plan.table}: its spec or its columns changed, so all partitions are replaced.")
            return frozenset(plan.bounds)
        return keys | stale_rest(snapshot, plan, published, self._patience)

    def _read(
        self,
        wish: _Wish,
        plans: Mapping[Half, HalfPlan],
        snapshot: Snapshot,
        stage: Stage,
        cancel: Callable[[], None],
    ) -> Sequence[HalfRead]:
        """Choose and read in all halves at once; the first failure stops the others."""
        failed = Event()
        tables = self.store.manifest().tables
        reading = Reading(self.spec, self.log, self.tier, self.stall_timeout)

        def read(plan: HalfPlan) -> HalfRead | None:
            keys = wish.choose(snapshot, plan, tables.get(plan.table))
            return reading.half(plan, keys, snapshot, stage, failed) if keys and not failed.is_set() else None

        tasks = [partial(read, plan) for half, plan in plans.items() if half in wish.halves]
        return [done for done in together(tasks, failed, cancel) if done is not None]

    def _commit(self, stage: Stage, plans: Mapping[Half, HalfPlan], reads: Sequence[HalfRead], wish: _Wish) -> Manifest:
        tables = [
            TableChange(
                read.plan.table,
                columns_of(read.plan.schema),
                read.partitions,
                replace=wish.replaces(read),
            )
            for read in reads
        ]
        dataset, current = plans[Half.DATASET], self.store.manifest()
        newest_by = order_of_doubles(self.spec, self.store, stage, tables, dataset)
        if newest_by and tables:
            self.log(f"{dataset.table}: some {KEY} have several rows; {self.spec.view} joins the newest of each.")
        view = joined_view(self.spec, newest_by)
        if not tables and current.views.get(view.name) in {None, view}:
            return current
        return self.store.commit(stage, Change(tables, [view]))

    def _sweep(self) -> None:
        """Tidy up; what goes wrong with it is no failure of the sync, which is published by now."""
        try:
            with writing(self.store.root):
                self.store.sweep()
        except StoreError as error:
            self.log(f"{self.spec.name} is synced, but old files could not be removed. {error}")
