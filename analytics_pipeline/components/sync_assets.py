"""The assets of one dataset, from its spec.

Belongs here: keys, groups, descriptions, the thin bodies.
Does not: jobs (`sync_jobs`), checks (`sync_checks`), what events say (`sync_events`), how a dataset is synced (`sync`).
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of assets built inside a function.

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from analytics_pipeline.components.sync_events import (
    ALLOW_TAG,
    MetadataValues,
    failing_plainly,
    half_metadata,
    metadata_key,
    score_picture,
    stored_metadata,
    view_metadata,
)
from analytics_pipeline.display import displayed
from analytics_pipeline.partitions import asked_partitions, partitions_of
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.sync.engine import Selection
    from analytics_pipeline.sync.reading import HalfOutcome

OWNERS = ["team:analytics"]

_DESCRIPTIONS = {
    Half.DATASET: "The records of `{name}`: one row a dataset_id, mirrored from Postgres.",
    Half.RESULTS: "The results of `{name}`: what was measured about its records, mirrored from Postgres.",
}


def sync_assets(spec: SplitSyncSpec) -> Sequence[dg.AssetsDefinition]:
    """The pair of mirrored tables, their JOIN view, and what is known about them."""
    return [_halves(spec), _view(spec), _metadata(spec)]


def _halves(spec: SplitSyncSpec) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{spec.name}_sync",
        specs=[_half_spec(spec, half) for half in Half],
        partitions_def=partitions_of(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        pool=spec.name,
    )
    def sync_halves(context: dg.AssetExecutionContext, analytics: AnalyticsResource) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        with failing_plainly():
            allow = context.run.tags.get(ALLOW_TAG, "")
            job = analytics.sync_job(spec, context.log.info, run_id=context.run.run_id, allow=allow)
            outcome = job.replace(_selection(spec, context))
        for half in outcome.halves.values():
            _add_partition_rows(context, half)
            shown = displayed("metadata", partial(half_metadata, spec, half, outcome.manifest), context.log)
            yield dg.MaterializeResult(asset_key=half.table, metadata=shown)

    return sync_halves


def _view(spec: SplitSyncSpec) -> dg.AssetsDefinition:
    @dg.asset(
        name=spec.view,
        deps=[spec.table(half) for half in Half],
        group_name=spec.name,
        owners=OWNERS,
        kinds={"duckdb", "sql"},
        description=f"Results of `{spec.name}` joined with their records: a view, always as fresh as its two tables.",
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def joined_view(context: dg.AssetExecutionContext, analytics: AnalyticsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with failing_plainly():
            summary = analytics.view_summary(spec)
        context.log.info(
            "%s: %s rows, %s results without a record", spec.view, f"{summary.rows:,}", f"{summary.orphans:,}"
        )
        return dg.MaterializeResult(metadata=view_metadata(summary))

    return joined_view


def _metadata(spec: SplitSyncSpec) -> dg.AssetsDefinition:
    def show(analytics: AnalyticsResource, log: logging.Logger) -> MetadataValues:
        store, status = analytics.store(), analytics.status(spec)
        return {
            **displayed("metadata", lambda: stored_metadata(spec, store.manifest(), status), log),
            **displayed("scores", lambda: score_picture(spec, store), log),
        }

    about = (
        f"What is known about `{spec.name}`: its status, and what every commit computes about its tables. "
        "Its scores are drawn after a sync that read all rows, and whenever this asset is materialized."
    )
    return shown_asset(spec, metadata_key(spec), after=spec.view, kinds={"json"}, description=about, show=show)


def shown_asset(
    spec: SplitSyncSpec,
    name: str,
    *,
    after: str,
    kinds: set[str],
    description: str,
    show: Callable[[AnalyticsResource, logging.Logger], MetadataValues],
) -> dg.AssetsDefinition:
    """An asset that makes nothing: syncs publish it, and materialising it shows what is there.

    Args:
        spec: of its dataset.
        name: its key.
        after: the asset that it follows.
        kinds: as Dagster shows them.
        description: for people.
        show: its metadata.
    """

    @dg.asset(
        name=name,
        deps=[after],
        group_name=spec.name,
        owners=OWNERS,
        kinds=kinds,
        description=description,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def shown(context: dg.AssetExecutionContext, analytics: AnalyticsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with failing_plainly():
            metadata = show(analytics, context.log)
        return dg.MaterializeResult(metadata=metadata)

    return shown


def _half_spec(spec: SplitSyncSpec, half: Half) -> dg.AssetSpec:
    return dg.AssetSpec(
        spec.table(half),
        description=_DESCRIPTIONS[half].format(name=spec.name),
        group_name=spec.name,
        owners=OWNERS,
        kinds={"postgres", "parquet"},
        metadata={"source_variable": spec.url},
        skippable=True,
    )


def _selection(spec: SplitSyncSpec, context: dg.AssetExecutionContext) -> "Selection":
    from analytics_pipeline.sync.engine import Selection  # noqa: PLC0415 - as in `resources`

    halves = frozenset(half for half in Half if dg.AssetKey(spec.table(half)) in context.selected_asset_keys)
    partitions = partitions_of(spec)
    if partitions is None:
        return Selection(halves)
    keys = asked_partitions(context, spec.name)
    everything = frozenset(partitions.get_partition_keys())
    return Selection(halves, None if keys == everything else keys)


def _add_partition_rows(context: dg.AssetExecutionContext, half: "HalfOutcome") -> None:
    if not context.has_partition_key and not context.has_partition_key_range:
        return
    for key in context.partition_keys:
        if key in half.partitions:  # one that max_sync_rows leaves out is not read
            metadata = {"dagster/partition_row_count": half.partitions[key]}
            context.add_asset_metadata(metadata, asset_key=half.table, partition_key=key)
