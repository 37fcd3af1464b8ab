"""The run launcher: Dagster's own, which also notices that the process of a run is gone.

Belongs here: the life of a run's process on this machine. Does not: what follows (Dagster's run monitoring).

Dagster's code server notices the death of a run that it started, as long as it lives itself. A run that died together
with it, or was typed into a terminal, would stay "started" until `max_runtime_seconds`, and keep its pool.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType, DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.tags import GRPC_INFO_TAG

PROCESSES = Path("/proc")
_PID = re.compile(r"\(pid: (\d+)\)")
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_START_TICKS = 21
"""Of `/proc/<pid>/stat`, counted from 0: start of the process since boot, in clock ticks."""


class WatchfulRunLauncher(DefaultRunLauncher):
    """Starts runs as Dagster does by default, and tells run monitoring which of them have no process any more."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """That it does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a run lives; a run of another machine counts as living.

        Args:
            run: one that has started and not ended.
        """
        if not self._is_of_this_machine(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it runs on another machine")
        told = self._last_told_process(run)
        if told is None or is_alive(*told):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {told[0]} is gone; the next run heals by itself")

    def _is_of_this_machine(self, run: dg.DagsterRun) -> bool:
        """By its code server's address; a run of a terminal has none, but only this machine sees a SQLite storage."""
        if GRPC_INFO_TAG not in run.tags:
            return isinstance(self._instance.event_log_storage, SqliteEventLogStorage)
        server = json.loads(run.tags[GRPC_INFO_TAG])
        return bool(server.get("socket")) or server.get("host") in _LOCAL

    def _last_told_process(self, run: dg.DagsterRun) -> tuple[int, float] | None:
        """The last process that the run's events name, and the time of that event."""
        events = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        for event in reversed(events):
            if found := _PID.search(event.dagster_event.message or "" if event.dagster_event else ""):
                return int(found[1]), event.timestamp
        return None


def is_alive(pid: int, seen_at: float) -> bool:
    """Whether a process that was there at some time still is; its number may be another's by now.

    Args:
        pid: its number.
        seen_at: the time, in seconds since 1970.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not PROCESSES.is_dir():
        return True
    try:
        fields = (PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    zombie, started = fields[0] == "Z", int(fields[_START_TICKS - 2]) / os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return not zombie and booted + started <= seen_at + 1
