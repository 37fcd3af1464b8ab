"""Processes of the capability store's tests: writers that are killed at a chosen step, or at any time.

They come from the fork server of the store's tests, so that a killed one is replaced at once.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.store.append import compaction, parquet, recovery, tables
from analytics_pipeline.store.append.index import Index
from analytics_pipeline_tests.capabilities.scenario import run
from analytics_pipeline_tests.store.processes import context

_CALLS = ("rename", "fsync", "mkdir", "unlink", "utime")
_STATEMENTS = ("add", "add_columns", "settle", "see", "add_copy", "listed_copies")


def write_runs(root: Path, count: int, order: int) -> None:
    """Write runs one by one, in an order of one's own, and compact now and then."""
    numbers = list(range(count))
    random.Random(order).shuffle(numbers)  # noqa: S311 — an order, no secret
    store = AnalyticsStore(ParquetBackend(root, compact_after=20))
    for number in numbers:
        store.write([run(f"run-{number}", rows=2)])


class Progress:
    """How far a writer is, for whoever reads meanwhile."""

    def __init__(self) -> None:
        self.begun, self.written, self.compacted = (context().Value("q", 0) for _ in range(3))
        self.enough = context().Event()


def write_and_compact(root: Path, progress: Progress) -> None:
    """Write runs one by one, and compact after every second one, until it is enough."""
    backend = ParquetBackend(root, compact_after=10**6)
    while not progress.enough.is_set():
        for _ in range(2):
            progress.begun.value += 1
            AnalyticsStore(backend).write([run(f"meanwhile-{progress.begun.value}")])
            progress.written.value += 1
        backend.tables.compact()
        progress.compacted.value += 1


def die_at(step: int, action: str, root: Path, report: Path) -> None:
    """Run an action, but be killed before the given call that changes something on the disk or in the index.

    The step's name is left in a file, so that a test can tell which it was.
    """
    calls = 0

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == step:
                report.write_text(name)
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return function(*args, **kwargs)

        return call

    for name in _CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    for name in _STATEMENTS:
        setattr(Index, name, counted(name, getattr(Index, name)))
    for module in (parquet, compaction, recovery, tables):
        for name in ("write_file", "merge_files", "fsync_path", "finish_call"):
            if hasattr(module, name):
                setattr(module, name, counted(name, getattr(module, name)))
    _ACTIONS[action](root)


def _write(root: Path) -> None:
    AnalyticsStore(ParquetBackend(root, compact_after=10**6)).write([run("new", rows=2)])


def _compact(root: Path) -> None:
    ParquetBackend(root).tables.compact()


def _rebuild(root: Path) -> None:
    ParquetBackend(root).tables.rebuild_index()


_ACTIONS: dict[str, Callable[[Path], None]] = {"write": _write, "compact": _compact, "rebuild": _rebuild}


def fork_and_use(store: AnalyticsStore, uid: str) -> int:
    """The exit code of a forked child that reads and writes with its parent's store."""
    child = os.fork()
    if child == 0:
        threading.Timer(30, os._exit, [3]).start()  # a session that a fork broke would wait for ever
        try:
            store.write([run(uid)])
            found = store.query_sql("SELECT count(*) FROM example WHERE run_uid = ?".replace("?", f"'{uid}'")).item()
            os._exit(0 if found == 1 else 1)
        except BaseException:  # noqa: BLE001 — nothing may leave this branch
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
