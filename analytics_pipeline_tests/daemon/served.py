"""Dagster as a user has it: `dagster dev` in a working folder, left alone; what it did is read from its storage."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from analytics_pipeline_tests.workplace import Workplace

PATIENCE = 120
_TERMINATE = "mutation Cancel($run: String!) { terminateRun(runId: $run) { __typename } }"


@dataclass(frozen=True)
class Run:
    """A run as Dagster's storage has it."""

    id: str
    job: str
    status: str
    started: float
    ended: float


@contextmanager
def dagster_dev(place: Workplace) -> Iterator[subprocess.Popen[bytes]]:
    """`dagster dev` on a free port, in a process group of its own that ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with (place.folder / "dev.log").open("ab") as log:
        server = subprocess.Popen(
            command, cwd=place.folder, env=place.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            kill_group(server)


def cancel(server: subprocess.Popen[bytes], run_id: str) -> None:
    """Cancel a run as the button in the UI does."""
    assert isinstance(server.args, list)
    body = {"query": _TERMINATE, "variables": {"run": run_id}}
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.args[-1]}/graphql", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:  # noqa: S310 - our own server
        assert b"TerminateRunSuccess" in answer.read()


def kill_group(server: subprocess.Popen[bytes]) -> None:
    """What pulling the plug is: everything that belongs to it dies at once."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def log_tail(place: Workplace) -> str:
    """The end of what `dagster dev` said."""
    return (place.folder / "dev.log").read_text()[-3000:]


def runs(place: Workplace) -> list[Run]:
    """All runs, oldest first."""
    query = "SELECT run_id, pipeline_name, status, start_time, end_time FROM runs ORDER BY id"
    return [Run(id_, job, status, begin or 0, end or 0) for id_, job, status, begin, end in _rows(place, query)]


def ticks(place: Workplace, name: str) -> list[tuple[str, str]]:
    """Status and reason of a schedule's or sensor's ticks, oldest first."""
    database = place.folder / ".dagster" / "storage" / "schedules" / "schedules.db"
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT status, tick_body FROM job_ticks ORDER BY timestamp").fetchall()
    bodies = [json.loads(body) for _, body in found]
    named = zip(found, bodies, strict=True)
    return [(status, body["skip_reason"] or "") for (status, _), body in named if body["job_name"] == name]


def pid_of(place: Workplace, run_id: str) -> int | None:
    """The process of a run, once its events name one."""
    shard = place.folder / ".dagster" / "storage" / "history" / "runs" / f"{run_id}.db"
    if not shard.exists():
        return None
    query = "SELECT event FROM event_logs WHERE dagster_event_type = 'ENGINE_EVENT' ORDER BY id"
    with closing(sqlite3.connect(shard)) as connection:
        found = [event for (event,) in connection.execute(query) if "Started process for run (pid: " in event]
    return int(found[-1].partition("Started process for run (pid: ")[2].partition(")")[0]) if found else None


def wait_for(condition: Callable[[], bool], what: Callable[[], object], seconds: float) -> float:
    """Wait until something holds; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, what()
        time.sleep(0.2)
    return time.monotonic() - began


def _rows(place: Workplace, query: str) -> list[tuple[str, str, str, float | None, float | None]]:
    database: Path = place.folder / ".dagster" / "storage" / "history" / "runs.db"
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # being made, or busy
            return []
