"""The job that refreshes every dataset in one run.

Belongs here: gathering the refresh ops of all datasets. Does not: the ops (`sync_assets`).
"""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.components.sync_assets import REFRESH_TAG


def refresh_all_job(loaded: dg.Definitions) -> dg.JobDefinition | None:
    """One job with the refresh of each dataset; a failing one does not hold up the others. None without datasets."""
    jobs = [job for job in loaded.jobs or () if isinstance(job, dg.JobDefinition) and REFRESH_TAG in job.tags]
    if not jobs:
        return None
    graph = dg.GraphDefinition(
        name="refresh_all_job",
        description="Refreshes every dataset in one run; a failing one does not hold up the others.",
        node_defs=[node for job in jobs for node in job.graph.node_defs],
    )
    return graph.to_job(executor_def=dg.in_process_executor)
