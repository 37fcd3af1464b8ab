"""The engine: what can be done with a dataset, one at a time, whatever fails or dies meanwhile.

Belongs here: the verbs (refresh, audit, replace, rebuild, check), the dataset's lock, its status, trying again.
Does not: one attempt's steps (`attempt`), which partitions are stale (`changes`), Dagster.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydantic import SecretStr

from analytics_pipeline.errors import SourceConnectionsExhausted, SourceError, SourceLocked, StoreError
from analytics_pipeline.store import Replace, Store
from analytics_pipeline.sync import checks
from analytics_pipeline.sync.attempt import Attempt, Choose, Done, Staging, Streams, Wish
from analytics_pipeline.sync.changes import Changes, Comparison, audited, changed, changed_rest, first_time
from analytics_pipeline.sync.checks import CheckResult
from analytics_pipeline.sync.derived import published_tables
from analytics_pipeline.sync.disk import writing
from analytics_pipeline.sync.gate import gate_of, source_gate_of
from analytics_pipeline.sync.guard import Allowance, Guard
from analytics_pipeline.sync.outcome import SyncOutcome, checks_of, outcome_of, status_after
from analytics_pipeline.sync.plan import checked_keys
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.reading import Log
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.status import DatasetStatus, State, read_status, syncing, verified_again, write_status
from analytics_pipeline.sync.steps import ROWS_PER_STEP
from analytics_pipeline.waiting import terminable

GATE_SECONDS = 5.0


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
        run_id: of the Dagster run, for the status.
        rows_per_step: a whole half of more rows is read in steps, each of which outlives a failure.
        allowed: what a person lets this sync do that would stop it otherwise.
    """

    spec: SplitSyncSpec
    url: SecretStr
    store: Store
    log: Log
    tier: Tier | None = None
    stall_timeout: float = 300.0
    pauses: Sequence[float] = (1.0, 4.0, 15.0)
    run_id: str | None = None
    rows_per_step: int = ROWS_PER_STEP
    allowed: frozenset[Allowance] = frozenset()

    def refresh(self, *, now: datetime | None = None) -> SyncOutcome:
        """Replace the partitions whose content in the source differs from the published one; commit nothing if none.

        Args:
            now: the last partition is the one that holds this moment; the present by default.

        Raises:
            SyncError: the source cannot be read, or not into these tables; the store is as it was.
            StoreError: the store refused the commit.
        """
        self.store.recover(self.log)
        if self.is_unchanged(now=now):
            self.log(f"{self.spec.name}: nothing was written in the source's server since it was compared last.")
            manifest = self.store.manifest()
            return SyncOutcome(_sync_id(self.spec), manifest, checks=checks_of(self.spec, manifest, {}, manifest))
        return self._run(self._comparing(changed), now)

    def audit(self, *, now: datetime | None = None) -> SyncOutcome:
        """A refresh that compares every row's checksum, whatever kind of fingerprint tells changes from day to day.

        It also reads every published file. Partitions of a file that does not hold what was written are read again.

        Args:
            now: as for `refresh`.

        Raises:
            SyncError, StoreError: as `refresh`.
        """
        self.store.recover(self.log)
        intact = self.check_files()
        outcome = self._run(self._comparing(audited), now)
        return replace(outcome, checks=[*outcome.checks, *intact])

    def replace(self, selection: Selection, *, now: datetime | None = None) -> SyncOutcome:
        """Replace what is selected by what the source holds now, whether it changed or not.

        Single partitions bring `REST` with them where that has changed, for a row may have come from there. Where the
        spec has changed, the whole half is replaced: partitions of two specs would not fit together.

        Args:
            selection: halves and partitions.
            now: as for `refresh`.

        Raises:
            SyncError, StoreError: as `refresh`.
        """

        def chosen(half: Comparison) -> Changes:
            return self._selected(selection.partitions, half)

        return self._run(Wish(selection.halves, chosen), now)

    def rebuild(self, *, now: datetime | None = None) -> SyncOutcome:
        """Replace everything, and adopt the source's columns even where the published types cannot hold them.

        Readers see the former tables until the new ones are whole. What a rebuild had read when it died or failed is
        taken over by the next one, as far as it is still equal to the source.

        Args:
            now: as for `refresh`.

        Raises:
            SyncError, StoreError: as `refresh`.
        """
        self.store.recover(self.log)
        return self._run(Wish(frozenset(Half), first_time, Replace.TABLE_AND_COLUMNS, staging=Staging.ALWAYS), now)

    def is_unchanged(self, patience: float = GATE_SECONDS, *, now: datetime | None = None) -> bool:
        """Whether it is proven that a refresh would find nothing; one question to the source, whatever its size.

        If so, the dataset counts as verified now. False says nothing: the source may still be as it was.

        Args:
            patience: seconds to wait for the answer.
            now: as for `refresh`.
        """
        status = read_status(self.store, self.spec)
        if status.gate is None or status.state is not State.READY:
            return False
        if any(map(self.store.damaged_partitions, published_tables(self.spec))):
            return False
        asked_at = datetime.now(UTC)
        said = source_gate_of(self.url, patience, self.log)
        until = self._attempt().until(now or asked_at)
        if said is None or gate_of(said, self.url, self.spec, self.store.manifest(), until) != status.gate:
            return False
        try:
            verified_again(self.store, self.spec, status, asked_at)
        except OSError as error:
            self.log(f"{self.spec.name}: its status could not be written, so a refresh has to compare. {error}")
            return False
        return True

    def check(self, *, now: datetime | None = None) -> Sequence[CheckResult]:
        """All checks, by comparing what is published with the source as it is now; replaces nothing.

        Args:
            now: as for `refresh`.

        Raises:
            SyncError: the source cannot be asked.
        """
        manifest, moment = self.store.manifest(), now or datetime.now(UTC)
        found: dict[Half, Changes] = {}
        restricted: Sequence[str] | None = None
        if any(self.spec.table(half) in manifest.tables for half in Half):
            compared, source = self._attempt().compare(
                Wish(frozenset(Half), changed, streams=Streams.WHEN_NEEDED), moment
            )
            found, restricted = dict(compared), source.restricted
        verified = read_status(self.store, self.spec).last_verified
        in_time = checks.verified_in_time(self.spec.view, verified, self.spec.refresh_interval_minutes, moment)
        return [*checks_of(self.spec, manifest, found, manifest, restricted=restricted), in_time]

    def check_files(self) -> Sequence[CheckResult]:
        """Whether the published files hold what was written; what is damaged is set aside for the next refresh to heal.

        Raises:
            StoreError: the store cannot be read.
        """
        tables = {self.spec.table(half): [self.spec.table(half)] for half in Half}
        derived = [table for table in published_tables(self.spec) if table not in tables]
        if derived:
            tables[self.spec.cases_table] = derived
        found = {table: self.store.set_aside_damage(names, self.log) for table, names in tables.items()}
        return [checks.files_intact(table, each) for table, each in found.items()]

    def _attempt(self) -> Attempt:
        guard = Guard(self.spec, self.log, self.allowed, read_status(self.store, self.spec).source)
        return Attempt(
            self.spec, self.url, self.store, self.log, self.tier, self.stall_timeout, self.rows_per_step, guard
        )

    def _run(self, wish: Wish, now: datetime | None) -> SyncOutcome:
        with terminable(), writing(self.store.root), self.store.exclusive(self.spec.name, self.log):
            with syncing(self.store, self.spec, self.run_id) as before:
                done = self._attempts(wish, now)
            self._tell(status_after(self.spec, self.url, before, done, self.run_id))
        self._sweep()
        return outcome_of(self.spec, done)

    def _attempts(self, wish: Wish, now: datetime | None) -> Done:
        """Sync, from the snapshot on, until it succeeds, fails for good, or the pauses are used up."""
        for pause in self.pauses:
            try:
                return self._attempted(wish, now)
            except SourceError as error:
                if not error.transient:
                    raise
                seconds = pause * random.uniform(0.5, 1.5)  # noqa: S311 - so that many syncs do not come back at once
                self.log(f"{self.spec.name}: trying again in {seconds:.1f} s. {error}")
                time.sleep(seconds)
        return self._attempted(wish, now)

    def _attempted(self, wish: Wish, now: datetime | None) -> Done:
        try:
            return self._attempt().run(wish, now or datetime.now(UTC))
        except (SourceLocked, SourceConnectionsExhausted) as error:
            if wish.streams is Streams.FIRST:
                raise
            self.log(f"{self.spec.name}: opening all connections first now. {error}")
        return self._attempt().run(replace(wish, streams=Streams.FIRST), now or datetime.now(UTC))

    def _comparing(self, compare: Choose) -> Wish:
        """To replace what differs from the source, and what is lost here."""

        def chosen(half: Comparison) -> Changes:
            table = half.plan.table
            damaged = self.store.damaged_partitions(table) & half.plan.bounds.keys()
            if damaged:
                self.log(f"{table}: files of {', '.join(sorted(damaged))} are lost or cut; they are read again.")
            found = compare(half)
            return Changes(found.stale | damaged, found.found, found.drifted)

        is_first = any(self.spec.table(half) not in self.store.manifest().tables for half in Half)
        return Wish(frozenset(Half), chosen, streams=Streams.FIRST if is_first else Streams.WHEN_NEEDED)

    def _selected(self, keys: frozenset[str] | None, half: Comparison) -> Changes:
        if keys is None:
            return first_time(half)
        checked_keys(self.spec, keys, half.plan)
        if not keys:
            return Changes(keys)
        if half.published is not None and half.plan.is_other_than(half.published):
            self.log(f"{half.plan.table}: its spec or its columns changed, so all partitions are replaced.")
            return first_time(half)
        return Changes(keys | changed_rest(half))

    def _tell(self, status: DatasetStatus) -> None:
        """Write the status; what goes wrong with it is no failure of the sync, which is published by now."""
        try:
            write_status(self.store, self.spec, status)
        except OSError as error:
            self.log(f"{self.spec.name} is synced, but its status could not be written. {error}")

    def _sweep(self) -> None:
        """Tidy up; what goes wrong with it is no failure of the sync, which is published by now."""
        try:
            with writing(self.store.root):
                self.store.sweep()
        except StoreError as error:
            self.log(f"{self.spec.name} is synced, but old files could not be removed. {error}")


def _sync_id(spec: SplitSyncSpec) -> str:
    return f"{spec.name}-{uuid.uuid4().hex[:16]}"
