"""Partitions: the Dagster side of a dataset's windows.

Belongs here: the one mapping from a spec's grain to a partitions definition, with the same keys and bounds; the check
of the partitions that a run asks for.
Does not: the windows themselves (`sync.windows`).
"""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.errors import PartitionRangeBackwards
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


def asked_partitions(context: dg.AssetExecutionContext, asset: str) -> frozenset[str]:
    """The partitions that a run of a partitioned asset materializes; at least one.

    Dagster resolves a range that runs backwards to no partition at all, and such a run would succeed.

    Raises:
        PartitionRangeBackwards: names both ends.
    """
    keys = frozenset(context.partition_keys)
    if not keys:
        tags = context.run.tags
        start, end = (tags.get(f"dagster/asset_partition_range_{which}", "") for which in ("start", "end"))
        raise PartitionRangeBackwards(asset, start, end)
    return keys
