"""The store that the benchmark of the API reads: a dataset as `monitoring` is, and commits of its last day.

Belongs here: rows and commits. Does not: anything that is measured (`api`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import duckdb
import pyarrow as pa

from analytics_pipeline.store import Change, Partition, Stage, Store, TableChange, create_store, open_store
from analytics_pipeline.sync.metadata import dataset_figures
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline.sync.view import joined_view

DAYS = 60
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LAST_DAY = (FIRST + timedelta(days=DAYS - 1)).date().isoformat()
A_RECORD = 6
"""Results of each record."""

MARK = {"monitoring_dataset": "mark", "monitoring_results": "result_mark"}
"""Columns of both halves that hold the number of the commit that wrote the row: a mixed answer has two of them."""

SPEC = SplitSyncSpec(
    name="monitoring",
    url="BENCH_DB_URL",
    dataset_query="SELECT 1",
    results_query="SELECT 1",
    incremental_column="created_at",
    start=FIRST.date().isoformat(),
)
_MOMENT = "TIMESTAMPTZ '2026-01-01 00:00+00' + {record} * (INTERVAL '60 days' / {records})"
_RECORDS = f"""
SELECT md5('r' || g)::UUID::VARCHAR AS dataset_id, {_MOMENT.format(record="g", records="{records}")} AS timestamp,
       md5('t' || g) AS trace_id, CASE WHEN g % 50 <> 0 THEN 'model-' || g % 5 END AS model_name,
       'env-' || g % 3 AS environment, 'source-' || g % 4 AS source_name,
       CASE WHEN g % 4 <> 0 THEN 'component-' || g % 9 END AS source_component, 'type-' || g % 2 AS source_type,
       array_to_string([md5((g * 32 + i)::VARCHAR) FOR i IN range(1, 19)], ' ') AS query,
       md5(g::VARCHAR) || ' ' || md5((g + 1)::VARCHAR) AS actual_output,
       CASE WHEN g % 97 <> 0 THEN (150 - 700 * ln(1 - (hash(g) % 100000) / 100000.0))::INTEGER END AS latency,
       g % 11 = 0 AS has_errors, (g % 100) / 7.0::DOUBLE AS cost, {{mark}} AS mark
FROM range({{first}}, {{last}}) AS t(g)
"""
_RESULTS = f"""
SELECT md5('r' || (g // 6))::UUID::VARCHAR AS dataset_id, g AS result_id,
       {_MOMENT.format(record="(g // 6)", records="{records}")} AS timestamp, 'metric_' || g % 6 AS metric_name,
       ['SCORE', 'SCORE', 'SCORE', NULL, 'CLASSIFICATION', 'ANALYSIS'][g % 6 + 1] AS metric_category,
       CASE WHEN g % 6 < 4 THEN (hash(g) % 10001) / 10000.0::DOUBLE END AS metric_score,
       CASE WHEN g % 6 = 5 THEN '{{{{"root_cause": "timeout", "severity": "low"}}}}' END AS signals,
       CASE g % 6 WHEN 4 THEN 'label-' || hash(g) % 6 WHEN 5 THEN 'Probably ' || g END AS explanation,
       'eval-' || g % 2 AS evaluation_name, {{mark}} AS result_mark
FROM range({{first}} * 6, {{last}} * 6) AS t(g)
"""
_QUERIES = {"monitoring_dataset": _RECORDS, "monitoring_results": _RESULTS}


def fill(root: Path, rows: int) -> Store:
    """A store with so many results, six of each record, in daily partitions."""
    store = create_store(root)
    commit(store, rows // A_RECORD, range(DAYS), 0)
    return store


def commit(store: Store, records: int, days: Sequence[int], mark: int) -> None:
    """Replace some days, as a refresh does: rows, view and metadata in one commit."""
    with store.stage(f"bench-{mark}-{len(days)}") as stage:
        tables = [_change(stage, name, records, days, mark) for name in _QUERIES]
        with store.preview(stage, Change(tables, [joined_view(SPEC, None)])) as preview:
            figures = dataset_figures(preview, SPEC, "timestamp")
        store.commit(stage, Change(tables, [figures.view], figures.metadata))


def commit_until(root: Path, records: int, every: float, stop: Event, count: list[int]) -> None:
    """In a process of its own: replace the last day every few seconds.

    Args:
        root: of the store.
        records: of the whole store.
        every: seconds between two commits.
        stop: ends it.
        count: gets the number of commits.
    """
    store, mark = open_store(root), 0
    while not stop.wait(every):
        mark += 1
        commit(store, records, [DAYS - 1], mark)
        count[0] = mark


def _change(stage: Stage, name: str, records: int, days: Sequence[int], mark: int) -> TableChange:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        writer = None
        for day in days:
            bounds = {"first": day * records // DAYS, "last": (day + 1) * records // DAYS}
            sql = _QUERIES[name].format(records=records, mark=mark, **bounds)
            reader = connection.sql(sql).to_arrow_reader(100_000)
            schema = _in_utc(reader.schema)
            writer = writer or stage.writer(name, schema)
            for batch in reader:
                writer.write(_key(day), batch.cast(schema))
    assert writer is not None
    files = writer.close()
    begun = datetime.now(UTC)
    partitions = [
        Partition(
            _key(day),
            FIRST + timedelta(days=day),
            FIRST + timedelta(days=day + 1),
            tuple(files[_key(day)]),
            f"checksum:{mark}",
            "spec",
            stage.sync_id,
            begun,
        )
        for day in days
    ]
    return TableChange(name, writer.columns, partitions)


def _key(day: int) -> str:
    return (FIRST + timedelta(days=day)).date().isoformat()


def _in_utc(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [
            pa.field(field.name, pa.timestamp("us", "UTC") if pa.types.is_timestamp(field.type) else field.type)
            for field in schema
        ]
    )
