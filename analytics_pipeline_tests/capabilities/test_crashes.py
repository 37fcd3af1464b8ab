"""A writer may die between any two steps: a run is stored whole or not at all, and the next one cleans up."""

from __future__ import annotations

import random
import signal
import time
from datetime import timedelta
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline_tests.capabilities.processes import die_at, fork_and_use, write_runs
from analytics_pipeline_tests.capabilities.scenario import files_below, run, uids
from analytics_pipeline_tests.store.processes import start

WITHOUT_RUNS = "SELECT count(*) FROM example e ANTI JOIN runs r ON e.run_uid = r.run_uid"


def dies(step: int, action: str, root: Path) -> str | None:
    """The step that the action was killed before; None where it has fewer."""
    report = root.with_name("step")
    report.unlink(missing_ok=True)
    process = start(die_at, step, action, root, report)
    process.join(60)
    assert process.exitcode in {0, -signal.SIGKILL}
    return report.read_text() if process.exitcode else None


def assert_whole(root: Path, *expected: list[str]) -> None:
    """The store holds one of some lists of rows, with all rows of `runs`, and every file can be read."""
    store = AnalyticsStore(ParquetBackend(root))
    assert uids(store) in expected
    assert store.query_sql(WITHOUT_RUNS).item() == 0
    assert store.query_sql("SELECT count(*) FROM runs").item() == 3 * len(set(uids(store)))
    assert sum(pq.read_metadata(root / name).num_rows for name in files_below(root) if "example" in name) == len(
        uids(store)
    )


def assert_nothing_is_left(root: Path) -> None:
    """After a sweep no draft lies about, and no copy that the index does not list."""
    backend = ParquetBackend(root)
    backend.tables.sweep(grace=timedelta(0))
    listed = {name for files in backend.tables.snapshot().values() for name in files.copies}
    assert not list((root / ".staging").iterdir())
    compacted = root / ".compacted"
    assert {path.name for path in compacted.iterdir()} == listed if compacted.is_dir() else not listed


@pytest.mark.parametrize(
    ("existing", "stride"),
    [("nothing", 4), *(pytest.param(what, 1, marks=pytest.mark.slow) for what in ("nothing", "the table"))],
)
def test_a_writer_killed_at_any_step_leaves_the_run_whole_or_not_at_all(
    tmp_path: Path, existing: str, stride: int
) -> None:
    """An out-of-memory kill must not need a person to repair the store, nor lose what the next write brings again."""
    steps = []
    for step in count(0, stride):
        root = tmp_path / str(step) / "capabilities"
        root.parent.mkdir()
        before = [] if existing == "nothing" else ["old"]
        if before:
            AnalyticsStore(ParquetBackend(root)).write([run("old")])
        died = dies(step, "write", root)
        if died is None:
            break
        steps.append(died)
        if files_below(root):
            assert_whole(root, before, sorted([*before, "new", "new"]))
        AnalyticsStore(ParquetBackend(root)).write([run("new", rows=2)])
        assert_whole(root, sorted([*before, "new", "new"]))
        assert_nothing_is_left(root)
    assert len(steps) > 3
    if stride == 1:
        assert {"write_file", "add", "finish_call", "rename", "settle", "see"} <= set(steps)


@pytest.mark.parametrize("action", ["compact", pytest.param("rebuild", marks=pytest.mark.slow)])
def test_maintenance_killed_at_any_step_changes_no_answer(tmp_path: Path, action: str) -> None:
    """It only ever touches what can be made anew."""
    steps = []
    for step in count():
        root = tmp_path / str(step) / "capabilities"
        store = AnalyticsStore(ParquetBackend(root, compact_after=3))
        for number in range(4):
            store.write([run(f"run-{number}")])
        died = dies(step, action, root)
        if died is None:
            break
        steps.append(died)
        assert_whole(root, [f"run-{number}" for number in range(4)])
        store.write([run("run-1"), run("run-4")])
        assert_whole(root, [f"run-{number}" for number in range(5)])
        ParquetBackend(root).tables.compact()
        assert_whole(root, [f"run-{number}" for number in range(5)])
        assert_nothing_is_left(root)
    assert steps


def test_a_call_whose_drafts_a_power_cut_took_is_forgotten_whole(tmp_path: Path) -> None:
    """It was never acknowledged; the same runs can be written again."""
    root = tmp_path / "capabilities"
    AnalyticsStore(ParquetBackend(root)).write([run("old")])
    step = next(step for step in count() if dies(step, "write", root) == "finish_call")
    assert step
    drafts = sorted((root / ".staging").iterdir())
    assert len(drafts) == 2
    drafts[0].unlink()
    assert_whole(root, ["old"])
    AnalyticsStore(ParquetBackend(root)).write([run("new")])
    assert_whole(root, ["new", "old"])
    assert_nothing_is_left(root)


def kill_writers(root: Path, writers: int, runs: int, kills: int, first: int) -> None:
    """Let processes write the same runs, kill some at random times, each replaced by another, until all end."""
    chance = random.Random(first)  # noqa: S311 — times of deaths, no secrets
    processes = [start(write_runs, root, runs, first + number) for number in range(writers)]
    for number in range(kills):
        time.sleep(chance.uniform(0.05, 0.6))
        victim = chance.randrange(writers)
        processes[victim].kill()
        processes[victim].join()
        processes[victim] = start(write_runs, root, runs, first + 100 + number)
    for process in processes:
        process.join(900)
    assert [process.exitcode for process in processes] == [0] * writers


@pytest.mark.parametrize(("writers", "runs", "kills"), [(3, 60, 5), pytest.param(8, 500, 25, marks=pytest.mark.slow)])
def test_writers_of_the_same_runs_that_are_killed_store_each_run_once(
    tmp_path: Path, writers: int, runs: int, kills: int
) -> None:
    """No torn file, no row twice, no run without its rows of runs: for query_sql, and for whoever reads the folder."""
    root = tmp_path / "capabilities"
    kill_writers(root, writers, runs, kills, first=7)
    ParquetBackend(root).tables.sweep()
    expected = sorted(f"run-{number}" for number in range(runs) for _ in range(2))
    assert_whole(root, expected)
    for name in files_below(root):
        pq.read_table(root / name)
    assert_nothing_is_left(root)


def test_a_forked_child_uses_its_parents_store(tmp_path: Path) -> None:
    """Workers are forked from a notebook that has queried; neither DuckDB nor SQLite survives a fork by itself."""
    store = AnalyticsStore(ParquetBackend(tmp_path / "capabilities"))
    store.write([run("parent")])
    assert uids(store) == ["parent"]
    assert fork_and_use(store, "child") == 0
    store.write([run("later")])
    assert uids(store) == ["child", "later", "parent"]
