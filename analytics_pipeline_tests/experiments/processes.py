"""Processes that log and may be killed at any time."""

from __future__ import annotations

import os
from pathlib import Path

from analytics_pipeline.experiments import log_metrics, log_run

EPOCHS_OF_A_RUN = 20


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
