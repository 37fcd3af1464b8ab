"""Reading: the rows of one half from a snapshot into staged files, fingerprinted on the way.

Belongs here: one half's stream, its progress, what became of it. Does not: which partitions (`engine`), commits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event

from analytics_pipeline.errors import PartitionsDisagree, UnstableQuery
from analytics_pipeline.store import Partition, PartitionedWriter, Stage
from analytics_pipeline.sync.changes import Changes, Comparison
from analytics_pipeline.sync.connections import Stopped
from analytics_pipeline.sync.plan import HalfPlan
from analytics_pipeline.sync.postgres.readers import ReadRequest, RowStream, Tier, stream
from analytics_pipeline.sync.routing import Router
from analytics_pipeline.sync.spec import SplitSyncSpec

Log = Callable[[str], None]

_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class HalfOutcome:
    """What became of one half.

    Args:
        table: its published table.
        partitions: rows of each partition that was read.
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
class HalfRead:
    """The rows of a half, staged.

    Args:
        plan: of the half.
        partitions: replaced ones, whole, with their new files.
        whole: whether these are all partitions there are.
        outcome: for people.
    """

    plan: HalfPlan
    partitions: Sequence[Partition]
    whole: bool
    outcome: HalfOutcome


@dataclass(frozen=True)
class Reading:
    """How the halves of a dataset are read.

    Args:
        spec: of the dataset.
        sync_id: of the sync; partitions carry it.
        log: gets a line for progress, notices and fallbacks.
        tier: read in this way and no other; None for the fastest that works.
        workers: connections of one read at most.
        stall_timeout: seconds without any row after which a read is given up.
    """

    spec: SplitSyncSpec
    sync_id: str
    log: Log
    tier: Tier | None
    workers: int
    stall_timeout: float

    def half(self, half: Comparison, changes: Changes, stage: Stage, failed: Event) -> HalfRead:
        """Read the stale partitions of a half, all of them or none.

        Args:
            half: with its plan and snapshot.
            changes: the partitions, and what the read must give where that is known.
            stage: takes the files.
            failed: ends this half when the other one failed, and the other way round.

        Raises:
            SourceError: Postgres, or the way to it, failed.
            PartitionsDisagree: rows arrived for partitions that nobody asked for.
            UnstableQuery: the same snapshot gave other rows than a moment before.
            Stopped: the other half failed.
        """
        began = time.monotonic()
        plan, keys = half.plan, changes.stale
        if plan.unfit_to_split is not None:
            self.log(
                f"{plan.table}: the partition_column is of type {plan.unfit_to_split}, by which no read can be split: "
                "it is read by one stream. Name a column with an order, such as a number, a time or a text."
            )
        wanted = keys - changes.left_out
        writer = stage.writer(plan.table, plan.schema)
        router = Router(writer, plan.schema, plan.cut, tuple(plan.hashes))
        try:
            with stream(half.snapshot, self._request(plan, wanted), on_notice=self.log) as rows:
                self._drain(rows, router, _Progress(plan.table, changes), failed)
            files = writer.close()
            _refuse_others(plan.table, router.fingerprints, wanted)
            _refuse_unstable(half, changes, router)
        except BaseException:
            _abandon(writer)
            raise
        partitions = [
            Partition(
                key=key,
                lower=plan.bounds[key].lower,
                upper=plan.bounds[key].upper,
                files=tuple(files.get(key, ())),
                fingerprint=str(router.fingerprint(key)) if key in wanted else None,
                spec_hash=plan.spec_hash,
                sync_id=self.sync_id,
                synced_at=datetime.now(UTC),
            )
            for key in plan.bounds
            if key in keys
        ]
        outcome = HalfOutcome(
            table=plan.table,
            partitions={partition.key: partition.rows for partition in partitions if partition.key in wanted},
            bytes=sum(partition.bytes for partition in partitions),
            seconds=time.monotonic() - began,
            tier=rows.tier,
        )
        self.log(f"{plan.table}: {outcome.rows:,} rows in {outcome.seconds:.1f} s by {outcome.tier.value}")
        return HalfRead(plan, partitions, keys >= plan.bounds.keys(), outcome)

    def _request(self, plan: HalfPlan, keys: frozenset[str]) -> ReadRequest:
        return ReadRequest(
            query=plan.query,
            rules=plan.travelling_rules,
            where=plan.selecting(keys),
            partition_column=plan.split_by,
            workers=self.workers,
            batch_rows=self.spec.sync_chunk_size,
            stall_timeout=self.stall_timeout,
            patience=self.spec.query_timeout + self.stall_timeout,
            tier=self.tier,
        )

    def _drain(self, rows: RowStream, router: Router, progress: _Progress, failed: Event) -> None:
        for batch in rows:
            if failed.is_set():
                raise Stopped
            router.take(batch)
            if line := progress.line(router.rows):
                self.log(line)


class _Progress:
    """A line now and then: how far a read is, how fast, and how much is left where that is known."""

    def __init__(self, table: str, changes: Changes) -> None:
        self._table = table
        self._began = self._told = time.monotonic()
        known = changes.found.keys() >= changes.stale
        self._expected = sum(changes.found[key].rows for key in changes.stale) if known else None

    def line(self, rows: int) -> str | None:
        now = time.monotonic()
        if now - self._told <= _PROGRESS_SECONDS:
            return None
        self._told = now
        rate = rows / (now - self._began)
        left = "" if self._expected is None else f", {self._expected - rows:,} remaining ({self._left(rows, rate)})"
        return f"{self._table}: {rows:,} rows so far, {rate:,.0f} a second{left}"

    def _left(self, rows: int, rate: float) -> str:
        return f"about {((self._expected or rows) - rows) / rate:,.0f} s" if rate else "no rate yet"


def _refuse_unstable(half: Comparison, changes: Changes, router: Router) -> None:
    """Within one snapshot a query that gives two answers would be stale for ever.

    Not so one whose rows come and go with time, as behind `now() - interval '7 days'`: there the number of rows moves,
    and what was read is what was there at the moment of the read.
    """
    read = {key: router.fingerprint(key) for key in half.plan.bounds if key in changes.stale and key in changes.found}
    wrong = [key for key, fingerprint in read.items() if not changes.found[key].is_in(str(fingerprint))]
    aged = [key for key in wrong if changes.found[key].rows != read[key].rows]
    if wrong and not (wrong == aged and half.moves() and not half.doubts()):
        raise UnstableQuery(half.plan.table, wrong, [*half.doubts(), *half.moves()])


def _refuse_others(table: str, found: Iterable[str], wanted: frozenset[str]) -> None:
    """Rows of a partition that is not replaced would be lost without a word."""
    others = sorted(set(found) - wanted)
    if others:
        raise PartitionsDisagree(table, others)


def _abandon(writer: PartitionedWriter) -> None:
    """Let go of all open files, also on a full disk, where closing one fails; each attempt lets go of one at least."""
    while True:
        try:
            writer.abandon()
        except OSError:
            continue
        return
