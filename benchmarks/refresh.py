"""What a refresh costs, beside the same fingerprint queries in psql: nothing changed, the gate, 1,000 new rows; audits.

3M results and 500k wide dataset rows in 30 and in 300 daily partitions, by both kinds of fingerprint. Each round runs
the fingerprint queries of both halves in two psql at once, as a refresh does, and then the refreshes; ratios are taken
within the round. The refresh job's whole process stands beside them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from full_sync import CREATE, DATASET_QUERY, RESULTS_QUERY, RESULTS_ROWS, ROUNDS, started
from harness import median, record
from pydantic import SecretStr

from analytics_pipeline.sample.programs import find_programs
from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.store import create_store
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.fingerprint import grouped_query
from analytics_pipeline.sync.plan import plan_halves
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline.sync.spec import FingerprintKind, SplitSyncSpec

NEW_RESULTS, NEW_RECORDS = 850, 150
NEW_ROWS = """
INSERT INTO results
SELECT 'new-' || {round} || '-' || g % {records}, -g, 'metric_1', 'SCORE', 0.5, now(), 7, false, 'env-1'
FROM generate_series(1, {results}) AS g;
INSERT INTO dataset
SELECT 'new-' || {round} || '-' || g, now(), 'in', 'out', 'model-1', 'env-1', 'source-1', 'component-1', 1, 0.5
FROM generate_series(0, {records} - 1) AS g
"""
HEAD = (
    "| fingerprint | partitions | full sync | fingerprints in psql | nothing changed | with the gate | new rows | "
    "new rows less fingerprints, of the full sync | audit | of it reading the files |"
)
CODE_LOCATION = """
import dagster as dg
from analytics_pipeline.components import build_sync_assets
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import SplitSyncSpec

