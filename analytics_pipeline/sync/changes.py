"""Changes: which partitions of a source differ from the published ones.

Belongs here: the fingerprints of a half as the source has it now, compared with those of the last commit.
Does not: what a fingerprint is (`fingerprint`), or replacing what differs (`engine`).
"""

from __future__ import annotations

from collections.abc import Mapping

from analytics_pipeline.store import Table
from analytics_pipeline.sync.fingerprint import Fingerprint, grouped_query
from analytics_pipeline.sync.plan import HalfPlan
from analytics_pipeline.sync.postgres.failures import translated
from analytics_pipeline.sync.postgres.snapshot import Snapshot


def stale_partitions(snapshot: Snapshot, plan: HalfPlan, published: Table | None) -> frozenset[str]:
    """Partitions of a half whose content in the source differs from the published one.

    A partition that the source no longer has counts as different: its rows were deleted. Where the published table was
    made by other rules (queries, columns, types, geometry), every partition is stale.

    Raises:
        SourceError: the source could not be asked.
    """
    if published is None or any(partition.spec_hash != plan.spec_hash for partition in published.partitions.values()):
        return frozenset(plan.bounds)
    live = {key: partition.fingerprint for key, partition in published.partitions.items()}
    found = source_fingerprints(snapshot, plan)
    return frozenset(key for key in plan.bounds if live.get(key) != str(found.get(key, Fingerprint())))


def source_fingerprints(snapshot: Snapshot, plan: HalfPlan) -> Mapping[str, Fingerprint]:
    """The fingerprint of every partition that has rows, by one grouped query over the whole history.

    Raises:
        SourceError: the source could not be asked.
    """
    connection = snapshot.connect()
    try:
        with translated(snapshot.url):
            rows = connection.execute(grouped_query(plan.query, plan.bucket, plan.hashed).encode()).fetchall()
    finally:
        connection.close()
    return {plan.key_of(bucket): Fingerprint().plus(count, int(total)) for bucket, count, total in rows}
