"""All definitions of one dataset, from its spec. Works without YAML, too.

Belongs here: what a dataset consists of. Does not: how any of it is built (the modules beside it).
"""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.components.derived_assets import derived_assets
from analytics_pipeline.components.sync_assets import sync_assets
from analytics_pipeline.components.sync_checks import sync_checks
from analytics_pipeline.components.sync_jobs import Verb, sync_job
from analytics_pipeline.components.sync_schedule import refresh_schedule
from analytics_pipeline.components.sync_sensor import source_sensor
from analytics_pipeline.sync.spec import SplitSyncSpec


def build_sync_assets(spec: SplitSyncSpec) -> dg.Definitions:
    """The mirrored tables, their JOIN view and metadata, with their jobs, checks, schedule and sensor.

    Args:
        spec: of the dataset.

    The definitions need the resource `analytics` (`AnalyticsResource`). Refreshes, rebuilds and materialisations of a
    dataset are in the pool of its name, so that with pools of one run (see dagster.yaml) a second one waits its turn.
    """
    jobs = {verb: sync_job(spec, verb) for verb in Verb}
    refresh = jobs[Verb.REFRESH]
    sensor = source_sensor(spec, refresh)
    return dg.Definitions(
        assets=[*sync_assets(spec), *derived_assets(spec)],
        asset_checks=[sync_checks(spec)],
        jobs=[*jobs.values()],
        schedules=[refresh_schedule(spec, refresh)] if spec.refresh_interval_minutes else [],
        sensors=[sensor] if sensor else [],
    )
