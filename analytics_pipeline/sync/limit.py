"""The limit of rows: which partitions of a source are mirrored where it holds more than a dataset may keep.

Belongs here: the newest whole partitions that fit, the same for both halves; results of records that do not fit.
Does not: comparing partitions (`changes`), or reading them (`reading`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from analytics_pipeline.errors import RowLimitTooSmall
from analytics_pipeline.store import Table
from analytics_pipeline.sync.changes import Changes, Comparison, Found, source_fingerprints
from analytics_pipeline.sync.connections import Stopped
from analytics_pipeline.sync.plan import KEY, HalfPlan
from analytics_pipeline.sync.postgres.sql import column, subselect
from analytics_pipeline.sync.postgres.types import ColumnRule
from analytics_pipeline.sync.reading import Log
from analytics_pipeline.sync.spec import FingerprintKind, Half
from analytics_pipeline.sync.windows import REST
from analytics_pipeline.waiting import result_of

_Kept = tuple[HalfPlan, frozenset[str]]
"""Partitions that are mirrored, and the plan by which they are read."""


@dataclass(frozen=True)
class RowLimit:
    """The limit of a dataset, in one snapshot of its source.

    The records that fit are found first. Of the results, those that belong to others are left out in the source itself,
    so that fingerprints and reads agree; then the newest partitions that fit, none of them older than the records'.

    Args:
        rows: that each half may have.
        log: told what is left out.
    """

    rows: int
    log: Log
    _records: Future[_Kept] = field(default_factory=Future, repr=False, compare=False)

    def known(self, dataset: HalfPlan, published: Table | None) -> None:
        """Say which records are there, where a sync looks at the results alone."""
        partitions = published.partitions.values() if published else ()
        kept = frozenset(partition.key for partition in partitions if partition.fingerprint is not None)
        self._records.set_result((dataset, kept & dataset.bounds.keys()))

    def choose(self, half: Comparison, choose: Callable[[Comparison], Changes]) -> tuple[Comparison, Changes]:
        """What a wish chooses of a half, within the limit; the half is to be read as it is given back.

        Raises:
            RowLimitTooSmall: not even the newest partition with rows fits.
            SourceError: the source could not be asked.
            Stopped: the records could not be found out.
        """
        if half.plan.half is Half.RESULTS:
            return self._within(half, self._results(half), choose)
        try:
            kept = self._fitting(half.plan, _counted(half))
        except BaseException:
            self._records.set_exception(Stopped())
            raise
        self._records.set_result((half.plan, kept))
        return self._within(half, (half.plan, kept), choose)

    def _results(self, half: Comparison) -> _Kept:
        dataset, records = result_of(self._records)
        if records >= dataset.bounds.keys():
            return half.plan, self._fitting(half.plan, _counted(half))
        checksum = {FingerprintKind.CHECKSUM: half.plan.hashes[FingerprintKind.CHECKSUM]}
        # A row version does not tell that a record came or went, and the result with it.
        plan = replace(half.plan, query=_of_records(half.plan, dataset, records), hashes=checksum)
        return plan, self._fitting(plan, _counted(replace(half, plan=plan))) & records

    def _within(
        self, half: Comparison, kept: _Kept, choose: Callable[[Comparison], Changes]
    ) -> tuple[Comparison, Changes]:
        plan, keys = kept
        limited = replace(half, plan=plan)
        wanted = choose(limited)
        left_out = frozenset(plan.bounds) - keys
        whole = wanted.stale >= plan.bounds.keys()
        looked_at = wanted.stale | wanted.found.keys()
        emptied = {key for key in left_out & looked_at if whole or _is_there(half.published, key)}
        if left_out:
            self.log(
                f"{plan.table}: max_sync_rows ({self.rows:,}) leaves out {len(left_out):,} of "
                f"{len(plan.bounds):,} partitions, the oldest ones; the newest are kept whole."
            )
        found = {key: fingerprint for key, fingerprint in wanted.found.items() if key in keys}
        return limited, Changes(wanted.stale & keys | emptied, found, wanted.drifted & keys, left_out)

    def _fitting(self, plan: HalfPlan, found: Found) -> frozenset[str]:
        """The newest partitions that have no more rows than the limit, together; `REST` is the oldest of all."""
        newest_first = [key for key in reversed(list(plan.bounds)) if key != REST]
        kept: set[str] = set()
        rows = 0
        for key in [*newest_first, REST]:
            rows += found[key].rows
            if rows > self.rows:
                if rows == found[key].rows:
                    raise RowLimitTooSmall(plan.table, key, rows, self.rows)
                break
            kept.add(key)
        return frozenset(kept)


def _counted(half: Comparison) -> Found:
    return source_fingerprints(half, tuple(half.plan.hashes)[:1])


def _is_there(published: Table | None, key: str) -> bool:
    """Whether something is published of a partition, and not just that it was left out."""
    partition = published.partitions.get(key) if published else None
    return partition is None or partition.fingerprint is not None


def _of_records(results: HalfPlan, dataset: HalfPlan, records: frozenset[str]) -> str:
    """The results of the records in some partitions."""
    theirs, mine = (_key_of(plan) for plan in (dataset, results))
    if theirs.source_type == mine.source_type:
        theirs_sql, mine_sql = column(theirs.name), column(mine.name)
    else:
        theirs_sql, mine_sql = theirs.expression, mine.expression  # of one type in the store, by which they join there
    kept = f"SELECT {theirs_sql} FROM {subselect(dataset.query)} WHERE {dataset.selecting(records) or 'true'}"
    return f"SELECT * FROM {subselect(results.query)} WHERE {mine_sql} OPERATOR(pg_catalog.=) ANY ({kept})"


def _key_of(plan: HalfPlan) -> ColumnRule:
    return next(rule for rule in plan.rules if plan.names[rule.name] == KEY)
