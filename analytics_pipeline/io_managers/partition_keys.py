"""The partitions that an IO manager stores: one place that refuses a range of none.

Belongs here: the keys of an output. Does not: what is stored of each (`capabilities`, `objects`).
"""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.errors import PartitionRangeBackwards


def output_partitions(context: dg.OutputContext) -> list[str]:
    """The keys of the partitions that a run materializes, sorted; at least one.

    Dagster resolves a range that runs backwards to no partition at all, and such a run would succeed.

    Raises:
        PartitionRangeBackwards: names both ends.
    """
    keys = sorted(context.asset_partition_keys)
    if not keys:
        tags = context.step_context.dagster_run.tags
        start, end = (tags.get(f"dagster/asset_partition_range_{which}", "") for which in ("start", "end"))
        raise PartitionRangeBackwards(context.asset_key.to_user_string(), start, end)
    return keys
