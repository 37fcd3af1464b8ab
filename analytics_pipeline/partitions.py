"""Partitions: the Dagster side of a dataset's windows.

Belongs here: the one mapping from a spec's grain to a partitions definition, with the same keys and bounds.
Does not: the windows themselves (`sync.windows`).
"""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline.sync.windows import Grain

_MONDAY = 1


def partitions_of(spec: SplitSyncSpec) -> dg.TimeWindowPartitionsDefinition | None:
    """The partitions of a dataset's two tables, the open one included; None where they are not partitioned."""
    if spec.incremental_column is None or spec.start is None:
        return None
    start, timezone = spec.start, spec.timezone or "UTC"
    match spec.partitions:
        case Grain.HOURLY:
            return dg.HourlyPartitionsDefinition(f"{start}-00:00", timezone=timezone, end_offset=1)
        case Grain.DAILY:
            return dg.DailyPartitionsDefinition(start, timezone=timezone, end_offset=1)
        case Grain.WEEKLY:
            return dg.WeeklyPartitionsDefinition(start, timezone=timezone, day_offset=_MONDAY, end_offset=1)
        case Grain.MONTHLY:
            return dg.MonthlyPartitionsDefinition(start, timezone=timezone, end_offset=1)
