"""Changes: which partitions of a source differ from the published ones.

Belongs here: the fingerprints of a half as the source has it now, compared with those of the last commit.
Does not: what a fingerprint is (`fingerprint`), or replacing what differs (`engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        left_out: partitions beyond the limit of rows; those of them that are stale become empty.
    """

    stale: frozenset[str]
    found: Found = field(default_factory=dict)
    drifted: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """A half in a snapshot of its source, beside its published table.

    Args:
        snapshot: to ask in.
        plan: of the half.
        published: its table; None where there is none yet.
        patience: seconds to wait for the source's answer.
        doubts: tells why two reads of one snapshot might differ; it may have to wait for that.
        moves: tells by what its rows come and go with time alone; it may have to wait, too.
        answers: fingerprints that were asked for, by question.
    """

    snapshot: Snapshot
    plan: HalfPlan
    published: Table | None
    patience: float
    doubts: Callable[[], Sequence[str]]
    moves: Callable[[], Sequence[str]]
    answers: dict[object, Found] = field(default_factory=dict, repr=False, compare=False)


def changed(half: Comparison) -> Changes:
    """Partitions of a half whose content in the source differs from the published one.

    A partition that the source no longer has counts as different: its rows were deleted. Where the published table was
    made by other rules, every partition is stale.

    Raises:
        SourceError: the source could not be asked.
    """
    if half.published is None or half.plan.is_other_than(half.published):
        return first_time(half)
    found = source_fingerprints(half, (half.plan.kind,))
    return Changes(frozenset(key for key in half.plan.bounds if _differs(half.published, key, found)), found)


def audited(half: Comparison) -> Changes:
    """The same by the checksum of every row, whatever kind tells changes from day to day.

    Raises:
        SourceError: the source could not be asked.
    """
    if half.published is None or half.plan.is_other_than(half.published):
        return first_time(half)
    found = source_fingerprints(half, tuple(half.plan.hashes))
    stale = frozenset(key for key in half.plan.bounds if _differs(half.published, key, found))
    of_own_kind = {key: fingerprint.of(half.plan.kind) for key, fingerprint in found.items()}
    return Changes(stale, found, frozenset(key for key in stale if not _differs(half.published, key, of_own_kind)))


def first_time(half: Comparison) -> Changes:
    """All partitions; of a query that may give another answer each time, with fingerprints to compare the read with.

    Raises:
        SourceError: the source could not be asked.
    """
    found = source_fingerprints(half, (half.plan.kind,)) if half.doubts() or half.moves() else {}
    return Changes(frozenset(half.plan.bounds), found)


def changed_rest(half: Comparison) -> frozenset[str]:
    """`REST`, if its content differs from the published one: a row that came from there would be published twice.

    Raises:
        SourceError: the source could not be asked.
    """
    if half.published is None or REST not in half.published.partitions:
        return frozenset()
    found = source_fingerprints(half, (half.plan.kind,), frozenset({REST}))
    return frozenset({REST} if _differs(half.published, REST, found) else ())


def source_fingerprints(
    half: Comparison, kinds: tuple[FingerprintKind, ...], keys: frozenset[str] | None = None
) -> Found:
    """The fingerprint of every partition, by one grouped query; the same question is asked once.

    Args:
        half: to ask for.
        kinds: of fingerprint.
        keys: only these partitions; None for the whole history.

    Raises:
        SourceError: the source could not be asked.
    """
    plan, patience = half.plan, half.patience
    question = (plan.query, kinds, keys)
    if question in half.answers:
        return half.answers[question]
    where = None if keys is None else plan.selecting(keys)
    query = grouped_query(plan.query, plan.bucket, [plan.hashes[kind] for kind in kinds], where).encode()
    rows: list[tuple[Any, ...]] = asked(half.snapshot, patience, lambda session: session.execute(query).fetchall())
    found = dict.fromkeys(plan.bounds if keys is None else keys, Fingerprint.nothing(kinds))
    for bucket, count, *totals in rows:
        key = plan.key_of(bucket)  # several buckets are `REST`
        found[key] = found[key].plus(count, {kind: int(total) for kind, total in zip(kinds, totals, strict=True)})
    half.answers[question] = found
    return found


def _differs(published: Table, key: str, found: Found) -> bool:
    partition = published.partitions.get(key)
    return partition is None or not found[key].is_in(partition.fingerprint)
