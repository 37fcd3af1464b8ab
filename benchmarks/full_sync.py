"""Full sync of 3M results and 500k wide dataset rows, fingerprints included, beside `psql COPY` of the same queries.

Each round runs psql for both queries, one after the other, and then one sync into an empty store in a new process; the
ratio is taken within the round. Memory is the sync process's peak, also at twice the size.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from harness import median, record
from pydantic import SecretStr

from analytics_pipeline.sample.programs import find_programs
from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.store import create_store
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.spec import SplitSyncSpec

RESULTS_ROWS = 3_000_000
ROUNDS = 5

CREATE = """
CREATE TABLE results AS
SELECT 'case-' || (g % ({n} / 6)) AS dataset_id, g::bigint AS result_id, 'metric_' || g % 7 AS metric_name,
       CASE g % 3 WHEN 0 THEN 'SCORE' WHEN 1 THEN 'CLASSIFICATION' ELSE 'ANALYSIS' END AS metric_category,
       hashint8(g) / 4294967296.0::float8 + 0.5 AS metric_score,
       timestamptz '2026-01-01' + g * (interval '30 days' / {n}) AS created_at,
       (abs(hashint8(g)) % 5000)::int AS latency_ms, g % 11 = 0 AS error, 'env-' || g % 3 AS environment
FROM generate_series(0, {n} - 1) AS g;
CREATE TABLE dataset AS
SELECT 'case-' || g AS dataset_id, timestamptz '2026-01-01' + g * (interval '30 days' / ({n} / 6)) AS created_at,
       (SELECT string_agg(md5((g * 32 + i)::text), ' ') FROM generate_series(1, 18) AS i) AS input,
       md5(g::text) || ' ' || md5((g + 1)::text) AS output, 'model-' || g % 5 AS model, 'env-' || g % 3 AS env,
       'source-' || g % 4 AS source_name, 'component-' || g % 9 AS source_component, g % 100 AS turns,
       (g % 100) / 7.0::float8 AS cost
FROM generate_series(0, {n} / 6 - 1) AS g;
CREATE INDEX ON results (created_at);
CREATE INDEX ON dataset (created_at);
VACUUM ANALYZE;
"""
RESULTS_QUERY = (
    "SELECT dataset_id, result_id, metric_name, metric_category, metric_score, created_at, latency_ms, error, "
    "environment FROM results"
)
DATASET_QUERY = (
    "SELECT dataset_id, created_at, input, output, model, env, source_name, source_component, turns, cost FROM dataset"
)
SPEC = SplitSyncSpec(
    name="bench",
    url="BENCH_DB_URL",
    dataset_query=DATASET_QUERY,
    results_query=RESULTS_QUERY,
    incremental_column="created_at",
    start="2026-01-01",
)


def sync_once(url: str, store: Path) -> None:
    """In a process of its own: one full sync into an empty store; prints seconds and peak memory."""
    began = time.perf_counter()
    outcome = SyncJob(SPEC, SecretStr(url), create_store(store), lambda _line: None).refresh()
    seconds = time.perf_counter() - began
    rows = sum(half.rows for half in outcome.halves.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak}))


def copy_both(psql: Path, url: str) -> float:
    """Seconds that psql takes to copy both queries to nowhere, one after the other."""
    began = time.perf_counter()
    for query in (RESULTS_QUERY, DATASET_QUERY):
        subprocess.run(
            [psql, url, "-qc", f"COPY ({query}) TO STDOUT (FORMAT binary)"], stdout=subprocess.DEVNULL, check=True
        )
    return time.perf_counter() - began


def measured_sync(url: str, scratch: Path) -> dict[str, float]:
    """One sync in a new process and an empty store."""
    store = Path(tempfile.mkdtemp(dir=scratch))
    done = subprocess.run(
        [sys.executable, __file__, "--sync", url, str(store)], capture_output=True, text=True, check=True
    )
    shutil.rmtree(store)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def filled(server: EmbeddedPostgres, rows: int) -> str:
    """The URL of a database with the benchmark's tables."""
    name = f"bench_{rows}"
    with psycopg.connect(server.url("postgres").get_secret_value(), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return server.url(name).get_secret_value()
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = server.url(name).get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in CREATE.format(n=rows).split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())
    return url


def compare(server: EmbeddedPostgres, scratch: Path, rows: int, rounds: int) -> list[str]:
    """The table of the page."""
    url = filled(server, rows)
    psql = find_programs(scratch).folder / "psql"
    copy_both(psql, url)
    measured_sync(url, scratch)
    pairs = [(copy_both(psql, url), measured_sync(url, scratch)) for _ in range(rounds)]
    copies, syncs = [copy for copy, _ in pairs], [sync["seconds"] for _, sync in pairs]
    ratios = [sync["seconds"] / copy for copy, sync in pairs]
    double = measured_sync(filled(server, 2 * rows), scratch)
    return [
        f"{rows:,} results rows of 9 columns, {rows // 6:,} dataset rows with 658 characters of text; {rounds} rounds",
        "",
        "| what | median | lowest | highest |",
        "|---|---|---|---|",
        f"| psql COPY binary of both queries, to /dev/null | {_spread(copies)} |",
        f"| full sync into an empty store, checksums included | {_spread(syncs)} |",
        f"| ratio within a round | {median(ratios):.2f} x | {min(ratios):.2f} x | {max(ratios):.2f} x |",
        f"| peak memory of the sync | {median([sync['peak_mb'] for _, sync in pairs]):.0f} MB | | |",
        f"| peak memory at twice the size, {double['rows']:,.0f} rows | {double['peak_mb']:.0f} MB | | |",
    ]


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds):.2f} s | {min(seconds):.2f} s | {max(seconds):.2f} s"


@contextmanager
def started(keep: Path | None) -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server with room in memory for the tables, and a folder for whatever a benchmark writes."""
    scratch = keep or Path(tempfile.mkdtemp(prefix="bench-"))
    scratch.mkdir(exist_ok=True)
    server = EmbeddedPostgres(scratch / "postgres")
    server.start()
    try:
        with psycopg.connect(server.url("postgres").get_secret_value(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET shared_buffers = '1GB'")
            connection.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
        server.stop()
        server.start()
        yield server, scratch
    finally:
        server.stop()
        if keep is None:
            shutil.rmtree(scratch)


def main() -> None:
    """Measure, print, and write the section `full-sync` of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sync", nargs=2, metavar=("URL", "STORE"), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=RESULTS_ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keep", type=Path, help="a folder for the database, to be used again by the next run")
    options = parser.parse_args()
    if options.sync:
        sync_once(options.sync[0], Path(options.sync[1]))
        return
    with started(options.keep) as (server, scratch):
        lines = compare(server, scratch, options.rows, options.rounds)
    record("full-sync", "make bench", lines)


if __name__ == "__main__":
    main()
