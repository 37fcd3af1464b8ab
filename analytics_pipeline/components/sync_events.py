"""Events: what a sync looks like in Dagster: materialisations with their metadata, evaluations of checks.

Belongs here: the translation of outcomes, summaries, stored metadata and check results into Dagster's own terms.
Does not: when they are logged (`sync_jobs`, `sync_assets`, `sync_sensor`), or what they mean (`sync`).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from analytics_pipeline.display import displayed
from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.partitions import partitions_of
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.store import Column, Manifest, Store
    from analytics_pipeline.sync.checks import CheckResult
    from analytics_pipeline.sync.outcome import SyncOutcome
    from analytics_pipeline.sync.reading import HalfOutcome
    from analytics_pipeline.sync.status import DatasetStatus
    from analytics_pipeline.sync.summary import ViewSummary

MetadataValues = Mapping[str, dg.MetadataValue]


def metadata_key(spec: SplitSyncSpec) -> str:
    """The asset that shows a dataset's metadata and status."""
    return f"{spec.name}_metadata"


ALLOW_TAG = "analytics_pipeline/allow"
"""A run's tag: what a person lets its syncs do that would stop them otherwise; `removal`, `other_source` or both."""


@contextmanager
def failing_plainly() -> Iterator[None]:
    """Turn our own refusals into a run failure of one sentence; where in our code it arose helps nobody.

    A retry policy does not apply to it: what may pass was tried again by then, and the rest fails each time.
    """
    try:
        yield
    except AnalyticsError as error:
        metadata = {"error": type(error).__name__}
        raise dg.Failure(description=str(error), metadata=metadata, allow_retries=False) from None


def half_events(spec: SplitSyncSpec, outcome: SyncOutcome, log: logging.Logger) -> Iterator[dg.AssetMaterialization]:
    """One event a replaced partition; a run with range tags would mark every partition of the range."""
    partitions = partitions_of(spec)
    for half in outcome.halves.values():
        metadata = displayed("metadata", partial(half_metadata, spec, half, outcome.manifest), log)
        if partitions is None:
            yield dg.AssetMaterialization(half.table, metadata=metadata)
            continue
        known = frozenset(partitions.get_partition_keys())
        for key, rows in half.partitions.items():
            if key in known:
                yield dg.AssetMaterialization(
                    half.table, partition=key, metadata={**metadata, "dagster/partition_row_count": rows}
                )


def half_metadata(spec: SplitSyncSpec, half: HalfOutcome, manifest: Manifest) -> MetadataValues:
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
        "fingerprint": dg.MetadataValue.text(spec.fingerprint.value),
        "store_version": dg.MetadataValue.int(manifest.version),
    }


def view_metadata(summary: ViewSummary) -> MetadataValues:
    """What Dagster shows of a JOIN view."""
    return {
        "dagster/row_count": dg.MetadataValue.int(summary.rows),
        "dagster/column_schema": column_schema(summary.columns),
        "results_without_record": dg.MetadataValue.int(summary.orphans),
    }


def stored_metadata(spec: SplitSyncSpec, manifest: Manifest, status: DatasetStatus) -> MetadataValues:
    """What Dagster shows of a dataset: its status, its stored metadata as JSON, and every number in them to plot."""
    shown: dict[str, dg.MetadataValue] = {
        "state": dg.MetadataValue.text(status.state.value),
        "message": dg.MetadataValue.text(status.message or ""),
        "last_sync_type": dg.MetadataValue.text(status.sync_type.value if status.sync_type else ""),
        "incremental_rows": dg.MetadataValue.int(status.incremental_rows),
        "truncated": dg.MetadataValue.bool(status.truncated),
    }
    for name, moment in {"last_sync": status.last_sync, "last_verified": status.last_verified}.items():
        if moment is not None:
            shown[name] = dg.MetadataValue.timestamp(moment)
    shown |= {f"{name}/watermark": dg.MetadataValue.text(mark) for name, mark in status.watermarks.items() if mark}
    values = {
        name: dict(manifest.metadata[name].value)
        for name in (*map(spec.table, Half), spec.view)
        if name in manifest.metadata
    }
    if values:
        shown["preview"] = dg.MetadataValue.md(_preview(values))
    for name, value in values.items():
        shown[name] = dg.MetadataValue.json(value)
        shown |= {f"{name}/{key}": number for key, number in _numbers(value)}
    return shown


def score_picture(spec: SplitSyncSpec, store: Store) -> MetadataValues:
    """A picture of a dataset's scores.

    Raises:
        NothingToShow: the dataset has no scores that could be drawn.
        ExtraMissing: matplotlib is not installed.
    """
    from analytics_pipeline.plots.scores import daily_scores, draw_scores  # noqa: PLC0415 - as in `resources`
    from analytics_pipeline.sync.view import epoch_of  # noqa: PLC0415

    epoch = epoch_of(store.manifest(), spec, "timestamp")
    points = daily_scores(store, spec.view, spec.visible_metrics, epoch=epoch)
    picture = base64.b64encode(draw_scores(points)).decode()
    return {"scores": dg.MetadataValue.md(f"![Scores by day and metric](data:image/png;base64,{picture})")}


def _preview(values: Mapping[str, Mapping[str, object]]) -> str:
    """Figures of each table; no rows. Values of filters stand beside it, as JSON."""
    lines = ["| table | rows | columns | from | to |", "|---|--:|--:|---|---|"]
    for name, value in values.items():
        columns, span = value["columns"], value["time_range"]
        assert isinstance(columns, list)
        first, last = (span["min"], span["max"]) if isinstance(span, Mapping) else ("", "")
        lines.append(f"| {name} | {value['row_count']:,} | {len(columns)} | {first} | {last} |")
    return "\n".join(lines)


def _numbers(value: Mapping[str, object]) -> Iterator[tuple[str, dg.MetadataValue]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and key == "summary_stats":
            yield from _numbers(item)
        elif isinstance(item, int) and not isinstance(item, bool):
            yield key, dg.MetadataValue.int(item)
        elif isinstance(item, float):
            yield key, dg.MetadataValue.float(item)


def column_schema(columns: tuple[Column, ...]) -> dg.TableSchemaMetadataValue:
    """Columns as Dagster's UI lists them."""
    return dg.MetadataValue.table_schema(
        dg.TableSchema([dg.TableColumn(column.name, column.type) for column in columns])
    )


def evaluation(result: CheckResult) -> dg.AssetCheckEvaluation:
    """A check's answer as an event of its asset, for runs that are no run of the check itself."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(result.table),
        check_name=result.name.value,
        passed=result.passed,
        severity=severity(result),
        description=result.description,
        metadata=dict(result.numbers),
    )


def severity(result: CheckResult) -> dg.AssetCheckSeverity:
    """How bad it is that a check failed."""
    return dg.AssetCheckSeverity.ERROR if result.severity == "error" else dg.AssetCheckSeverity.WARN
