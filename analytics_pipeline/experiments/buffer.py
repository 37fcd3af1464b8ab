"""A buffer of metrics, for loops that log more often than a disk should be asked to.

Belongs here: when rows are written together. Does not: the rows (`rows`), writing them (`writing`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from analytics_pipeline.experiments.rows import Row, checked_name, metric_rows
from analytics_pipeline.experiments.writing import append_rows, lakehouse

logger = logging.getLogger(__name__)


class MetricsBuffer:
    """Metrics of one run that are written together: `with MetricsBuffer("run") as log: log(step, {"loss": 0.1})`.

    A killed process loses what was not written yet: fewer than `rows` rows, and those of the call that it was in; none
    of them is older than `seconds` as long as it goes on logging. Each write takes some milliseconds whatever its size.
    So choose `seconds` by how much of a run may be lost, and `rows` by memory: with the defaults a loop of a thousand
    steps a second spends a thousandth of its time on writing. Where nothing at all may be lost, use `log_metrics`.

    Safe to share between threads.

    Args:
        run_id: of the run.
        rows: at which the buffer is written.
        seconds: after its oldest row at which the next one has it written.
        root: of the lakehouse; that of this home by default.

    Raises:
        LoggedValueRefused: the run's name cannot be one.
    """

    def __init__(
        self, run_id: str, *, rows: int = 10_000, seconds: float = 10.0, root: str | Path | None = None
    ) -> None:
        self._run_id = checked_name("run_id", run_id)
        self._most, self._seconds = rows, seconds
        self._root = lakehouse(root)
        self._rows: list[Row] = []
        self._since = 0.0
        self._guard = threading.Lock()

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log values of one epoch.

        Raises:
            LoggedValueRefused: a value is no number, or a name is empty; nothing of the call is kept.
            StoreError: see `flush`.
        """
        with self._guard:
            rows = metric_rows(self._run_id, epoch, metrics)
            if not self._rows:
                self._since = time.monotonic()
            self._rows.extend(rows)
            if len(self._rows) >= self._most or time.monotonic() - self._since >= self._seconds:
                self._write()

    def flush(self) -> None:
        """Write what is there now.

        Raises:
            StoreError: see `AppendTables.append`; the rows stay in the buffer.
        """
        with self._guard:
            self._write()

    def _write(self) -> None:
        if self._rows:
            append_rows(self._root, {"metrics": self._rows})
            self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Write the rest, also of a loop that failed."""
        try:
            self.flush()
        except Exception:
            if error is None:
                raise
            logger.exception("%d metrics of %s were not written.", len(self._rows), self._run_id)
