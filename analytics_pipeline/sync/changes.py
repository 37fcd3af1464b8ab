"""Changes: which partitions of a source differ from the published ones.

Belongs here: the fingerprints of a half as the source has it now, compared with those of the last commit.
Does not: what a fingerprint is (`fingerprint`), or replacing what differs (`engine`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analytics_pipeline.store import Table
from analytics_pipeline.sync.connections import asked
from analytics_pipeline.sync.fingerprint import Fingerprint, grouped_query
from analytics_pipeline.sync.plan import HalfPlan
from analytics_pipeline.sync.postgres.snapshot import Snapshot
from analytics_pipeline.sync.spec import FingerprintKind
from analytics_pipeline.sync.windows import REST

Found = Mapping[str, Fingerprint]
"""The fingerprint of each partition that was asked for, also of those without rows."""


@dataclass(frozen=True)
class Changes:
    """What a half is in the source, beside what is published.

    Args:
        stale: partitions to read.
        found: fingerprints in the source; a read of the same snapshot must give these again.
        drifted: those of `stale` that no comparison of this dataset's own kind would have found.
    """

    stale: frozenset[str]
    found: Found = field(default_factory=dict)
    drifted: frozenset[str] = frozenset()


def everything(plan: HalfPlan) -> Changes:
    """All partitions, without asking."""
    return Changes(frozenset(plan.bounds))


def changed(snapshot: Snapshot, plan: HalfPlan, published: Table | None, patience: float) -> Changes:
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
        return first_time(snapshot, plan, patience)
    found = source_fingerprints(snapshot, plan, patience, (plan.kind,))
    return Changes(frozenset(key for key in plan.bounds if _differs(published, key, found)), found)


def audited(snapshot: Snapshot, plan: HalfPlan, published: Table | None, patience: float) -> Changes:
    """The same by the checksum of every row, whatever kind tells changes from day to day.

    Raises:
        SourceError: the source could not be asked.
    """
    if published is None or has_other_rules(plan, published):
        return first_time(snapshot, plan, patience)
    found = source_fingerprints(snapshot, plan, patience, tuple(plan.hashes))
    stale = frozenset(key for key in plan.bounds if _differs(published, key, found))
    of_own_kind = {key: fingerprint.of(plan.kind) for key, fingerprint in found.items()}
    return Changes(stale, found, frozenset(key for key in stale if not _differs(published, key, of_own_kind)))


def first_time(snapshot: Snapshot, plan: HalfPlan, patience: float) -> Changes:
    """All partitions; of a query that may give another answer each time, with fingerprints to compare the read with.

    Raises:
        SourceError: the source could not be asked.
    """
    if not plan.doubts:
        return everything(plan)
    return Changes(frozenset(plan.bounds), source_fingerprints(snapshot, plan, patience, (plan.kind,)))


def changed_rest(snapshot: Snapshot, plan: HalfPlan, published: Table | None, patience: float) -> frozenset[str]:
    """`REST`, if its content differs from the published one: a row that came from there would be published twice.

    Raises:
        SourceError: the source could not be asked.
    """
    if published is None or REST not in published.partitions:
        return frozenset()
    found = source_fingerprints(snapshot, plan, patience, (plan.kind,), frozenset({REST}))
    return frozenset({REST} if _differs(published, REST, found) else ())


def has_other_rules(plan: HalfPlan, published: Table) -> bool:
    """Whether a published table was made by other queries, columns, types or windows than those of the plan."""
    return any(partition.spec_hash != plan.spec_hash for partition in published.partitions.values())


def source_fingerprints(
    snapshot: Snapshot,
    plan: HalfPlan,
    patience: float,
    kinds: tuple[FingerprintKind, ...],
    keys: frozenset[str] | None = None,
) -> Found:
    """The fingerprint of every partition, by one grouped query.

    Args:
        snapshot: to ask in.
        plan: of the half.
        patience: seconds to wait for the answer.
        kinds: of fingerprint.
        keys: only these partitions; None for the whole history.

    Raises:
        SourceError: the source could not be asked.
    """
    where = None if keys is None else plan.selecting(keys)
    query = grouped_query(plan.query, plan.bucket, [plan.hashes[kind] for kind in kinds], where).encode()
    rows: list[tuple[Any, ...]] = asked(snapshot, patience, lambda session: session.execute(query).fetchall())
    found = dict.fromkeys(plan.bounds if keys is None else keys, Fingerprint.nothing(kinds))
    for bucket, count, *totals in rows:
        key = plan.key_of(bucket)  # several buckets are `REST`
        found[key] = found[key].plus(count, {kind: int(total) for kind, total in zip(kinds, totals, strict=True)})
    return found


def _differs(published: Table, key: str, found: Found) -> bool:
    partition = published.partitions.get(key)
    return partition is None or not found[key].is_in(partition.fingerprint)
