"""Cases of 500,000 joined rows (50,000 cases, 10 metrics, JSON signals), beside plain Python row by row.

The rows lie in a store, in 30 daily partitions, as a sync leaves them. Each round makes all cases and commits them,
then changes one case in one partition and brings the cases up to date. Plain Python is the tests' oracle, over the same
rows. Every run is a process of its own; processor time stands beside the clock's.
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
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
from harness import median, record

from analytics_pipeline.human_signals.derivation import CasesDerivation
from analytics_pipeline.store import Change, JoinView, Partition, Stage, Store, TableChange, create_store, open_store
from analytics_pipeline_tests.human_signals.oracle import answer

CASES, METRICS, DAYS, ROUNDS = 50_000, 10, 30, 3
SECONDS, MEGABYTES, SHARE = 20, 2_048, 10
Work = Callable[[], object]
VIEW = JoinView("hs_data", "hs_results", "hs_dataset", "dataset_id", "dataset", "inner")
RESULTS = """
SELECT 'case-' || i // {metrics} AS dataset_id,
       TIMESTAMPTZ '2026-01-01' + INTERVAL 1 second * (i * 86400 * {days} // ({cases} * {metrics})) AS timestamp,
       'metric_' || i % {metrics} AS metric_name, CASE i % 3 WHEN 0 THEN 'SCORE' WHEN 1 THEN 'ANALYSIS' END
       AS metric_category,
       json_merge_patch(
           json_object('tenant', 'tenant-' || i // {metrics} % 7, 'value', i * 7919 % 5, 'label', 'label-' || i % 3,
                       'ok', i % 2 = 0, 'share', (i * 31 % 97) / 97, 'tags', ['tag-' || i % 5, 'tag-' || i % 4]),
           CASE i % {metrics} WHEN 3 THEN '{{"checks": {{"opening": [{{"name": "greeted", "value": true}}]}}}}'
                              ELSE '{{}}' END
       )::VARCHAR AS signals
FROM range({cases} * {metrics}) AS t(i)
"""
RECORDS = """
SELECT 'case-' || i AS dataset_id, TIMESTAMPTZ '2026-01-01' + INTERVAL 1 second * (i * 86400 * {days} // {cases})
       AS timestamp, 'bot-' || i % 3 AS source_name, 'triage' AS source_component, 'slack' AS source_type,
       'production' AS environment,
       json_object('messages', [
           {{'role': 'user', 'content': 'New billing case: Firm ' || i % 900 || chr(10) || repeat('Hello. ', 40)}},
           {{'role': 'assistant', 'content': repeat('We look into it, please wait. ', 20)}}
       ])::VARCHAR AS conversation,
       json_object('turn_count', 2 + i % 5)::VARCHAR AS conversation_stats,
       json_object('message_url', 'https://chat.example.com/' || i, 'sender', 'Ann')::VARCHAR AS additional_input
FROM range({cases}) AS t(i)
"""


def filled(root: Path, cases: int) -> Store:
    """A store with the two halves of a dataset."""
    store = create_store(root)
    with store.stage("fill") as stage, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        tables = []
        for name, query in (("hs_results", RESULTS), ("hs_dataset", RECORDS)):
            frame = connection.sql(query.format(cases=cases, metrics=METRICS, days=DAYS)).pl()
            tables.append(_table(stage, name, frame))
        store.commit(stage, Change(tables, [VIEW]))
    return store


def _table(stage: Stage, name: str, frame: pl.DataFrame) -> TableChange:
    parts = frame.with_columns(pl.col("timestamp").dt.strftime("%F").alias("day")).partition_by("day", as_dict=True)
    writer = stage.writer(name, frame.to_arrow().schema)
    for (day,), rows in parts.items():
        for batch in rows.drop("day").to_arrow().to_batches():
            writer.write(str(day), batch)
    now = datetime.now(UTC)
    made = [
        Partition(key, None, None, tuple(files), None, "", stage.sync_id, now) for key, files in writer.close().items()
    ]
    return TableChange(name, writer.columns, made)


def all_cases(store: Store, stage: Stage) -> Work:
    """All cases, and their commit."""
    return lambda: _derived(store, stage, [])


def one_case(store: Store, stage: Stage) -> Work:
    """One case of one partition, which is staged; the rest of its refresh."""
    rows = store.query("SELECT * FROM hs_results WHERE timestamp::DATE = DATE '2026-01-16' ORDER BY timestamp")
    changed = pl.when(pl.int_range(pl.len()) == 100).then(pl.lit('{"tenant": "x", "value": 4}')).otherwise("signals")
    table = _table(stage, "hs_results", rows.with_columns(changed.alias("signals")))
    return lambda: _derived(store, stage, [table])


def _derived(store: Store, stage: Stage, tables: Sequence[TableChange]) -> None:
    change = Change(tables, [VIEW])
    derived = CasesDerivation("hs", None, (), lambda line: print(line, file=sys.stderr)).derive(
        store, stage, change, VIEW, stage.sync_id
    )
    store.commit(stage, Change([*tables, *derived.tables], [VIEW], derived.metadata))


def row_by_row(store: Store, _: Stage) -> Work:
    """The same cases in plain Python, from rows that are at hand."""
    frame = store.query("SELECT * FROM hs_data ORDER BY dataset_id, timestamp")
    rows = frame.to_dicts()

    return lambda: answer(rows, frame.columns)


WORK: Mapping[str, Callable[[Store, Stage], Work]] = {"all": all_cases, "one": one_case, "rows": row_by_row}


def measure(name: str, root: Path) -> None:
    """In a process of its own: do one thing, and print what it took."""
    store = open_store(root)
    with store.stage(name) as stage:
        work = WORK[name](store, stage)
        began, used = time.perf_counter(), time.process_time()
        work()
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "peak_mb": peak}))


def measured(name: str, root: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--work", name, str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def compare(cases: int, rounds: int) -> list[str]:
    """The table of the page."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WORK}
    try:
        filled(folder / "raw", cases).close()
        for number in range(rounds):
            shutil.copytree(folder / "raw", folder / "store")
            for name in ("all", "one", *(["rows"] if number == 0 else [])):
                found[name].append(measured(name, folder / "store"))
            shutil.rmtree(folder / "store")
    finally:
        shutil.rmtree(folder)
    shares = [one["seconds"] / whole["seconds"] for one, whole in zip(found["one"], found["all"], strict=True)]
    size = f"{cases * METRICS:,} rows of {cases:,} cases and {METRICS} metrics; {rounds} rounds"
    goal = f"all cases in {SECONDS} s and {MEGABYTES:,} MB, one changed case in {SHARE} % of that"
    return [
        f"{size}. Asked for: {goal}.",
        "",
        "| what | median | processor time | highest memory |",
        "|---|---:|---:|---:|",
        _line("all cases, with their commit", found["all"]),
        _line("one changed case, with its commit", found["one"]),
        _line("all cases in plain Python, row by row, nothing written; once", found["rows"]),
        f"| one changed case of all, within a round | {100 * median(shares):.1f} % | | |",
    ]


def _line(what: str, runs: Sequence[Mapping[str, float]]) -> str:
    seconds, processor = (median([run[key] for run in runs]) for key in ("seconds", "processor"))
    return f"| {what} | {seconds:.2f} s | {processor:.2f} s | {max(run['peak_mb'] for run in runs):,.0f} MB |"


def main() -> None:
    """Measure, print, and write the section `human-signals` of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs=2, metavar=("WHAT", "STORE"), help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="print, and leave the page as it is")
    options = parser.parse_args()
    if options.work:
        measure(options.work[0], Path(options.work[1]))
        return
    lines = compare(options.cases, options.rounds)
    if options.dry:
        print("\n".join(lines))
    else:
        record("human-signals", "make bench", lines)


if __name__ == "__main__":
    main()
