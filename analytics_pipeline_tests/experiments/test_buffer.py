"""The buffer of metrics: when it writes, and what a killed process loses."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import LakehouseUnusable
from analytics_pipeline.experiments import MetricsBuffer, log_metrics, metric_trend
from analytics_pipeline.experiments import buffer as buffers
from analytics_pipeline_tests.experiments.processes import ROWS_OF_A_BUFFER, buffer_for_ever
from analytics_pipeline_tests.experiments.scenario import rows
from analytics_pipeline_tests.store.processes import start

PATIENCE = 60


def files(root: Path) -> list[Path]:
    return sorted(root.glob("metrics/*.parquet"))


def test_a_buffer_writes_when_it_is_full_and_in_the_end(root: Path) -> None:
    with MetricsBuffer("r", rows=4, seconds=3600, root=root) as log:
        log(1, {"a": 1, "b": 2})
        assert not files(root)
        log(2, {"a": 1, "b": 2})
        assert len(files(root)) == 1
        log(3, {"a": 1, "b": 2})

    assert len(files(root)) == 2
    assert metric_trend("r", root=root).height == 6


def test_a_buffer_writes_when_its_oldest_row_is_too_old(root: Path) -> None:
    """However often the loop logs: a rule that began anew with each row would never write."""
    least = 0.3
    with MetricsBuffer("r", rows=10**9, seconds=least, root=root) as log:
        for written in (1, 2):
            begin, step = time.monotonic(), 0
            while len(files(root)) < written:
                assert time.monotonic() < begin + PATIENCE
                log(step, {"a": 1})
                step += 1
                time.sleep(0.005)
            assert time.monotonic() - begin >= least

        assert len(files(root)) == 2


def test_a_buffer_that_could_not_write_keeps_its_rows(root: Path) -> None:
    root.parent.mkdir(parents=True)
    root.write_text("in the way")
    with MetricsBuffer("r", rows=2, seconds=3600, root=root) as log:
        log(1, {"a": 1})
        with pytest.raises(LakehouseUnusable):
            log(2, {"a": 2})
        root.unlink()

    assert metric_trend("r", root=root).rows() == [(1, "a", 1.0), (2, "a", 2.0)]


def test_a_killed_process_loses_at_most_what_its_buffer_had_not_written(root: Path, tmp_path: Path) -> None:
    for kill in range(6):
        run_id, notes = f"r{kill}", tmp_path / f"noted-{kill}"
        process = start(buffer_for_ever, root, run_id, notes)
        deadline = time.monotonic() + PATIENCE
        while last_of(notes) < 3 * ROWS_OF_A_BUFFER + 2 * kill:
            assert time.monotonic() < deadline
            assert process.exitcode is None
            process.join(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL

        stored = [epoch for epoch, _, _ in metric_trend(run_id, root=root).iter_rows()]
        assert stored == list(range(len(stored)))
        assert len(stored) % ROWS_OF_A_BUFFER == 0
        assert last_of(notes) + 1 - len(stored) < ROWS_OF_A_BUFFER
    assert sum(pq.read_table(file).num_rows for file in files(root)) % ROWS_OF_A_BUFFER == 0
    log_metrics("later", 1, {"a": 1}, root=root)
    assert rows(root / "analytics.duckdb", "SELECT count(DISTINCT run_id) FROM metrics") == [(7,)]


def last_of(notes: Path) -> int:
    """The last step that a process noted; -1 before the first."""
    done = notes.read_text().rpartition("\n")[0] if notes.exists() else ""
    return int(done.rpartition("\n")[2] or -1)


def test_a_loop_that_fails_keeps_its_metrics_and_its_error(root: Path) -> None:
    def train() -> None:
        with MetricsBuffer("r", root=root) as log:
            log(1, {"a": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert metric_trend("r", root=root).height == 1


WITHOUT_WITH = """
import sys
from analytics_pipeline.experiments import MetricsBuffer
log = MetricsBuffer("the run", root=sys.argv[1])
for step in range(50): log(step, {"val_f1": step / 50})
"""
IN_A_NOTEBOOK = f"""
import code, sys
cells = code.InteractiveConsole()
cells.runsource({WITHOUT_WITH!r}, symbol="exec")
sys.exit()
"""
IN_A_WORKER = f"""
import multiprocessing
def work(): exec({WITHOUT_WITH!r}, globals())
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
"""


@pytest.mark.parametrize("program", [WITHOUT_WITH, IN_A_NOTEBOOK, IN_A_WORKER], ids=["script", "notebook", "worker"])
def test_a_buffer_without_with_is_written_as_its_process_ends_and_warned_of(root: Path, program: str) -> None:
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", program, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)

    assert metric_trend("the run", root=root).height == 50
    assert "ResourceWarning: A MetricsBuffer of the run 'the run' still held 50 metrics" in done.stderr


def test_a_buffer_that_is_collected_is_written_and_warned_of(root: Path) -> None:
    log = MetricsBuffer("the run", root=root)
    log(1, {"a": 1})
    with pytest.warns(ResourceWarning, match="'the run' still held 1 metrics"):
        del log
    for thread in threading.enumerate():
        if thread.name == "forgotten-metrics":
            thread.join()

    assert metric_trend("the run", root=root).height == 1


def test_a_buffer_that_was_flushed_is_not_warned_of(root: Path, recwarn: pytest.WarningsRecorder) -> None:
    log = MetricsBuffer("r", root=root)
    log(1, {"a": 1})
    log.flush()
    del log

    assert not recwarn.list


def test_metrics_that_nobody_wrote_and_that_cannot_be_written_are_named(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root.parent.mkdir(parents=True)
    root.write_text("in the way")
    log = MetricsBuffer("the run", root=root)
    log(1, {"a": 1})
    with pytest.warns(ResourceWarning):
        buffers._write_all()
    root.unlink()
    log.flush()

    assert "1 metrics of the run are lost" in caplog.text
