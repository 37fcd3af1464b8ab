"""Rows that the API's tests publish and compute from, and the store that holds them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import polars as pl
import pyarrow as pa

from analytics_pipeline.store import Change, Manifest, Partition, Replace, Stage, Store, TableChange
from analytics_pipeline.sync.metadata import dataset_figures
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.view import joined_view
from analytics_pipeline_tests.store.scenario import schema_of

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = 37
"""Minutes between two records."""
"""A Monday."""

AWKWARD = 'Robert\'); DROP TABLE monitoring_data;-- "x" 100%_é😀'
"""A metric name that a query made from text would stumble over."""

RECORDS = schema_of(
    dataset_id=pa.string(),
    timestamp=pa.timestamp("us", "UTC"),
    trace_id=pa.string(),
    model_name=pa.string(),
    environment=pa.string(),
    source_name=pa.string(),
    source_component=pa.string(),
    source_type=pa.string(),
    query=pa.string(),
    actual_output=pa.string(),
    latency=pa.float64(),
    cost=pa.decimal128(10, 4),
    has_errors=pa.bool_(),
    tags=pa.list_(pa.string()),
    payload=pa.binary(),
    day=pa.date32(),
    steps=pa.list_(pa.timestamp("us")),
)
RESULTS = schema_of(
    dataset_id=pa.string(),
    result_id=pa.int64(),
    timestamp=pa.timestamp("us", "UTC"),
    metric_name=pa.string(),
    metric_category=pa.string(),
    metric_score=pa.float64(),
    signals=pa.string(),
    explanation=pa.string(),
    evaluation_name=pa.string(),
)
METRICS = (
    ("faithfulness", "SCORE"),
    ("relevancy", "score"),
    (AWKWARD, None),
    ("intent", "CLASSIFICATION"),
    ("failure", "Analysis"),
)
_LABELS = ("billing", "Lieferung", "应用", None)
_SIGNALS = ('{"cause": "timeout", "votes": [1, NaN]}', "[1, 2]", "not json", None)


def spec_of(name: str = "monitoring", **changes: Any) -> SplitSyncSpec:
    """A dataset as the shipped ones are."""
    values: dict[str, Any] = {
        "name": name,
        "url": "MONITORING_DB_URL",
        "dataset_query": "SELECT 1",
        "results_query": "SELECT 1",
        "normalize": "monitoring",
        "incremental_column": "created_at",
        "start": "2026-01-01",
        "refresh_interval_minutes": 15,
    }
    return SplitSyncSpec(**(values | changes))


def records(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Records with NULLs, NaN, infinities and any script."""
    drawn = random.Random(seed)  # noqa: S311 - rows, not secrets
    return [_record(number, drawn) for number in range(count)]


def _record(number: int, drawn: random.Random) -> dict[str, Any]:
    moment = START + timedelta(minutes=STEP * number)
    return {
        "dataset_id": f"r{number:05}",
        "timestamp": moment,
        "trace_id": f"trace-{number}",
        "model_name": drawn.choice(["aurora", "café-7b", None]),
        "environment": drawn.choice(["production", "staging", "O'Brien"]),
        "source_name": drawn.choice(["bot", "Bürgerportal"]),
        "source_component": drawn.choice(["planner", None]),
        "source_type": drawn.choice(["chat", "mail"]),
        "query": drawn.choice(["50% off?", "Wo ist Köln_2 😀", "plain", None]),
        "actual_output": drawn.choice(['Yes\n"quoted"', "", None]),
        "latency": drawn.choice([None, math.nan, math.inf, *(round(drawn.uniform(1, 5000), 2) for _ in range(20))]),
        "cost": None if number % 5 == 0 else round(drawn.uniform(0, 1), 4),
        "has_errors": number % 7 == 0,
        "tags": None if number % 3 else ["a", None, "é"],
        "payload": b"\x00\xff" if number % 2 else None,
        "day": moment.date(),
        "steps": [moment.replace(tzinfo=None)],
    }


