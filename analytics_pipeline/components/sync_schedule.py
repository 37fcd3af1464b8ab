"""The schedule of one dataset's refresh: any whole number of minutes, whatever clocks and daemons go through.

Belongs here: the times of ticks, and which of them start a run. Does not: what a refresh does (`sync_jobs`).

Cron knows minutes of hours of days, so it cannot say "every 7 minutes". It ticks at the greatest divisor of the
interval and of a day, and a tick starts a run where the minutes since 1970 are a multiple of the interval. In UTC, so
that no hour is skipped or doubled. After a standstill Dagster evaluates the newest missed tick only, which may be none
of those: so any tick makes up for the last due one, if nothing was verified or asked for since.
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of schedules built inside a function.

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from analytics_pipeline.components import ticks
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import SplitSyncSpec

_DAY = 1440
_HOUR = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cron_lines(minutes: int) -> Sequence[str]:
    """Cron expressions that together tick every so many minutes of a day, from midnight on.

    Args:
        minutes: an interval; where it does not divide a day, its greatest divisor that does is the step.
    """
    hours_of: dict[int, list[int]] = defaultdict(list)
    for moment in range(0, _DAY, math.gcd(minutes, _DAY)):
        hours_of[moment % _HOUR].append(moment // _HOUR)
    minutes_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for minute, hours in hours_of.items():
        minutes_of[tuple(hours)].append(minute)
    return [f"{_field(sorted(found), _HOUR)} {_field(hours, 24)} * * *" for hours, found in minutes_of.items()]


def due_at(moment: datetime, minutes: int) -> datetime:
    """The newest time that an interval makes due, at a moment or before."""
    interval = timedelta(minutes=minutes)
    return moment - (moment - _EPOCH) % interval


def refresh_schedule(spec: SplitSyncSpec, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """The schedule of a dataset with `refresh_interval_minutes` above 0; it runs unless somebody stops it."""
    minutes = spec.refresh_interval_minutes
    lines = cron_lines(minutes)

    @dg.schedule(
        job=job,
        name=f"{job.name}_schedule",
        cron_schedule=lines[0] if len(lines) == 1 else lines,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Every {minutes} minutes since 1970 in UTC, unless nothing changed or a run waits already.",
    )
    def schedule(context: dg.ScheduleEvaluationContext, analytics: AnalyticsResource) -> dg.RunRequest | dg.SkipReason:
        reason = _reason_to_skip(context, analytics, spec, job.name)
        return dg.RunRequest() if reason is None else dg.SkipReason(reason)

    return schedule


def _reason_to_skip(
    context: dg.ScheduleEvaluationContext, analytics: AnalyticsResource, spec: SplitSyncSpec, job: str
) -> str | None:
    minutes, now = spec.refresh_interval_minutes, datetime.now(UTC)
    tick = context.scheduled_execution_time.astimezone(UTC)
    due = due_at(tick, minutes)
    if now - tick >= timedelta(minutes=minutes):
        return f"This tick is superseded: it is {(now - tick) / timedelta(minutes=1):,.0f} minutes late."
    if tick != due and not _was_missed(due, context.instance, analytics, spec, job):
        return f"Every {minutes} minutes: next at {due + timedelta(minutes=minutes):%Y-%m-%d %H:%M} UTC."
    if waiting := ticks.waiting_run(context.instance, job):
        return f"Run {waiting} waits already and will see every change."
    if ticks.is_proven_unchanged(analytics, spec, context.log):
        return "Nothing changed in the source since it was last verified."
    return None


def _was_missed(
    due: datetime, instance: dg.DagsterInstance, analytics: AnalyticsResource, spec: SplitSyncSpec, job: str
) -> bool:
    """Whether nobody was there at the due time. What was never verified is left to the sensor and the due ticks."""
    verified = analytics.status(spec).last_verified
    return verified is not None and verified < due and not ticks.was_requested_since(instance, job, due)


def _field(values: Sequence[int], size: int) -> str:
    return "*" if len(values) == size else ",".join(map(str, values))
