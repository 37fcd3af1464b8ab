"""The outcome of a sync: for whoever started it, for the checks, and for the dataset's status.

Belongs here: what follows from a finished attempt. Does not: the attempt (`attempt`), the status file (`status`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import SecretStr

from analytics_pipeline.store import Manifest
from analytics_pipeline.sync import checks
from analytics_pipeline.sync.attempt import Done
from analytics_pipeline.sync.changes import Changes
from analytics_pipeline.sync.checks import CheckResult
from analytics_pipeline.sync.gate import gate_of
from analytics_pipeline.sync.metadata import stored_figures, stored_orphans
from analytics_pipeline.sync.publishing import CHECKED_KEY
from analytics_pipeline.sync.reading import HalfOutcome
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.status import (
    DatasetStatus,
    State,
    SyncType,
    digest_of,
    is_truncated,
    published_rows,
    published_watermarks,
)


@dataclass(frozen=True)
class SyncOutcome:
    """What a sync did.

    Args:
        sync_id: of the sync.
        manifest: the store's state afterwards.
        halves: those that were read; none where the source had not changed.
        checks: what the dataset was checked for, as published now.
    """

    sync_id: str
    manifest: Manifest
    halves: Mapping[Half, HalfOutcome] = field(default_factory=dict)
    checks: Sequence[CheckResult] = ()


def outcome_of(spec: SplitSyncSpec, done: Done) -> SyncOutcome:
    """What an attempt did, for whoever started it."""
    return SyncOutcome(
        done.sync_id,
        done.manifest,
        {read.plan.half: read.outcome for read in done.reads},
        checks_of(
            spec,
            done.manifest,
            {half: each.changes for half, each in done.halves.items()},
            done.before,
            read=frozenset(read.plan.half for read in done.reads),
            restricted=done.source.restricted,
        ),
    )


def checks_of(
    spec: SplitSyncSpec,
    manifest: Manifest,
    found: Mapping[Half, Changes],
    before: Manifest,
    *,
    read: frozenset[Half] = frozenset(),
    restricted: Sequence[str] | None = None,
) -> Sequence[CheckResult]:
    """The checks of a dataset that the store can answer.

    Args:
        spec: of the dataset.
        manifest: as it is published.
        found: what was compared with the source.
        before: the version before, for changes of columns.
        read: halves of which the stale partitions were replaced; of the others they still differ.
        restricted: tables of which row-level security may hide rows; None where the source was not asked.
    """
    results: list[CheckResult] = []
    for half in Half:
        table = manifest.tables.get(spec.table(half))
        if table is None:
            continue
        if half in found:
            results.append(checks.equals_source(table, found[half], replaced=half in read))
        results.append(checks.rows_in_rest(table))
        if spec.primary_key.get(half):
            metadata = manifest.metadata.get(table.name)
            checked = metadata.value.get(CHECKED_KEY) if metadata else None
            results.append(checks.unique_keys(table, spec.primary_key[half], checked))
        earlier = before.tables.get(table.name)
        results.append(checks.schema_unchanged(table.name, earlier.columns if earlier else None, table.columns))
    if restricted is not None:
        results.append(checks.no_row_security(spec.view, restricted))
    figures = stored_figures(manifest, spec)
    if figures is not None:
        orphans, total = figures["results_without_record"], manifest.tables[spec.table(Half.RESULTS)].rows
        results.append(checks.no_orphan_results(spec.view, int(str(orphans)), total, stored_orphans(manifest, spec)))
    return results


def status_after(
    spec: SplitSyncSpec, url: SecretStr, before: DatasetStatus, done: Done, run_id: str | None
) -> DatasetStatus:
    """The status of a dataset after a sync that succeeded.

    Args:
        spec: of the dataset.
        url: of its source.
        before: the status when it began.
        done: the sync.
        run_id: of the Dagster run.
    """
    whole = all(half in done.halves and _is_compared(done, half) for half in Half)
    status = replace(
        before,
        state=State.READY,
        message=None if whole else _narrow(done),
        run_id=run_id,
        heartbeat=None,
        rows=published_rows(done.manifest, spec),
        watermarks=published_watermarks(done.manifest, spec),
        truncated=is_truncated(done.manifest, spec),
        last_verified=done.snapshot_at if whole else before.last_verified,
        gate=gate_of(done.gate, url, spec, done.manifest, done.until) if whole and done.gate else None,
        content=digest_of(done.manifest, spec),
        source=done.source.origin.text(),
    )
    if not done.reads:
        return status
    is_full = len(done.reads) == len(Half) and all(read.whole for read in done.reads)
    written = datetime.now(UTC)
    return replace(
        status,
        last_sync=written,
        sync_type=SyncType.FULL if is_full else SyncType.INCREMENTAL,
        last_incremental=before.last_incremental if is_full else written,
        incremental_rows=before.incremental_rows if is_full else _net_rows(done),
    )


def _is_compared(done: Done, half: Half) -> bool:
    """Whether all partitions of a half were compared with the source, or read from it."""
    changes, bounds = done.halves[half].changes, done.halves[half].plan.bounds
    return set(bounds) <= changes.found.keys() | changes.stale | changes.left_out


def _narrow(done: Done) -> str:
    parts = [f"{read.plan.table}: {len(read.partitions)} partitions" for read in done.reads]
    return (
        f"Only a selection was replaced ({'; '.join(parts) or 'nothing'}). Until the next refresh the halves may be of "
        f"different times."
    )


def _net_rows(done: Done) -> int:
    """Rows written minus rows replaced."""
    net = 0
    for read in done.reads:
        table = done.before.tables.get(read.plan.table)
        former = table.partitions if table else {}
        net += read.outcome.rows - sum(former[part.key].rows for part in read.partitions if part.key in former)
    return net
