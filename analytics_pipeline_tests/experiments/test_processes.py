"""Many processes log at once, and some are killed: what a call that returned has logged is there once."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.experiments import leaderboard
from analytics_pipeline_tests.experiments.processes import EPOCHS_OF_A_RUN, log_from, run_of
from analytics_pipeline_tests.experiments.scenario import rows
from analytics_pipeline_tests.store.processes import start

PATIENCE = 500


@pytest.mark.parametrize(
    ("writers", "calls", "kills"),
    [pytest.param(3, 40, 4, id="short"), pytest.param(8, 200, 10, id="at length", marks=pytest.mark.slow)],
)
def test_every_acknowledged_row_is_there_once_and_every_file_can_be_read(
    root: Path, tmp_path: Path, writers: int, calls: int, kills: int
) -> None:
    """The page's own code left an unreadable file after 15 appends of each of 4 processes."""
    rng = random.Random(writers)  # noqa: S311 - reproducible on purpose
    notes = [tmp_path / f"writer-{writer}" for writer in range(writers)]
    noted = [-1] * writers
    processes = [start(log_from, root, writer, 0, calls, notes[writer]) for writer in range(writers)]
    deadline, left = time.monotonic() + PATIENCE, kills
    while any(process.exitcode is None for process in processes) or any(done < calls - 1 for done in noted):
        assert time.monotonic() < deadline
        noted = [int(path.read_text().split()[-1]) if path.exists() and path.read_text() else -1 for path in notes]
        alive = [writer for writer, process in enumerate(processes) if process.exitcode is None]
        if left and alive and sum(noted) + writers >= (kills - left + 1) * calls * writers // (kills + 2):
            victim = rng.choice(alive)
            processes[victim].kill()
            processes[victim].join()
            left -= 1
        for writer, process in enumerate(processes):
            if process.exitcode is not None and noted[writer] < calls - 1:
                assert process.exitcode in {0, -signal.SIGKILL}
                done = notes[writer].read_text().split() if notes[writer].exists() else []
                noted[writer] = int(done[-1]) if done else -1
                processes[writer] = start(log_from, root, writer, noted[writer] + 1, calls, notes[writer])
        processes[alive[0] if alive else 0].join(0.02)
    assert left == 0

    wanted = {(run_of(writer, number), number) for writer in range(writers) for number in range(calls)}
    assert_logged_once(root, wanted, at_most=kills)
    assert leaderboard(root=root).height == writers * -(-calls // EPOCHS_OF_A_RUN)


def assert_logged_once(root: Path, wanted: set[tuple[str, int]], at_most: int) -> None:
    """Each of them is in the view once.

    A call that was killed before it could be noted was made again: its row is in the files twice.
    """
    files = sorted(root.glob("metrics/*.parquet"))
    stored: Counter[tuple[str, int]] = Counter()
    for file in files:
        stored.update((row["run_id"], row["epoch"]) for row in pq.read_table(file).to_pylist())
    assert set(stored) == wanted
    assert sum(stored.values()) - len(wanted) <= at_most
    shown = rows(root / "analytics.duckdb", "SELECT run_id, epoch, value FROM metrics")
    assert len(shown) == len(wanted)
    assert {(run_id, epoch) for run_id, epoch, value in shown if value == epoch} == wanted
    with duckdb.connect() as connection:
        every = connection.execute("SELECT count(*) FROM read_parquet(?)", [[str(file) for file in files]]).fetchone()
    assert every == (sum(stored.values()),)
