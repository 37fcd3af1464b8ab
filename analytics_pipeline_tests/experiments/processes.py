"""Processes that log and may be killed at any time."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from analytics_pipeline.experiments import MetricsBuffer, log_metrics, log_run

EPOCHS_OF_A_RUN = 20
ROWS_OF_A_BUFFER = 5


def run_of(writer: int, number: int) -> str:
    """The run that a writer's call belongs to."""
    return f"w{writer}-{number // EPOCHS_OF_A_RUN}"


def log_from(root: Path, writer: int, begin: int, end: int, acknowledged: Path) -> None:
    """Log one value after the other, and note each call that returned before the next one is made."""
    with acknowledged.open("a") as notes:
        for number in range(begin, end):
            if number % EPOCHS_OF_A_RUN == 0:
                log_run(run_of(writer, number), {"lr": number, f"of_{writer}": writer}, root=root)
            log_metrics(run_of(writer, number), number, {"val_f1": number}, root=root)
            notes.write(f"{number}\n")
            notes.flush()
            os.fsync(notes.fileno())


def buffer_for_ever(root: Path, run_id: str, logged: Path) -> None:
    """Log one value after the other through a buffer, and note each call that returned before the next one is made."""
    with logged.open("a") as notes, MetricsBuffer(run_id, rows=ROWS_OF_A_BUFFER, seconds=3600, root=root) as log:
        for step in itertools.count():
            log(step, {"a": step})
            notes.write(f"{step}\n")
            notes.flush()
