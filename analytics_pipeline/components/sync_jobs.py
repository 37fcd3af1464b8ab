"""The jobs of one dataset: refresh, rebuild, audit; each one op that syncs and then tells Dagster what it did.

Belongs here: the body that the three share, their names, tags and pools. Does not: what they do (`sync.engine`), when
they run (`sync_schedule`, `sync_sensor`, `all_datasets`).
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of ops built inside a function.

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import dagster as dg

from analytics_pipeline.components.derived_assets import derived_events
from analytics_pipeline.components.sync_events import (
    ALLOW_TAG,
    MetadataValues,
    evaluation,
    failing_plainly,
    half_events,
    metadata_key,
    score_picture,
    stored_metadata,
    view_metadata,
)
from analytics_pipeline.display import displayed
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.checks import verified_in_time
from analytics_pipeline.sync.spec import SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.sync.engine import SyncJob
    from analytics_pipeline.sync.outcome import SyncOutcome
    from analytics_pipeline.sync.status import DatasetStatus

SyncEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation


class Verb(StrEnum):
    """What a job does with a dataset; in the names of jobs and ops, and the tag of its jobs."""

    REFRESH = "refresh"
    REBUILD = "rebuild"
    AUDIT = "audit"

    @property
    def tag(self) -> str:
        """Marks the jobs that do this; its value is the dataset."""
        return f"analytics_pipeline/{self.value}"


@dataclass(frozen=True)
class _Work:
    """One verb in words and code."""

    description: str
    sync: "Callable[[SyncJob], SyncOutcome]"


_WORK = {
    Verb.REFRESH: _Work(
        "Compares `{name}` with its source, partition by partition, and replaces what differs.",
        lambda job: job.refresh(),
    ),
    Verb.REBUILD: _Work(
        "Replaces all of `{name}`, also where a column's new type does not fit the published one.",
        lambda job: job.rebuild(),
    ),
    Verb.AUDIT: _Work(
        "Compares every row of `{name}` with its source, whatever its kind of fingerprint, and replaces what differs.",
        lambda job: job.audit(),
    ),
}


def sync_job(spec: SplitSyncSpec, verb: Verb) -> dg.JobDefinition:
    """The job that does something with one dataset."""
    op = _sync_op(spec, verb)

    @dg.job(
        name=f"{spec.name}_{verb}_job",
        description=_WORK[verb].description.format(name=spec.name),
        tags={verb.tag: spec.name},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        op()

    return job


def _sync_op(spec: SplitSyncSpec, verb: Verb) -> dg.OpDefinition:
    @dg.op(
        name=f"{verb}_{spec.name}",
        description=_WORK[verb].description.format(name=spec.name),
        # A run waits for all of its pools and then holds them to its end. An audit takes hours and may be one of all
        # datasets, so it leaves the order to the engine's lock.
        pool=None if verb is Verb.AUDIT else spec.name,
        out={},
    )
    def sync(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> Iterator[SyncEvent]:
        with failing_plainly():
            allow = context.run.tags.get(ALLOW_TAG, "")
            job = analytics.sync_job(spec, context.log.info, run_id=context.run.run_id, allow=allow)
            outcome = _WORK[verb].sync(job)
        if not outcome.halves:
            context.log.info("%s: nothing changed in the source, so no row was read.", spec.name)
        for result in outcome.checks:
            if not result.passed:
                context.log.warning("%s of %s fails: %s", result.name, result.table, result.description)
        yield from _events(spec, analytics, outcome, context.log)

    return sync


def _events(
    spec: SplitSyncSpec, analytics: AnalyticsResource, outcome: "SyncOutcome", log: logging.Logger
) -> Iterator[SyncEvent]:
    """What was published and checked first, what only shows it last."""
    if outcome.halves:
        yield from half_events(spec, outcome, log)
        shown = displayed("summary", lambda: view_metadata(analytics.view_summary(spec)), log)
        yield dg.AssetMaterialization(spec.view, metadata=shown)
    yield from derived_events(spec, outcome, log)
    for result in outcome.checks:
        yield evaluation(result)
    with failing_plainly():
        status = analytics.status(spec)
    minutes = spec.refresh_interval_minutes
    yield evaluation(verified_in_time(spec.view, status.last_verified, minutes, datetime.now(UTC)))
    if outcome.halves:
        yield dg.AssetMaterialization(metadata_key(spec), metadata=_shown(spec, analytics, outcome, status, log))


def _shown(
    spec: SplitSyncSpec,
    analytics: AnalyticsResource,
    outcome: "SyncOutcome",
    status: "DatasetStatus",
    log: logging.Logger,
) -> MetadataValues:
    from analytics_pipeline.sync.status import SyncType  # noqa: PLC0415 - as in `resources`

    known = displayed("metadata", lambda: stored_metadata(spec, outcome.manifest, status), log)
    if status.sync_type is not SyncType.FULL:  # a picture is made of all rows: more than a small refresh costs
        return known
    return {**known, **displayed("scores", lambda: score_picture(spec, analytics.store()), log)}
