"""Changes: which partitions of a source differ from the published ones.

Belongs here: the fingerprints of a half as the source has it now, compared with those of the last commit.
Does not: what a fingerprint is (`fingerprint`), or replacing what differs (`engine`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from analytics_pipeline.store import Table
from analytics_pipeline.sync.connections import asked
from analytics_pipeline.sync.fingerprint import Fingerprint, grouped_query
from analytics_pipeline.sync.plan import HalfPlan
from analytics_pipeline.sync.postgres.snapshot import Snapshot
from analytics_pipeline.sync.windows import REST


def stale_partitions(snapshot: Snapshot, plan: HalfPlan, published: Table | None, patience: float) -> frozenset[str]:
    """Partitions of a half whose content in the source differs from the published one.

    A partition that the source no longer has counts as different: its rows were deleted. Where the published table was
    made by other rules (queries, columns, types, geometry), every partition is stale.

    Args:
        snapshot: to ask in.
        plan: of the half.
        published: its table; None where there is none yet.
        patience: seconds to wait for the source's answer.

    Raises:
        SourceError: the source could not be asked.
    """
    if published is None or has_other_rules(plan, published):
        return frozenset(plan.bounds)
    found = source_fingerprints(snapshot, plan, patience)
    return frozenset(key for key in plan.bounds if _differs(key, published, found))


def stale_rest(snapshot: Snapshot, plan: HalfPlan, published: Table | None, patience: float) -> frozenset[str]:
    """`REST`, if its content differs from the published one: a row that came from there would be published twice.

    Raises:
        SourceError: the source could not be asked.
    """
    if published is None or REST not in published.partitions:
        return frozenset()
    found = source_fingerprints(snapshot, plan, patience, frozenset({REST}))
    return frozenset({REST} if _differs(REST, published, found) else ())


def has_other_rules(plan: HalfPlan, published: Table) -> bool:
    """Whether a published table was made by other queries, columns, types or windows than those of the plan."""
    return any(partition.spec_hash != plan.spec_hash for partition in published.partitions.values())


def source_fingerprints(
    snapshot: Snapshot, plan: HalfPlan, patience: float, keys: frozenset[str] | None = None
) -> Mapping[str, Fingerprint]:
    """The fingerprint of every partition that has rows, by one grouped query.

    Args:
        snapshot: to ask in.
        plan: of the half.
        patience: seconds to wait for the answer.
        keys: only these partitions; None for the whole history.

    Raises:
        SourceError: the source could not be asked.
    """
    where = None if keys is None else plan.selecting(keys)
    query = grouped_query(plan.query, plan.bucket, plan.hashed, where).encode()
    rows: list[tuple[int | None, int, Decimal]]
    rows = asked(snapshot, patience, lambda session: session.execute(query).fetchall())
    found: dict[str, Fingerprint] = {}
    for bucket, count, total in rows:
        key = plan.key_of(bucket)  # several buckets are `REST`
        found[key] = found.get(key, Fingerprint()).plus(count, int(total))
    return found


def _differs(key: str, published: Table, found: Mapping[str, Fingerprint]) -> bool:
    partition = published.partitions.get(key)
    return partition is None or partition.fingerprint != str(found.get(key, Fingerprint()))