SPEC = SplitSyncSpec.model_validate_json({spec!r})
defs = dg.Definitions.merge(
    build_sync_assets(SPEC), dg.Definitions(resources={{"analytics": AnalyticsResource(home_path={home!r})}})
)
"""


@dataclass(frozen=True)
class Bench:
    """One database of the benchmark, a dataset over it and its store."""

    url: str
    days: int
    kind: FingerprintKind
    home: Path

    @property
    def spec(self) -> SplitSyncSpec:
        """Of the dataset."""
        tables = {"dataset": "dataset", "results": "results"} if self.kind is FingerprintKind.XMIN else {}
        return SplitSyncSpec.model_validate(
            {
                "name": "bench",
                "url": "BENCH_DB_URL",
                "dataset_query": DATASET_QUERY,
                "results_query": RESULTS_QUERY,
                "incremental_column": "created_at",
                "start": first_day(self.days),
                "fingerprint": self.kind,
                "source_table": tables,
            }
        )

    @property
    def job(self) -> SyncJob:
        """A job on its store; the gate and the status are in files."""
        return SyncJob(self.spec, SecretStr(self.url), create_store(self.home / "store"), lambda _line: None)

    def fingerprint_queries(self) -> Sequence[str]:
        """The SQL that a refresh asks, one a half."""
        connection = connect(SecretStr(self.url))
        try:
            plans = plan_halves(self.spec, connection, "", datetime.now(UTC)).values()
        finally:
            connection.close()
        return [grouped_query(plan.query, plan.bucket, [plan.hashes[plan.kind]]) for plan in plans]


def first_day(days: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=days - 1)).isoformat()


def seconds_of(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def in_psql(psql: Path, url: str, queries: Sequence[str]) -> None:
    """Run queries at once, each in a psql of its own."""
    running = [subprocess.Popen([psql, url, "-qAtc", query], stdout=subprocess.DEVNULL) for query in queries]
    if any(process.wait() for process in running):
        sys.exit("a fingerprint query failed in psql")


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def move_snapshot(url: str) -> None:
    """A transaction that changes another table: the gate opens, the fingerprints stay."""
    execute(url, "CREATE TABLE IF NOT EXISTS others (n int)", "INSERT INTO others VALUES (1)")


def refreshed(job: SyncJob, expected: int) -> None:
    """A refresh that must replace so many partitions."""
    replaced = sum(len(half.partitions) for half in job.refresh().halves.values())
    if replaced != expected:
        sys.exit(f"{replaced} partitions were replaced instead of {expected}")


def full_sync(bench: Bench) -> float:
    """Seconds of a sync into an empty store."""
    home = Path(tempfile.mkdtemp(dir=bench.home.parent))
    try:
        return seconds_of(replace(bench, home=home).job.refresh)
    finally:
        shutil.rmtree(home)


def rounds_of(bench: Bench, psql: Path, rounds: int) -> Mapping[str, Sequence[float]]:
    """Seconds of each thing, a round each."""
    queries, job = bench.fingerprint_queries(), bench.job
    measured = ("full", "psql", "same", "gate", "new", "audit", "files")
    found: dict[str, list[float]] = {name: [] for name in measured}
    job.refresh()
    in_psql(psql, bench.url, queries)
    for number in range(rounds):
        found["full"].append(full_sync(bench))
        found["psql"].append(seconds_of(lambda: in_psql(psql, bench.url, queries)))
        move_snapshot(bench.url)
        found["same"].append(seconds_of(lambda: refreshed(job, 0)))
        if not job.is_unchanged():
            sys.exit("the gate is open, although nothing was written")
        found["gate"].append(seconds_of(lambda: refreshed(job, 0)))
        values = {"round": number + time.time_ns(), "results": NEW_RESULTS, "records": NEW_RECORDS}
        execute(bench.url, *NEW_ROWS.format(**values).split(";\n"))
        found["new"].append(seconds_of(lambda: refreshed(job, 2)))
        found["audit"].append(seconds_of(job.audit))
        found["files"].append(seconds_of(job.check_files))
    return found


def filled(server: EmbeddedPostgres, rows: int, days: int) -> str:
    """The URL of a database whose rows end today."""
    name = f"refresh_{rows}_{days}_{datetime.now(UTC):%Y%m%d}"
    admin = server.url("postgres").get_secret_value()
    with psycopg.connect(admin, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return server.url(name).get_secret_value()
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = server.url(name).get_secret_value()
    seconds = (datetime.now(UTC) - datetime.fromisoformat(first_day(days)).replace(tzinfo=UTC)).total_seconds()
    create = CREATE.replace("timestamptz '2026-01-01'", f"timestamptz '{first_day(days)} 00:00+00'")
    create = create.replace("interval '30 days'", f"interval '{seconds:.0f} seconds'")
    execute(url, *(part for part in create.format(n=rows).split(";\n") if part.strip()))
    return url


def whole_job(bench: Bench, scratch: Path) -> tuple[float, float]:
    """Wall and CPU seconds of the refresh job from the command line, with nothing changed in the tables."""
    location = scratch / "bench_location.py"
    location.write_text(CODE_LOCATION.format(spec=bench.spec.model_dump_json(), home=str(bench.home)))
    move_snapshot(bench.url)
    environment = os.environ | {"BENCH_DB_URL": bench.url, "DAGSTER_HOME": str(scratch / "dagster")}
    Path(environment["DAGSTER_HOME"]).mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dagster",
        "job",
        "execute",
        "-f",
        location,
        "-j",
        "bench_refresh_job",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = seconds_of(lambda: subprocess.run(command, env=environment, capture_output=True, check=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(server: EmbeddedPostgres, scratch: Path, rows: int, rounds: int) -> list[str]:
    """The tables of the page."""
    psql = find_programs(scratch).folder / "psql"
    new = f"{NEW_RESULTS} + {NEW_RECORDS} new rows of today in each of {rounds} rounds"
    lines = [f"{rows:,} results rows, {rows // 6:,} dataset rows, {new}; medians, ratios within a round", "", HEAD]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    jobs = []
    for kind in FingerprintKind:
        for days in (30, 300):
            bench = Bench(filled(server, rows, days), days, kind, Path(tempfile.mkdtemp(dir=scratch)))
            lines.append(_line(kind, days, rounds_of(bench, psql, rounds)))
            if days == 30:
                wall, cpu = zip(*(whole_job(bench, scratch) for _ in range(rounds)), strict=True)
                jobs.append(f"{kind.value} {median(wall):.1f} s wall and {median(cpu):.1f} s CPU")
            shutil.rmtree(bench.home)
    lines += ["", f"`dagster job execute` of the refresh job, 30 partitions, nothing changed: {'; '.join(jobs)}."]
    return lines


def _line(kind: FingerprintKind, days: int, found: Mapping[str, Sequence[float]]) -> str:
    same = median([a / b for a, b in zip(found["same"], found["psql"], strict=True)])
    extra = median(
        [(new - psql) / full for new, psql, full in zip(found["new"], found["psql"], found["full"], strict=True)]
    )
    return (
        f"| {kind.value} | {days} | {median(found['full']):.2f} s | {median(found['psql']):.2f} s | "
        f"{median(found['same']):.2f} s, {same:.2f} x | {1000 * median(found['gate']):.0f} ms | "
        f"{median(found['new']):.2f} s | {100 * extra:.0f} % | {median(found['audit']):.2f} s | "
        f"{median(found['files']):.2f} s |"
    )


def main() -> None:
    """Measure, print, and write the section `refresh` of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=RESULTS_ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keep", type=Path, help="a folder for the database, to be used again by the next run")
    options = parser.parse_args()
    with started(options.keep) as (server, scratch):
        record("refresh", "make bench", compare(server, scratch, options.rows, options.rounds))


if __name__ == "__main__":
    main()
