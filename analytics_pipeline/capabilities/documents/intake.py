"""Intake: the documents of an inbox into the store, in batches, the good ones whatever becomes of the bad.

Belongs here: the order of reading, storing and moving; what to do where the store refuses. Does not: files (`inbox`),
what is wrong with a document (`reading`).

A document is stored before it is moved. Killed in between, the next intake finds it again, and the store knows its run.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from analytics_pipeline.capabilities.backends.protocol import StorageBackend
from analytics_pipeline.capabilities.documents.inbox import Dropped, Inbox
from analytics_pipeline.capabilities.documents.reading import (
    ReadRun,
    Refusal,
    read_run,
    refusal_of,
    refused_by_store,
)
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import CapabilityError, ColumnTypeChanged, DocumentsStuck, NameRefused

logger = logging.getLogger(__name__)

BATCH = 500
"""Documents in one write of the store: a file for each table, forced to the disk, costs as much as reading many."""
BATCH_BYTES = 64 * 1024 * 1024
AT_MOST = 100_000
"""Documents in one intake; whatever comes meanwhile is left to the next."""

_OF_THE_RUNS = (CapabilityError, ColumnTypeChanged, NameRefused)
"""What the store has against runs, not about itself."""


SHOWN = 20
"""Rejected documents that are told one by one; each has a report of its own beside it."""


@dataclass(frozen=True)
class Rejected:
    """A document that was moved aside.

    Args:
        name: of its file, as it was dropped.
        refusal: what is wrong with it.
    """

    name: str
    refusal: Refusal


@dataclass(frozen=True)
class Batch:
    """What became of some documents.

    Args:
        known: documents of runs that the store had.
        rejected: documents moved aside.
        first_rejected: the first of them; of a hundred thousand nobody reads all, and memory would not hold them.
        waiting: documents that may be still growing.
        rows: new ones by table.
        runs: new ones by table.
    """

    known: int = 0
    rejected: int = 0
    first_rejected: Sequence[Rejected] = ()
    waiting: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        """Runs that are new to the store."""
        return sum(self.runs.values())

    def __add__(self, other: Batch) -> Batch:
        return Batch(
            self.known + other.known,
            self.rejected + other.rejected,
            (*self.first_rejected, *other.first_rejected)[:SHOWN],
            self.waiting + other.waiting,
            _sums(self.rows, other.rows),
            _sums(self.runs, other.runs),
        )


class _Read(NamedTuple):
    dropped: Dropped
    run: ReadRun


class Intake:
    """Takes up what is in an inbox.

    Args:
        inbox: where documents are.
        backend: that keeps the records.
        batch: documents in one write.
        at_most: documents in all.
    """

    def __init__(self, inbox: Inbox, backend: StorageBackend, *, batch: int = BATCH, at_most: int = AT_MOST) -> None:
        self._inbox = inbox
        self._backend = backend
        self._batch = batch
        self._at_most = at_most
        self._stuck = 0
        self._first_stuck: tuple[str, str] | None = None

    def take_up(self, log: Callable[[str], None]) -> Iterator[Batch]:
        """Read, store and move documents until none is left that was not looked at; tells of each batch.

        Args:
            log: told for whom this waits, where another process takes documents up.

        Raises:
            InboxUnusable: the inbox cannot be written.
            DocumentsStuck: some documents cannot be moved; all others were taken up.
            StoreError: the store cannot be written; what is not stored is still in the inbox.
        """
        with self._inbox.held(log):
            for group in self._groups():
                yield self._take_up(group)
        if self._first_stuck:
            raise DocumentsStuck(self._inbox.place, self._stuck, *self._first_stuck)

    def _groups(self) -> Iterator[Sequence[Dropped]]:
        """Documents that were not looked at before, as many at a time as memory and one write should hold."""
        seen: set[str] = set()
        while names := [name for name in self._inbox.names() if name not in seen]:
            group: list[Dropped] = []
            size = 0
            for name in names[: self._at_most - len(seen)]:
                dropped = self._inbox.read(name)
                if dropped is not None:
                    group.append(dropped)
                    size += len(dropped.content or b"")
                if len(group) >= self._batch or size >= BATCH_BYTES:
                    yield group
                    group, size = [], 0
            if group:
                yield group
            seen.update(names)
            if len(seen) >= self._at_most:
                return

    def _take_up(self, group: Sequence[Dropped]) -> Batch:
        good: list[_Read] = []
        refused: list[tuple[Dropped, Refusal]] = []
        waiting = 0
        for dropped in group:
            found = dropped.refusal or read_run(dropped.content or b"")
            if isinstance(found, ReadRun):
                good.append(_Read(dropped, found))
            elif found.is_final or self._inbox.is_settled(dropped):
                refused.append((dropped, found))
            else:
                waiting += 1
        stored = self._stored(good) if good else Batch()
        return stored + self._rejected(refused) + Batch(waiting=waiting)

    def _stored(self, reads: Sequence[_Read]) -> Batch:
        """Store runs in one write; where the store refuses it, without those that are to blame."""
        try:
            receipt = self._backend.write_with_receipt(_records(reads))
        except _OF_THE_RUNS as error:
            return self._stored_in_parts(reads, error)
        for read in reads:
            self._moved(read.dropped, self._inbox.keep)
        runs = {(read.run.table, read.run.run_uid) for read in reads}
        new = Counter(table for table, run_uid in runs if table in receipt.run_table_files.get(run_uid, ()))
        rows = {table: count for table, count in receipt.rows.items() if count}
        return Batch(known=len(reads) - new.total(), rows=rows, runs=new)

    def _stored_in_parts(self, reads: Sequence[_Read], error: Exception) -> Batch:
        """Without the runs whose rows fit no column; else in two halves, and again, down to the run that is refused."""
        refusals = [refusal_of(read.run) for read in reads]
        good = [read for read, refusal in zip(reads, refusals, strict=True) if refusal is None]
        if len(good) == len(reads) > 1:
            ordered = sorted(reads, key=lambda read: read.run.table)  # mostly one table is to blame
            middle = len(ordered) // 2
            return self._stored(ordered[:middle]) + self._stored(ordered[middle:])
        if len(reads) == 1:
            good, refusals = [], [refusals[0] or refused_by_store(reads[0].run, error)]
        refused = [
            (read.dropped, refusal) for read, refusal in zip(reads, refusals, strict=True) if refusal is not None
        ]
        return self._rejected(refused) + (self._stored(good) if good else Batch())

    def _rejected(self, refused: Sequence[tuple[Dropped, Refusal]]) -> Batch:
        moved = [
            Rejected(dropped.shown, refusal)
            for dropped, refusal in refused
            if self._moved(dropped, partial(self._inbox.reject, refusal=refusal))
        ]
        return Batch(rejected=len(moved), first_rejected=moved[:SHOWN])

    def _moved(self, dropped: Dropped, move: Callable[[Dropped], bool]) -> bool:
        try:
            return move(dropped)
        except OSError as error:
            logger.warning("%s stays in the inbox %s: %s", dropped.shown, self._inbox.place, error)
            self._stuck += 1
            self._first_stuck = self._first_stuck or (dropped.shown, error.strerror or str(error))
            return False


def _records(reads: Sequence[_Read]) -> Sequence[Record]:
    """The records of runs; of a run that stands in several documents the payload of the first, as a store keeps it."""
    seen: set[tuple[str, str]] = set()
    records: list[Record] = []
    for _, run in reads:
        key = (run.table, run.run_uid)
        records += run.entities if key in seen else [*run.payload, *run.entities]
        seen.add(key)
    return records


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return {table: one.get(table, 0) + other.get(table, 0) for table in {**one, **other}}
