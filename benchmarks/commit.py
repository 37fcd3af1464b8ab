"""What a commit costs at 60, 1,000 and 5,000 data files, and what a one-day query costs there.

Each figure is the median of five; files are small, for a commit never reads them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from harness import record

from analytics_pipeline.store import Change, Partition, Stage, Store, TableChange, create_store
from analytics_pipeline.store.catalog import build_catalog
from analytics_pipeline.store.commit import load_manifest
from analytics_pipeline.store.manifest_file import write_manifest

SIZES = (60, 1_000, 5_000)
REPEATS = 5
ROWS_A_DAY = 50
FIRST_DAY = datetime(2010, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema(
    {"id": pa.string(), "created_at": pa.timestamp("us", "UTC")} | {f"metric_{n}": pa.float64() for n in range(16)}
)
QUERY = "SELECT count(*), avg(metric_0) FROM facts WHERE created_at >= $low AND created_at < $high"


def main() -> None:
    """Measure every size, print, and write the section `commit` of docs/benchmarks.md."""
    lines = [
        f"One data file a day, {ROWS_A_DAY} rows of {len(SCHEMA)} columns each; median of {REPEATS}, in milliseconds",
        "",
        "| files | read manifest | write manifest | build catalog | whole commit | first query of a version | day |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(create_store(Path(folder) / "store"), size)
        lines.append(f"| {size:,} | " + " | ".join(f"{figure * 1000:,.0f}" for figure in figures) + " |")
    record("commit", "make bench", lines)


def measure(store: Store, size: int) -> list[float]:
    """Seconds of each step at so many files, one a day."""
    commit_days(store, range(size))
    manifest = store.manifest()
    scratch = store.layout.staging
    targets = iter(range(10_000))
    reading = median(lambda: load_manifest(store.layout))
    writing = median(lambda: write_manifest(manifest, scratch / ".manifest"))
    building = median(lambda: build_catalog(manifest, store.layout, scratch / f".catalog-{next(targets)}"))
    commits, firsts, queries = [], [], []
    for number in range(REPEATS):
        commits.append(commit_days(store, range(number, number + 1)))
        firsts.append(seconds(lambda: one_day(store)))
        queries.append(median(lambda: one_day(store)))
    store.close()
    return [reading, writing, building, *(statistics.median(figures) for figures in (commits, firsts, queries))]


def commit_days(store: Store, days: range) -> float:
    """Commit one partition a day; returns the seconds of the commit alone."""
    with store.stage(f"sync-{days.start}-{len(days)}") as stage:
        change = Change([staged(stage, days)])
        return seconds(lambda: store.commit(stage, change))


def staged(stage: Stage, days: range) -> TableChange:
    """Rows of some days, written."""
    writer = stage.writer("facts", SCHEMA)
    for day in days:
        begin = FIRST_DAY + timedelta(days=day)
        rows = [
            {"id": f"{day}-{n}", "created_at": begin + timedelta(minutes=n), "metric_0": n} for n in range(ROWS_A_DAY)
        ]
        writer.write(key(day), pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    files = writer.close()
    begins = {key(day): FIRST_DAY + timedelta(days=day) for day in days}
    partitions = [
        Partition(name, begin, begin + timedelta(days=1), tuple(files[name]), "print", "spec", stage.sync_id, begin)
        for name, begin in begins.items()
    ]
    return TableChange("facts", writer.columns, partitions)


def one_day(store: Store) -> None:
    """The query of a dashboard: one day out of all."""
    low = FIRST_DAY + timedelta(days=30)
    rows = store.query(QUERY, {"low": low, "high": low + timedelta(days=1)})
    assert rows.row(0)[0] == ROWS_A_DAY


def key(day: int) -> str:
    """A partition's key."""
    return f"d{day:05d}"


def median(run: Callable[[], object]) -> float:
    """Seconds, as the median of the repeats."""
    return statistics.median(seconds(run) for _ in range(REPEATS))


def seconds(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
