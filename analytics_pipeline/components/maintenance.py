"""Maintenance: the jobs that keep files few and Dagster's storage small, and that copy and verify what is stored.

Belongs here: one op a task, none waits for another. Does not: the tasks (`store`, `housekeeping`).
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of ops.

from datetime import timedelta
from pathlib import Path

import dagster as dg
from pydantic import Field

from analytics_pipeline.components.sync_events import failing_plainly
from analytics_pipeline.resources import AnalyticsResource

_NIGHT = "30 3 * * *"
_AFTER_IT = "30 4 * * *"
_SUNDAYS = "30 5 * * 0"
_SHOWN_URLS = 100
_SHOWN_DAMAGES = 20


class PruneConfig(dg.Config):
    """How much of Dagster's history stays.

    Args:
        days: runs that ended before so many days go.
        at_most: so many runs in one night.
    """

    days: int = Field(default=30, ge=1)
    at_most: int = Field(default=5_000, ge=1)


class BackupConfig(dg.Config):
    """Where backups lie, and how many.

    Args:
        folder: of all backups; empty for `backups` in the home.
        keep: so many stay, with the new one.
    """

    folder: str = ""
    keep: int = Field(default=7, ge=1)


@dg.op(description="Merges the small files of closed partitions into larger ones; readers notice nothing.")
def compact_store(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
    """Compaction."""
    with failing_plainly():
        compacted = analytics.store().compact()
    if not compacted:
        context.log.info("No table has small files to merge.")
    for table in compacted:
        counts = table.partitions, table.files_before, table.files_after
        context.log.info("%s: %d partitions moved, %d files became %d. %s", table.name, *counts, table.left or "")


@dg.op(description="Removes what dead processes left, and replaced files past their grace.")
def sweep_store(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
    """The sweep."""
    with failing_plainly():
        swept = analytics.store().sweep()
    counts = len(swept.stages), len(swept.expired), len(swept.orphans)
    context.log.info("Removed %d dead stages, %d files past their grace, %d unlisted files.", *counts)


@dg.op(description="Removes what killed writers left in the object store, and tells what it could not look into.")
def sweep_objects(context: dg.OpExecutionContext) -> None:
    """The sweep of the objects."""
    from analytics_pipeline.objects import sweep  # noqa: PLC0415 - as in `resources`

    with failing_plainly():
        swept = sweep()
    for name, reason in swept.left.items():
        context.log.warning("%s was left as it is: %s", name, reason)
    context.log.info("Removed %d objects of nobody, %d unfinished files.", len(swept.removed), swept.unfinished)
    shown = {"removed": len(swept.removed), "urls": list(swept.removed[:_SHOWN_URLS]), "unfinished": swept.unfinished}
    context.add_output_metadata({**shown, "left": dict(swept.left)})


@dg.op(description="Copies the small files of append-only tables for queries, finishes what killed writers left.")
def tend_capabilities(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
    """Compaction and sweep of the append-only tables."""
    from analytics_pipeline.experiments.tables import tend  # noqa: PLC0415 - as in `resources`

    backend = analytics.capabilities()
    with failing_plainly():
        context.log.info(
            "Compacted of experiments: %s.", ", ".join(tend(analytics.home().experiments)) or "nothing yet"
        )
        if not backend.list_tables():
            context.log.info("There are no capability tables yet.")
            return
        backend.tables.compact()
    context.log.info("Compacted: %s.", ", ".join(backend.list_tables()))


@dg.op(description="Opens the catalog, which is made anew from the manifest where it is lost or damaged.")
def check_catalog(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
    """The catalog."""
    with failing_plainly():
        manifest = analytics.store().manifest()
    context.log.info("The catalog opens at version %d: %d tables.", manifest.version, len(manifest.tables))


@dg.op(description="Removes old runs and their events, but none that a status is computed from.")
def prune_runs(context: dg.OpExecutionContext, config: PruneConfig) -> None:
    """The pruning of Dagster's own storage."""
    from analytics_pipeline.housekeeping.prune import prune  # noqa: PLC0415 - as in `resources`

    pruned = prune(context.instance, timedelta(days=config.days), at_most=config.at_most)
    context.log.info("Removed %d runs; %d old ones stay: a status comes from them.", pruned.runs, pruned.kept)


@dg.job(
    description="Compacts and sweeps the store, sweeps the objects, checks the catalog, prunes Dagster's runs.",
    executor_def=dg.in_process_executor,
)
def maintenance_job() -> None:
    """All tasks; one that fails does not hold up the others."""
    compact_store()
    sweep_store()
    sweep_objects()
    tend_capabilities()
    check_catalog()
    prune_runs()


maintenance_job_schedule = dg.ScheduleDefinition(
    job=maintenance_job,
    cron_schedule=_NIGHT,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night, after the audit.",
)


@dg.op(description="Copies the current version of the store to a folder named by the time, and removes the oldest.")
def back_up_store(context: dg.OpExecutionContext, config: BackupConfig, analytics: AnalyticsResource) -> None:
    """The backup."""
    from analytics_pipeline.housekeeping.backups import back_up  # noqa: PLC0415 - as in `resources`

    folder = Path(config.folder) if config.folder else analytics.home().path / "backups"
    with failing_plainly():
        done = back_up(analytics.store(), folder, context.log.info, keep=config.keep)
    context.log.info(
        "Version %d is copied to %s; %d older ones removed.", done.manifest.version, done.path, len(done.removed)
    )


@dg.job(
    description="Copies the store to a folder named by the time; the newest 7 stay.",
    executor_def=dg.in_process_executor,
)
def backup_job() -> None:
    """The backup."""
    back_up_store()


backup_job_schedule = dg.ScheduleDefinition(
    job=backup_job,
    cron_schedule=_AFTER_IT,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,  # each copy is as large as the store: its owner decides
    description="Every night, after the maintenance, once it is switched on.",
)


@dg.op(description="Reads every file of the home and compares it with what was written; fails where one differs.")
def verify_files(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
    """The verification."""
    from analytics_pipeline.housekeeping.verify import verify_home  # noqa: PLC0415 - as in `resources`

    with failing_plainly():
        found = verify_home(analytics.home())
    for damage in found.damages:
        context.log.error(str(damage))
    context.log.info(
        "%d files were compared with their digest, %d have no recorded digest.", found.files, found.unproven
    )
    if found.damages:
        shown = "\n".join(str(damage) for damage in found.damages[:_SHOWN_DAMAGES])
        raise dg.Failure(f"{len(found.damages)} files are damaged or lost:\n{shown}", allow_retries=False)


@dg.job(
    description="Reads every file of the store, capabilities, experiments and objects; names what is damaged or lost.",
    executor_def=dg.in_process_executor,
)
def verify_job() -> None:
    """The verification."""
    verify_files()


verify_job_schedule = dg.ScheduleDefinition(
    job=verify_job,
    cron_schedule=_SUNDAYS,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every Sunday, after the maintenance.",
)


def maintenance() -> dg.Definitions:
    """The jobs and their schedules."""
    return dg.Definitions(
        jobs=[maintenance_job, backup_job, verify_job],
        schedules=[maintenance_job_schedule, backup_job_schedule, verify_job_schedule],
    )
