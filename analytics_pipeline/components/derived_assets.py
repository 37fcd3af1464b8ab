"""The assets of what is derived from a dataset: its cases and their metric schema.

Belongs here: keys, descriptions, what Dagster shows of them. Does not: making them, which every sync does in the commit
of its rows (`sync.derived`).
"""
# No `from __future__ import annotations`: Dagster reads the annotations of assets built inside a function.

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from analytics_pipeline.components.sync_assets import shown_asset
from analytics_pipeline.components.sync_events import MetadataValues, column_schema
from analytics_pipeline.display import displayed
from analytics_pipeline.errors import ViewMissing
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.store import Manifest
    from analytics_pipeline.sync.outcome import SyncOutcome


def derived_assets(spec: SplitSyncSpec) -> Sequence[dg.AssetsDefinition]:
    """The cases of a dataset and their metric schema; none where its spec asks for none."""
    return [_cases(spec), _metric_schema(spec)] if spec.cases else []


def derived_events(
    spec: SplitSyncSpec, outcome: "SyncOutcome", log: logging.Logger
) -> Iterator[dg.AssetMaterialization]:
    """What a sync tells of them; nothing where it left them as they were, or there are none yet."""
    manifest = outcome.manifest
    if not spec.cases or spec.cases_table not in manifest.tables:
        return
    written = {partition.sync_id for partition in manifest.tables[spec.cases_table].partitions.values()}
    if outcome.halves or outcome.sync_id in written:
        for key, metadata in {spec.cases_table: _cases_metadata, _schema_key(spec): _schema_metadata}.items():
            shown = displayed("metadata", partial(metadata, spec, manifest), log)
            yield dg.AssetMaterialization(key, metadata=shown)


def _schema_key(spec: SplitSyncSpec) -> str:
    return f"{spec.name}_metric_schema"


def _cases(spec: SplitSyncSpec) -> dg.AssetsDefinition:
    about = f"The cases of `{spec.name}`: one row a dataset_id, a column a signal; published with its rows."
    return shown_asset(
        spec,
        spec.cases_table,
        after=spec.view,
        kinds={"duckdb", "parquet"},
        description=about,
        show=partial(_shown, spec, _cases_metadata),
    )


def _metric_schema(spec: SplitSyncSpec) -> dg.AssetsDefinition:
    about = f"The metrics of `{spec.name}`: category, signals and their types; published with its cases."
    return shown_asset(
        spec,
        _schema_key(spec),
        after=spec.cases_table,
        kinds={"json"},
        description=about,
        show=partial(_shown, spec, _schema_metadata),
    )


def _shown(
    spec: SplitSyncSpec,
    metadata: Callable[[SplitSyncSpec, "Manifest"], MetadataValues],
    analytics: AnalyticsResource,
    log: logging.Logger,
) -> MetadataValues:
    manifest = analytics.store().manifest()
    _known(spec, manifest)  # an asset that was never made is an error, not a gap in what is shown
    return displayed("metadata", partial(metadata, spec, manifest), log)


def _known(spec: SplitSyncSpec, manifest: "Manifest") -> Mapping[str, Any]:
    if spec.cases_table not in manifest.tables:
        raise ViewMissing(spec.cases_table, [name for name in map(spec.table, Half) if name not in manifest.tables])
    return manifest.metadata[spec.cases_table].value


def _cases_metadata(spec: SplitSyncSpec, manifest: "Manifest") -> MetadataValues:
    known, table = _known(spec, manifest), manifest.tables[spec.cases_table]
    return {
        "dagster/row_count": dg.MetadataValue.int(table.rows),
        "dagster/column_schema": column_schema(table.columns),
        "rows_without_metric": dg.MetadataValue.int(known["rows_without_metric"]),
        "store_version": dg.MetadataValue.int(manifest.version),
    }


def _schema_metadata(spec: SplitSyncSpec, manifest: "Manifest") -> MetadataValues:
    """Names and types only: values in Dagster's event log would outlive their deletion in the source."""
    metrics = _known(spec, manifest)["metric_schema"]["metrics"]
    lines = ["| metric | category | signals |", "|---|---|---|"]
    for name, metric in metrics.items():
        signals = ", ".join(f"{signal} ({type_})" for signal, type_ in metric["signal_types"].items())
        lines.append(f"| {name} | {metric['category']} | {signals} |")
    return {
        "metrics": dg.MetadataValue.int(len(metrics)),
        "signals": dg.MetadataValue.int(sum(len(metric["signals"]) for metric in metrics.values())),
        "schema": dg.MetadataValue.md("\n".join(lines)),
    }
