"""Ticks: what the schedule and the sensor of a dataset ask before they start a run. Cheap, and without side effects.

Belongs here: runs of a job that wait or work, and the gate's answer under a time limit.
Does not: what follows from it (`sync_schedule`, `sync_sensor`), the gate itself (`sync.gate`).
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterRunStatus

from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import SplitSyncSpec

GATE_SECONDS = 5.0
"""A tick has 60 seconds in all, and shares its server with the other ticks."""

WAITING = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING]
ACTIVE = [*WAITING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def waiting_run(instance: dg.DagsterInstance, job: str) -> str | None:
    """A run of a job that has not begun: it will see whatever changes until then."""
    return next(iter(instance.get_run_ids(dg.RunsFilter(job_name=job, statuses=WAITING), limit=1)), None)


def active_run(instance: dg.DagsterInstance, job: str) -> str | None:
    """A run of a job that waits or works."""
    return next(iter(instance.get_run_ids(dg.RunsFilter(job_name=job, statuses=ACTIVE), limit=1)), None)


def was_requested_since(instance: dg.DagsterInstance, job: str, moment: datetime) -> bool:
    """Whether any run of a job was made after a moment, whoever asked for it and however it ended."""
    return bool(instance.get_run_ids(dg.RunsFilter(job_name=job, created_after=moment), limit=1))


def last_end(instance: dg.DagsterInstance, job: str) -> tuple[datetime, bool] | None:
    """When the newest run of a job ended, and whether well; None where there is none, or it still runs."""
    for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=1):
        if record.end_time is not None:
            succeeded = record.dagster_run.status is DagsterRunStatus.SUCCESS
            return datetime.fromtimestamp(record.end_time, UTC), succeeded
    return None


def is_proven_unchanged(analytics: AnalyticsResource, spec: SplitSyncSpec, log: logging.Logger) -> bool:
    """Whether the gate proves that a refresh would find nothing. Whatever goes wrong with it proves nothing."""
    try:
        job = analytics.gate_job(spec)
        return job is not None and job.is_unchanged(GATE_SECONDS)
    except Exception as error:  # noqa: BLE001 - the run will say it with all the manners of a run
        log.info("%s: the gate gives no answer (%s), so a run decides.", spec.name, type(error).__name__)
        return False
