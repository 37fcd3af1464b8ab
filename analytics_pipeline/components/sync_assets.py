"""The assets and the job of one dataset, from its spec. Works without YAML, too.

Belongs here: keys, groups, descriptions, the thin bodies, what a sync's outcome looks like in Dagster's events.
Does not: how a dataset is synced (`sync.engine`).
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of assets built inside a function.

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.partitions import partitions_of
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.store import Column, Manifest
    from analytics_pipeline.sync.engine import Selection, SyncOutcome
    from analytics_pipeline.sync.reading import HalfOutcome
    from analytics_pipeline.sync.summary import ViewSummary

OWNERS = ["team:analytics"]
REFRESH_TAG = "analytics_pipeline/refresh"
"""Marks the jobs that `refresh_all_job` gathers."""

_DESCRIPTIONS = {
    Half.DATASET: "The records of `{name}`: one row a dataset_id, mirrored from Postgres.",
    Half.RESULTS: "The results of `{name}`: what was measured about its records, mirrored from Postgres.",
}


def build_sync_assets(spec: SplitSyncSpec) -> dg.Definitions:
    """The pair of mirrored tables, their JOIN view, and the jobs that refresh and rebuild them.

    Args:
        spec: of the dataset.

    The definitions need the resource `analytics` (`AnalyticsResource`). Whatever writes to a dataset is in the pool of
    its name, so that with pools of one run (see dagster.yaml) a second run waits in the queue.
    """
    return dg.Definitions(assets=[_halves(spec), _view(spec)], jobs=[_refresh_job(spec), _rebuild_job(spec)])


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
            outcome = analytics.sync_job(spec, context.log.info).replace(_selection(spec, context))
        for half in outcome.halves.values():
            _add_partition_rows(context, half)
            yield dg.MaterializeResult(asset_key=half.table, metadata=half_metadata(half, outcome.manifest))

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
        context.log.info("%s: %d rows, %d results without a record", spec.view, summary.rows, summary.orphans)
        return dg.MaterializeResult(metadata=view_metadata(summary))

    return joined_view


def _refresh_job(spec: SplitSyncSpec) -> dg.JobDefinition:
    @dg.op(
        name=f"refresh_{spec.name}",
        description=f"Replaces what changed in the source of `{spec.name}`.",
        pool=spec.name,
    )
    def refresh(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
        with failing_plainly():
            outcome = analytics.sync_job(spec, context.log.info).refresh()
        _log_outcome(context, spec, analytics, outcome)

    @dg.job(
        name=f"{spec.name}_refresh_job",
        description=f"Compares `{spec.name}` with its source, partition by partition, and replaces what differs.",
        tags={REFRESH_TAG: spec.name},
        executor_def=dg.in_process_executor,
    )
    def refresh_job() -> None:
        refresh()

    return refresh_job


def _rebuild_job(spec: SplitSyncSpec) -> dg.JobDefinition:
    @dg.op(
        name=f"rebuild_{spec.name}",
        description=f"Reads all of `{spec.name}` anew and adopts the source's column types.",
        pool=spec.name,
    )
    def rebuild(context: dg.OpExecutionContext, analytics: AnalyticsResource) -> None:
        with failing_plainly():
            outcome = analytics.sync_job(spec, context.log.info).rebuild()
        _log_outcome(context, spec, analytics, outcome)

    @dg.job(
        name=f"{spec.name}_rebuild_job",
        description=f"Replaces all of `{spec.name}`, also where a column's new type does not fit the published one.",
        executor_def=dg.in_process_executor,
    )
    def rebuild_job() -> None:
        rebuild()

    return rebuild_job


def _log_outcome(
    context: dg.OpExecutionContext, spec: SplitSyncSpec, analytics: AnalyticsResource, outcome: "SyncOutcome"
) -> None:
    if not outcome.halves:
        context.log.info("%s: nothing changed in the source; nothing was committed.", spec.name)
        return
    for event in _half_events(spec, outcome):
        context.log_event(event)
    with failing_plainly():  # after the events: these partitions are published, whatever becomes of the view's figures
        summary = analytics.view_summary(spec)
    context.log_event(dg.AssetMaterialization(spec.view, metadata=view_metadata(summary)))


def _half_events(spec: SplitSyncSpec, outcome: "SyncOutcome") -> Iterator[dg.AssetMaterialization]:
    """One event a replaced partition; a run with range tags would mark every partition of the range."""
    partitions = partitions_of(spec)
    for half in outcome.halves.values():
        metadata = half_metadata(half, outcome.manifest)
        if partitions is None:
            yield dg.AssetMaterialization(half.table, metadata=metadata)
            continue
        known = frozenset(partitions.get_partition_keys())
        for key, rows in half.partitions.items():
            if key in known:
                yield dg.AssetMaterialization(
                    half.table, partition=key, metadata={**metadata, "dagster/partition_row_count": rows}
                )


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
    keys = frozenset(context.partition_keys)
    everything = frozenset(partitions.get_partition_keys())
    return Selection(halves, None if keys == everything else keys)


def _add_partition_rows(context: dg.AssetExecutionContext, half: "HalfOutcome") -> None:
    if not context.has_partition_key and not context.has_partition_key_range:
        return
    for key in context.partition_keys:
        metadata = {"dagster/partition_row_count": half.partitions[key]}
        context.add_asset_metadata(metadata, asset_key=half.table, partition_key=key)


@contextmanager
def failing_plainly() -> Iterator[None]:
    """Turn our own refusals into a run failure of one sentence; where in our code it arose helps nobody."""
    try:
        yield
    except AnalyticsError as error:
        raise dg.Failure(description=str(error), metadata={"error": type(error).__name__}) from None


def half_metadata(half: "HalfOutcome", manifest: "Manifest") -> Mapping[str, dg.MetadataValue]:
    """What Dagster shows of a mirrored table after a sync."""
    table = manifest.tables[half.table]
    return {
        "dagster/row_count": dg.MetadataValue.int(table.rows),
        "dagster/column_schema": column_schema(table.columns),
        "rows_read": dg.MetadataValue.int(half.rows),
        "partitions_replaced": dg.MetadataValue.int(len(half.partitions)),
        "bytes_written": dg.MetadataValue.int(half.bytes),
        "seconds": dg.MetadataValue.float(round(half.seconds, 3)),
        "read_tier": dg.MetadataValue.text(half.tier.value),
        "store_version": dg.MetadataValue.int(manifest.version),
    }


def view_metadata(summary: "ViewSummary") -> Mapping[str, dg.MetadataValue]:
    """What Dagster shows of a JOIN view."""
    return {
        "dagster/row_count": dg.MetadataValue.int(summary.rows),
        "dagster/column_schema": column_schema(summary.columns),
        "results_without_record": dg.MetadataValue.int(summary.orphans),
    }


def column_schema(columns: "tuple[Column, ...]") -> dg.TableSchemaMetadataValue:
    """Columns as Dagster's UI lists them."""
    return dg.MetadataValue.table_schema(
        dg.TableSchema([dg.TableColumn(column.name, column.type) for column in columns])
    )
