"""A buffer of metrics, for loops that log more often than a disk should be asked to.

Belongs here: when rows are written together, and what becomes of those of a buffer that is not closed. Does not: the
rows (`rows`), writing them (`writing`).
"""

from __future__ import annotations

import atexit
import functools
import logging
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from analytics_pipeline.experiments.rows import Row, checked_name, metric_rows
from analytics_pipeline.experiments.writing import append_rows, lakehouse, prepare
from analytics_pipeline.forks import renew_in_child

logger = logging.getLogger(__name__)


class MetricsBuffer:
    """Metrics of one run that are written together: `with MetricsBuffer("run") as log: log(step, {"loss": 0.1})`.

    A killed process loses what was not written yet: fewer than `rows` rows, and those of the call that it was in; none
    of them is older than `seconds` as long as it goes on logging. Each write takes some milliseconds whatever its size.
    So choose `seconds` by how much of a run may be lost, and `rows` by memory: with the defaults a loop of a thousand
    steps a second spends a thousandth of its time on writing. Where nothing at all may be lost, use `log_metrics`.

    Without `with`, call `flush` at the end. Rows that are left when the buffer is collected, or when Python exits, are
    written then, with a `ResourceWarning`. A forked child writes its own rows only.

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
        self._most, self._seconds = rows, seconds
        self._waiting = _Waiting(checked_name("run_id", run_id), lakehouse(root))
        weakref.finalize(self, _write_collected, self._waiting).atexit = False
        _write_all_at_exit()

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log values of one epoch.

        Raises:
            LoggedValueRefused: a value is no number, or a name is empty; nothing of the call is kept.
            StoreError: see `flush`.
        """
        waiting = self._waiting
        with waiting.guard:
            waiting.add(metric_rows(waiting.run_id, epoch, metrics))
            if len(waiting.rows) >= self._most or time.monotonic() - waiting.since >= self._seconds:
                waiting.write()

    def flush(self) -> None:
        """Write what is there now.

        Raises:
            StoreError: see `AppendTables.append`; the rows stay in the buffer.
        """
        with self._waiting.guard:
            self._waiting.write()

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
            waiting = self._waiting
            logger.exception("%d metrics of %s were not written.", len(waiting.rows), waiting.run_id)


class _Waiting:
    """The rows of a buffer that are not written yet; outlives the buffer until they are.

    Args:
        run_id: of the run.
        root: of the lakehouse.
    """

    def __init__(self, run_id: str, root: Path) -> None:
        self.run_id = run_id
        self._root = root
        self._renew()
        renew_in_child(self, _Waiting._renew)
        _all.add(self)

    def _renew(self) -> None:
        """Begin empty; in a forked child, too: the parent writes its own rows."""
        self.rows: list[Row] = []
        self.since = 0.0
        self.guard = threading.Lock()

    def add(self, rows: list[Row]) -> None:
        """Keep rows for the next write. Needs the guard, as `write` does."""
        if rows and not self.rows:
            prepare()
            self.since = time.monotonic()
            _flush_before_a_worker_ends(self)
        self.rows.extend(rows)

    def write(self) -> None:
        """Write the rows; where that fails, they stay."""
        if self.rows:
            append_rows(self._root, {"metrics": self.rows})
            self.rows = []

    def write_forgotten(self) -> None:
        """Write what is left of a buffer that nobody closed; a failure is logged, with what is lost by it."""
        with self.guard:
            count = len(self.rows)
            try:
                self.write()
            except Exception:
                logger.exception("%d metrics of %s are lost: they could not be written.", count, self.run_id)


_all: weakref.WeakSet[_Waiting] = weakref.WeakSet()


def _write_collected(waiting: _Waiting) -> None:
    """Of a collected buffer: in a thread, for this may be in the middle of a call that holds the table's lock."""
    if count := len(waiting.rows):
        threading.Thread(target=waiting.write_forgotten, name="forgotten-metrics").start()
        _warn(waiting.run_id, count)


@functools.cache
def _write_all_at_exit() -> None:
    """Call `_write_all` as Python exits, before it closes what is open: the last one to ask is called first."""
    atexit.register(_write_all)


def _write_all() -> None:
    forgotten = {waiting: len(waiting.rows) for waiting in list(_all) if waiting.rows}
    for waiting in forgotten:
        waiting.write_forgotten()
    for waiting, count in forgotten.items():
        _warn(waiting.run_id, count)


def _warn(run_id: str, count: int) -> None:
    """Of rows that nobody asked to write; at last, for a warning may be an error."""
    message = (
        f"A MetricsBuffer of the run {run_id!r} still held {count} metrics; they were written all the same. "
        f"Use it in a `with` block, or call flush() at the end."
    )
    logger.warning(message)  # Python does not show a ResourceWarning unless it is asked to
    warnings.warn(message, ResourceWarning, stacklevel=2)


def _flush_before_a_worker_ends(waiting: _Waiting) -> None:
    """Have rows written at the end of a process of `multiprocessing`, which skips what is to be done at exit."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None:
        return
    from multiprocessing.util import Finalize  # noqa: PLC0415 - few programs need it

    Finalize(waiting, _write_all, exitpriority=0)
