"""Steps: a whole half read piece by piece, so that a process that dies loses one piece and not all of them.

Belongs here: cutting partitions into steps, the note of what is finished, what of it is still equal to the source.
Does not: reading a step (`reading`), the commit, which comes once and at the end (`attempt`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from threading import Event

from pydantic import TypeAdapter, ValidationError

from analytics_pipeline.store import Partition, ResumableStage
from analytics_pipeline.sync.changes import Changes, Comparison, source_fingerprints
from analytics_pipeline.sync.plan import HalfPlan
from analytics_pipeline.sync.reading import HalfOutcome, HalfRead, Reading
from analytics_pipeline.sync.windows import REST, WHOLE

ROWS_PER_STEP = 5_000_000
"""As PostgreSQL estimates them. A query that sorts or joins much is run once a step."""

_Finished = tuple[str, Partition]
_NOTE = TypeAdapter(list[_Finished])


@dataclass(frozen=True)
class Steps:
    """The reading of whole halves into a stage that outlives its process.

    Args:
        reading: reads a step.
        stage: holds the files and the note.
        rows_per_step: as PostgreSQL estimates them.
    """

    reading: Reading
    stage: ResumableStage
    rows_per_step: int
    _finished: list[_Finished] = field(default_factory=list, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def resume(self) -> None:
        """Take over what a former process finished; call it once, before the halves."""
        try:
            noted = _NOTE.validate_json(self.stage.read_note() or "[]")
        except ValidationError:  # of another version of this package
            noted = []
        self._finished.extend(each for each in noted if all(map(self.stage.holds, each[1].files)))
        self.stage.keep_only(file for _, partition in self._finished for file in partition.files)

    def half(self, half: Comparison, changes: Changes, failed: Event) -> HalfRead:
        """All partitions of a half: those that are finished and still equal to the source, and the others, read now.

        Args:
            half: with its plan and snapshot.
            changes: all partitions.
            failed: ends this half when the other one failed.

        Raises:
            SourceError, PartitionsDisagree, UnstableQuery, Stopped: as `Reading.half`.
        """
        reused = {key: partition for key, partition in self._still_equal(half).items() if key not in changes.left_out}
        if reused:
            rows = sum(partition.rows for partition in reused.values())
            self.reading.log(
                f"{half.plan.table}: {len(reused)} partitions ({rows:,} rows) were read before and are as they were."
            )
        steps = self._cut(half.plan, changes.stale - reused.keys())
        done = dict(reused)
        reads: list[HalfRead] = []
        for number, keys in enumerate(steps, start=1):
            if len(steps) > 1:
                self.reading.log(f"{half.plan.table}: step {number} of {len(steps)}, {len(keys)} partitions.")
            reads.append(self.reading.half(half, replace(changes, stale=keys), self.stage, failed))
            done |= {partition.key: partition for partition in reads[-1].partitions}
            self._note(half.plan.table, reads[-1].partitions)
        partitions = [replace(done[key], sync_id=self.reading.sync_id) for key in half.plan.bounds]
        return HalfRead(half.plan, partitions, True, _summed(reads, partitions))  # noqa: FBT003 - every partition is here

    def _still_equal(self, half: Comparison) -> Mapping[str, Partition]:
        plan = half.plan
        known = {
            partition.key: partition
            for table, partition in self._finished
            if table == plan.table and partition.spec_hash == plan.spec_hash and partition.key in plan.bounds
        }
        known = {key: partition for key, partition in known.items() if key not in {REST, WHOLE}}
        if not known:
            return {}
        found = source_fingerprints(half, (plan.kind,), frozenset(known))
        return {key: partition for key, partition in known.items() if found[key].is_in(partition.fingerprint)}

    def _cut(self, plan: HalfPlan, keys: frozenset[str]) -> Sequence[frozenset[str]]:
        """Runs of neighbouring partitions, of about the same number; the rest of all windows comes with the last."""
        windows = [key for key in plan.bounds if key in keys and key != REST]
        share = len(windows) / max(len(plan.bounds) - 1, 1)
        steps = max(1, min(len(windows), ceil(plan.estimate * share / self.rows_per_step)))
        size = max(1, ceil(len(windows) / steps))
        cut = [frozenset(windows[i : i + size]) for i in range(0, len(windows), size)] or [frozenset()]
        return [*cut[:-1], cut[-1] | (keys & {REST})]

    def _note(self, table: str, partitions: Iterable[Partition]) -> None:
        with self._guard:
            self._finished.extend((table, partition) for partition in partitions)
            self.stage.write_note(_NOTE.dump_json(self._finished).decode())


def _summed(reads: Sequence[HalfRead], partitions: Sequence[Partition]) -> HalfOutcome:
    return replace(
        reads[-1].outcome,
        partitions={partition.key: partition.rows for partition in partitions if partition.fingerprint is not None},
        bytes=sum(partition.bytes for partition in partitions),
        seconds=sum(read.outcome.seconds for read in reads),
    )
