"""The engine: from a selection of partitions to one commit, read in one snapshot of the source.

Belongs here: the order of a sync: lock, snapshot, plan, read both halves, check, commit, sweep.
Does not: SQL of the source (`postgres`, `windows`), files (`store`), Dagster.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event

from pydantic import SecretStr

from analytics_pipeline.store import Change, JoinView, Manifest, Partition, Stage, Store, TableChange
from analytics_pipeline.store.schema import columns_of, identifier
from analytics_pipeline.sync.changes import stale_partitions
from analytics_pipeline.sync.fingerprint import Fingerprint
from analytics_pipeline.sync.plan import KEY, HalfPlan, checked_keys, plan_halves
from analytics_pipeline.sync.postgres.readers import ReadRequest, RowStream, Tier, stream
from analytics_pipeline.sync.postgres.snapshot import Snapshot, open_snapshot
from analytics_pipeline.sync.routing import Router
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

Log = Callable[[str], None]

_PROGRESS_SECONDS = 5.0


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
class HalfOutcome:
    """What became of one half.

    Args:
        table: its published table.
        partitions: rows of each replaced partition.
        bytes: of the files written.
        seconds: from the first request to the last row on disk.
        tier: how it was read.
    """

    table: str
    partitions: Mapping[str, int]
    bytes: int
    seconds: float
    tier: Tier

    @property
    def rows(self) -> int:
        """Rows read and written."""
        return sum(self.partitions.values())


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
class _HalfRead:
    """The rows of a half, staged."""

    plan: HalfPlan
    partitions: Sequence[Partition]
    whole: bool
    outcome: HalfOutcome


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
    """

    spec: SplitSyncSpec
    url: SecretStr
    store: Store
    log: Log
    tier: Tier | None = None
    stall_timeout: float = 300.0

    def replace(self, selection: Selection, *, now: datetime | None = None) -> SyncOutcome:
        """Replace what is selected by what the source holds now, whether it changed or not.

        Args:
            selection: halves and partitions.
            now: the last partition is the one that holds this moment; the present by default.

        Raises:
            SyncError: the source cannot be read, or not into these tables; the store is as it was.
            StoreError: the store refused the commit.
        """

        def chosen(_snapshot: Snapshot, plans: Mapping[Half, HalfPlan]) -> Mapping[Half, frozenset[str]]:
            return {half: _selected(self.spec, selection, plans[half]) for half in selection.halves}

        return self._run(chosen, now)

    def refresh(self, *, now: datetime | None = None) -> SyncOutcome:
        """Replace the partitions whose content in the source differs from the published one; commit nothing if none.

        Args:
            now: as for `replace`.

        Raises:
            SyncError, StoreError: as `replace`.
        """

        def stale(snapshot: Snapshot, plans: Mapping[Half, HalfPlan]) -> Mapping[Half, frozenset[str]]:
            tables = self.store.manifest().tables
            return {half: stale_partitions(snapshot, plan, tables.get(plan.table)) for half, plan in plans.items()}

        return self._run(stale, now)

    def _run(
        self,
        choose: Callable[[Snapshot, Mapping[Half, HalfPlan]], Mapping[Half, frozenset[str]]],
        now: datetime | None,
    ) -> SyncOutcome:
        sync_id = f"{self.spec.name}-{uuid.uuid4().hex[:16]}"
        with self.store.exclusive(self.spec.name, self.log), self.store.stage(sync_id) as stage:
            with open_snapshot(
                self.url,
                [self.spec.dataset_query, self.spec.results_query],
                query_timeout=self.spec.query_timeout,
                on_notice=self.log,
            ) as snapshot:
                plans = self._plans(snapshot, now or datetime.now(UTC))
                chosen = {half: keys for half, keys in choose(snapshot, plans).items() if keys}
                reads = self._read([(plans[half], keys) for half, keys in chosen.items()], snapshot, stage)
            manifest = self._commit(stage, plans, reads) if reads else self.store.manifest()
        self.store.sweep()
        return SyncOutcome(sync_id, manifest, {read.plan.half: read.outcome for read in reads})

    def _plans(self, snapshot: Snapshot, until: datetime) -> Mapping[Half, HalfPlan]:
        connection = snapshot.connect()
        try:
            return plan_halves(self.spec, connection, str(snapshot.source), until)
        finally:
            connection.close()

    def _read(
        self, wanted: Sequence[tuple[HalfPlan, frozenset[str]]], snapshot: Snapshot, stage: Stage
    ) -> Sequence[_HalfRead]:
        """Read all halves at once; the first failure stops the others."""
        failed = Event()
        with ThreadPoolExecutor(max_workers=max(len(wanted), 1), thread_name_prefix="half") as pool:
            futures = [pool.submit(self._read_half, plan, keys, snapshot, stage, failed) for plan, keys in wanted]
        errors = [error for future in futures if (error := future.exception()) and not isinstance(error, _Stopped)]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    def _read_half(
        self, plan: HalfPlan, keys: frozenset[str], snapshot: Snapshot, stage: Stage, failed: Event
    ) -> _HalfRead:
        began = time.monotonic()
        writer = stage.writer(plan.table, plan.schema)
        router = Router(writer, plan.schema, plan.key_of)
        try:
            with stream(snapshot, self._request(plan, keys), on_notice=self.log) as rows:
                self._drain(rows, router, plan.table, failed)
            files = writer.close()
        except BaseException:
            failed.set()
            writer.abandon()
            raise
        partitions = [
            Partition(
                key=key,
                lower=plan.bounds[key].lower,
                upper=plan.bounds[key].upper,
                files=tuple(files.get(key, ())),
                fingerprint=str(router.fingerprints.get(key, Fingerprint())),
                spec_hash=plan.spec_hash,
                sync_id=stage.sync_id,
                synced_at=datetime.now(UTC),
            )
            for key in plan.bounds
            if key in keys
        ]
        outcome = HalfOutcome(
            table=plan.table,
            partitions={partition.key: partition.rows for partition in partitions},
            bytes=sum(partition.bytes for partition in partitions),
            seconds=time.monotonic() - began,
            tier=rows.tier,
        )
        self.log(f"{plan.table}: {outcome.rows:,} rows in {outcome.seconds:.1f} s by {outcome.tier.value}")
        return _HalfRead(plan, partitions, keys >= set(plan.bounds), outcome)

    def _request(self, plan: HalfPlan, keys: frozenset[str]) -> ReadRequest:
        return ReadRequest(
            query=plan.query,
            rules=plan.travelling_rules,
            where=plan.selecting(keys),
            partition_column=self.spec.partition_column,
            workers=self.spec.sync_workers,
            batch_rows=self.spec.sync_chunk_size,
            stall_timeout=self.stall_timeout,
            tier=self.tier,
        )

    def _drain(self, rows: RowStream, router: Router, table: str, failed: Event) -> None:
        began = told = time.monotonic()
        for batch in rows:
            if failed.is_set():
                raise _Stopped
            router.take(batch)
            now = time.monotonic()
            if now - told > _PROGRESS_SECONDS:
                told = now
                self.log(f"{table}: {router.rows:,} rows so far, {router.rows / (now - began):,.0f} a second")

    def _commit(self, stage: Stage, plans: Mapping[Half, HalfPlan], reads: Sequence[_HalfRead]) -> Manifest:
        tables = [
            TableChange(read.plan.table, columns_of(read.plan.schema), read.partitions, rebuild=read.whole)
            for read in reads
        ]
        change = Change(tables, [self._view(stage, plans, tables)])
        return self.store.commit(stage, change)

    def _view(self, stage: Stage, plans: Mapping[Half, HalfPlan], tables: Sequence[TableChange]) -> JoinView:
        """The JOIN view; it picks the newest of several dataset rows only while there are any."""
        dataset, results = plans[Half.DATASET], plans[Half.RESULTS]
        order = dataset.names[self.spec.incremental_column] if self.spec.incremental_column else KEY
        doubled = self._has_doubled_keys(stage, tables, dataset.table)
        return JoinView(
            name=self.spec.view,
            left=results.table,
            right=dataset.table,
            key=KEY,
            prefix="dataset",
            kind=self.spec.join,
            newest_by=order if doubled else None,
        )

    def _has_doubled_keys(self, stage: Stage, tables: Sequence[TableChange], dataset: str) -> bool:
        view = self.store.manifest().views.get(self.spec.view)
        if all(table.name != dataset for table in tables):
            return view is not None and view.newest_by is not None
        with self.store.preview(stage, Change(tables)) as preview:
            counted = f"SELECT count({KEY}) > count(DISTINCT {KEY}) FROM {identifier(dataset)}"
            doubled = bool(preview.rows(counted)[0][0])
        if doubled:
            self.log(f"{dataset}: some {KEY} have several rows; {self.spec.view} joins the newest of each.")
        return doubled


class _Stopped(Exception):
    """Ends a half whose partner failed."""


def _selected(spec: SplitSyncSpec, selection: Selection, plan: HalfPlan) -> frozenset[str]:
    if selection.partitions is None:
        return frozenset(plan.bounds)
    return checked_keys(spec, selection.partitions, plan)
