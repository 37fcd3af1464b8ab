"""The sensor of one dataset: the first sync of an empty store, the refresh of a watched source, the alarm when late.

Belongs here: when it asks for a run, how patiently after failures, what it remembers from tick to tick.
Does not: what a refresh does (`sync_jobs`), fixed times (`sync_schedule`).
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of sensors built inside a function.

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import dagster as dg

from analytics_pipeline.components import ticks
from analytics_pipeline.components.sync_events import evaluation
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.checks import verified_in_time
from analytics_pipeline.sync.spec import SplitSyncSpec, SyncMode

MINIMUM_INTERVAL_SECONDS = 30
LONGEST_PAUSE = timedelta(minutes=60)


class Cause(StrEnum):
    """Why the sensor wants a run."""

    EMPTY = "the store holds nothing of the dataset"
    MOVED = "the source has moved"
    UNPROVEN = "nothing can prove that the source has not moved"


@dataclass(frozen=True)
class Memory:
    """What the sensor remembers from tick to tick, in its cursor.

    Args:
        requests: made since all was well.
        asked_at: time of the last one, in seconds since 1970.
        in_time: what was last told of `verified_in_time`; None before anything was.
    """

    requests: int = 0
    asked_at: float = 0.0
    in_time: bool | None = None

    @classmethod
    def of(cls, cursor: str | None) -> "Memory":
        """What a cursor holds; nothing where it is somebody else's."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):
            return cls()

    def patient_until(self, last_end: tuple[datetime, bool] | None) -> datetime:
        """When to ask again: at once, then 1, 2, 4 … 60 minutes after the last attempt.

        A run that succeeds ends the pauses where the source can tell that it moved. Where it cannot, every tick would
        start one.
        """
        asked = datetime.fromtimestamp(self.asked_at, UTC)
        if self.requests == 0:
            return asked
        pause = min(timedelta(minutes=2.0 ** min(self.requests - 1, 10)), LONGEST_PAUSE)
        return max(asked, last_end[0] if last_end else asked) + pause

    def cursor(self) -> str:
        """As text."""
        return json.dumps(asdict(self))


def source_sensor(spec: SplitSyncSpec, job: dg.JobDefinition) -> dg.SensorDefinition | None:
    """The sensor of a dataset; None where it would have nothing to do."""
    if spec.sync_mode is SyncMode.MANUAL and not spec.watch:
        return None

    def look(context: dg.SensorEvaluationContext, analytics: AnalyticsResource) -> dg.SensorResult:
        tick = _Tick(context, analytics, spec, job.name, datetime.now(UTC))
        memory, events = tick.alarm(Memory.of(context.cursor))
        memory, reason = tick.wish(memory)
        return dg.SensorResult(
            run_requests=[] if reason else [dg.RunRequest()],
            skip_reason=reason,
            cursor=memory.cursor(),
            asset_events=events,
        )

    # By a name, and not by the decorator: Dagster 1.13 would warn that a parameter is in beta, which nobody gave.
    return dg.SensorDefinition(
        name=f"{spec.name}_source_sensor",
        evaluation_fn=look,
        job_name=job.name,
        minimum_interval_seconds=MINIMUM_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Fills an empty store with `{spec.name}`, refreshes it if watched, tells when it is late.",
    )


@dataclass(frozen=True)
class _Tick:
    """One look at a dataset."""

    context: dg.SensorEvaluationContext
    analytics: AnalyticsResource
    spec: SplitSyncSpec
    job: str
    now: datetime

    def alarm(self, memory: Memory) -> tuple[Memory, Sequence[dg.AssetCheckEvaluation]]:
        """Tell when a dataset becomes late, and when it is in time again; nobody else would while nothing runs."""
        verified, minutes = self.analytics.status(self.spec).last_verified, self.spec.refresh_interval_minutes
        if verified is None or minutes == 0:
            return memory, []
        result = verified_in_time(self.spec.view, verified, minutes, self.now)
        was_in_time = memory.in_time is not False
        return replace(memory, in_time=result.passed), [] if result.passed is was_in_time else [evaluation(result)]

    def wish(self, memory: Memory) -> tuple[Memory, str | None]:
        """What to remember, and why no run is started; None where one is."""
        if active := ticks.active_run(self.context.instance, self.job):
            return memory, f"Run {active} is at it."
        cause = self._cause()
        if cause is None:
            return replace(memory, requests=0), "All is well."
        last_end = ticks.last_end(self.context.instance, self.job)
        if cause is Cause.MOVED and last_end and last_end[1]:
            memory = replace(memory, requests=0)
        until = memory.patient_until(last_end)
        if self.now < until:
            return memory, f"Asked {memory.requests} times because {cause}; again at {until:%H:%M:%S} UTC."
        self.context.log.info("%s: %s.", self.spec.name, cause)
        return replace(memory, requests=memory.requests + 1, asked_at=self.now.timestamp()), None

    def _cause(self) -> Cause | None:
        if self.analytics.holds_nothing_of(self.spec):
            return Cause.EMPTY if self.spec.sync_mode is SyncMode.STARTUP else None
        if not self.spec.watch or ticks.is_proven_unchanged(self.analytics, self.spec, self.context.log):
            return None
        return Cause.UNPROVEN if self.analytics.status(self.spec).gate is None else Cause.MOVED
