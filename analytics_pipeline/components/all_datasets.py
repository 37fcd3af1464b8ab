"""What is done with every dataset in one run: the refresh by hand, the audit of every night.

Belongs here: gathering the ops of all datasets. Does not: the ops (`sync_jobs`).
"""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.components.sync_jobs import Verb

_NIGHT = "30 2 * * *"


def all_datasets(loaded: dg.Definitions) -> dg.Definitions:
    """`refresh_all_job`, and `audit_job` with its nightly schedule; nothing without datasets.

    Args:
        loaded: the definitions of the datasets.
    """
    if not _jobs(loaded, Verb.REFRESH):
        return dg.Definitions()
    refresh = _job_of_all(
        loaded,
        Verb.REFRESH,
        "refresh_all_job",
        "Refreshes every dataset in one run; a failing one does not hold up the others.",
    )
    audit = _job_of_all(
        loaded,
        Verb.AUDIT,
        "audit_job",
        "Compares every row of every dataset with its source and replaces what differs; a failing one does not hold "
        "up the others.",
    )
    schedule = dg.ScheduleDefinition(
        job=audit,
        cron_schedule=_NIGHT,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night, for what fingerprints of row versions cannot see.",
    )
    return dg.Definitions(jobs=[refresh, audit], schedules=[schedule])


def _job_of_all(loaded: dg.Definitions, verb: Verb, name: str, description: str) -> dg.JobDefinition:
    graph = dg.GraphDefinition(
        name=name,
        description=description,
        node_defs=[node for job in _jobs(loaded, verb) for node in job.graph.node_defs],
    )
    return graph.to_job(executor_def=dg.in_process_executor)


def _jobs(loaded: dg.Definitions, verb: Verb) -> list[dg.JobDefinition]:
    return [job for job in loaded.jobs or () if isinstance(job, dg.JobDefinition) and verb.tag in job.tags]