def results(of: Sequence[Mapping[str, Any]], seed: int = 11) -> list[dict[str, Any]]:
    """A result of most metrics for each record; some have no time."""
    drawn = random.Random(seed)  # noqa: S311 - rows, not secrets
    found: list[dict[str, Any]] = []
    for record in of:
        for metric, category in METRICS:
            if drawn.random() < 0.1:
                continue
            scored = metric not in {"intent", "failure"}
            found.append(
                {
                    "dataset_id": record["dataset_id"],
                    "result_id": len(found),
                    "timestamp": None if drawn.random() < 0.02 else record["timestamp"] + timedelta(seconds=2),
                    "metric_name": metric,
                    "metric_category": category,
                    "metric_score": drawn.choice(
                        [None, math.nan, 0.5, 0.9, *(round(drawn.random(), 3) for _ in range(20))]
                    )
                    if scored
                    else None,
                    "signals": drawn.choice(_SIGNALS) if metric == "failure" else None,
                    "explanation": drawn.choice(_LABELS),
                    "evaluation_name": drawn.choice(["night", None]),
                }
            )
    return found


def publish(
    store: Store,
    spec: SplitSyncSpec,
    dataset: Sequence[Mapping[str, Any]],
    measured: Sequence[Mapping[str, Any]],
    *,
    schemas: tuple[pa.Schema, pa.Schema] = (RECORDS, RESULTS),
    extra: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Manifest:
    """Publish both halves of a dataset with view and metadata, as a sync does; `extra` is added to the metadata."""
    with store.stage(f"{spec.name}-{store.manifest().version}") as stage:
        names = (f"{spec.name}_dataset", f"{spec.name}_results")
        tables = [
            _table(stage, name, schema, rows)
            for name, schema, rows in zip(names, schemas, (dataset, measured), strict=True)
        ]
        with store.preview(stage, Change(tables, [joined_view(spec, None)])) as preview:
            figures = dataset_figures(preview, spec, schemas[0].names[0])
        metadata = {name: {**known, **extra.get(name, {})} for name, known in figures.metadata.items()}
        return store.commit(stage, Change(tables, [figures.view], metadata))


def publish_endless(store: Store, spec: SplitSyncSpec) -> Manifest:
    """Publish a dataset that is quickly made and that no query comes to the end of: every result has every record."""
    dataset = [row | {"dataset_id": "one"} for row in records(20_000)]
    measured = [row | {"dataset_id": "one"} for row in results(dataset)]
    with store.stage(f"{spec.name}-endless") as stage:
        tables = [
            _table(stage, spec.table(Half.DATASET), RECORDS, dataset),
            _table(stage, spec.table(Half.RESULTS), RESULTS, measured),
        ]
        shown = [*RESULTS.names, *(name for name in RECORDS.names if name not in RESULTS.names)]
        types = {column.name: column.type for table in tables for column in table.columns}
        columns = [{"column_name": name, "column_type": types[name]} for name in shown]
        unknown: dict[str, Any] = {"filter_values": {}, "time_range": None, "summary_stats": None}
        metadata: dict[str, Any] = {"row_count": 1, "columns": columns} | unknown
        return store.commit(stage, Change(tables, [joined_view(spec, None)], {spec.view: metadata}))


def publish_rows(store: Store, name: str, rows: pa.Table, metadata: Mapping[str, Any] | None = None) -> Manifest:
    """Publish one table."""
    with store.stage(f"{name}-{store.manifest().version}") as stage:
        change = _written(stage, name, rows.schema, rows.to_batches())
        return store.commit(stage, Change([change], (), {name: metadata} if metadata else {}))


def _table(stage: Stage, name: str, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> TableChange:
    batches = [pa.RecordBatch.from_pylist([_as_arrow(row) for row in rows], schema=schema)] if rows else []
    return _written(stage, name, schema, batches)


def _written(stage: Stage, name: str, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> TableChange:
    writer = stage.writer(name, schema)
    for batch in batches:
        writer.write("whole", batch)
    files = writer.close().get("whole", ())
    whole = Partition("whole", None, None, tuple(files), "checksum:1:1", "spec", stage.sync_id, datetime.now(UTC))
    return TableChange(name, writer.columns, [whole], replace=Replace.TABLE)


def _as_arrow(row: Mapping[str, Any]) -> dict[str, Any]:
    cost = row.get("cost")
    return dict(row) | ({"cost": Decimal(str(cost))} if isinstance(cost, float) else {})


def joined(dataset: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """What the view holds, computed from the rows alone; numbers that are none are NULL."""
    left = pl.DataFrame(measured, infer_schema_length=None)
    right = pl.DataFrame(dataset, infer_schema_length=None).rename({"timestamp": "dataset_timestamp"})
    frame = left.join(right, on="dataset_id", how="inner")
    return frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in ("metric_score", "latency")
    )
