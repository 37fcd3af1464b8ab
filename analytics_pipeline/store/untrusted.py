"""Untrusted queries: run in a process of their own, which is killed at its limit of time and held by one of memory.

Belongs here: starting, pooling and killing those processes. Does not: what they do (`untrusted_child`), or what a query
may hold (`query_check`).

DuckDB's own limits do not suffice: some functions cannot be interrupted, and take memory that it does not count. A
process is started before it is needed and used for one query after the other, so that a query costs little more than in
this process. It gets no environment, no descriptor but its pipes, and ends with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from analytics_pipeline import errors
from analytics_pipeline.errors import QueryCrashed, QueryFailed, QueryTimedOut, StoreError
from analytics_pipeline.forks import renew_in_child
from analytics_pipeline.store.sandbox import Parameters, Sandbox, checked_timeout, remove_leavings
from analytics_pipeline.store.untrusted_child import READY, SIZE, Request

MEMORY = 1 << 30
"""Bytes that the process of an untrusted query may take, beyond what it takes when it starts."""
MAX_RESULT_BYTES = 64 << 20
MOST_AT_ONCE = 4
"""Processes that run queries at once; further queries wait, and their wait counts as time."""

_DUCKDB_MEMORY = "512MB"
_MAX_SPILL = "1GB"
_MOST_THREADS = 4
_MOST_IDLE = 2
_START_SECONDS = 60.0
_GRACE = 0.1
"""Seconds after its limit in which a query may still end by itself, so that its process can be kept."""
_MOST_HEAD = 1 << 20
_ARROW_OVERHEAD = 1 << 20

_START = """
import sys, types
path, folder, memory, lifeline = sys.argv[1:]
sys.path[:] = path.split(chr(0x1f))
package = types.ModuleType("analytics_pipeline.store")  # without all that the store imports
package.__path__ = [folder]
sys.modules[package.__name__] = package
from analytics_pipeline.store.untrusted_child import main
main(int(memory), int(lifeline))
"""


def query_in_child(sandbox: Sandbox, sql: str, params: Parameters, timeout: float, max_rows: int | None) -> pa.Table:
    """The rows of one SELECT, run in another process.

    Args:
        sandbox: what it may see.
        sql: DuckDB's dialect.
        params: for `?` (a sequence) or `$name` (a mapping).
        timeout: seconds after which the process is killed.
        max_rows: more than these are refused.

    Raises:
        QueryRefused, QueryFailed, QueryTimedOut, TooManyRows: see `SandboxInstance.query`.
        ResultTooLarge: its rows take more than `MAX_RESULT_BYTES`.
        QueryOutOfMemory: it needs more memory than its process may take.
        QueryCrashed: its process ended.
    """
    checked_timeout(timeout)
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    confined = replace(sandbox, memory_limit=_DUCKDB_MEMORY, max_spill=_MAX_SPILL, threads=threads)
    request = Request(confined, sql, params, timeout, max_rows, MAX_RESULT_BYTES)
    try:
        message = pickle.dumps(request)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise QueryFailed(f"A parameter cannot be sent to another process: {error}") from error
    with _pool.child(confined, timeout) as child:
        return child.ask(message, timeout)


def prestart() -> None:
    """Start a process for the first untrusted query, without waiting for it."""
    _pool.prestart()


class _Child:
    """A process that runs one query after the other."""

    def __init__(self) -> None:
        self.sandbox: Sandbox | None = None
        self.is_usable = True
        self._is_ready = False
        lifeline, self._lifeline = os.pipe()
        folder = str(Path(__file__).parent)
        arguments = ["\x1f".join(sys.path), folder, str(MEMORY), str(lifeline)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                pass_fds=(lifeline,),
                start_new_session=True,  # Ctrl-C ends the query in the parent, which ends this process
                bufsize=0,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)

    def wait_until_ready(self) -> None:
        """Wait for its start, which is no part of a query's time."""
        if self._is_ready:
            return
        with self._ended_if_interrupted():
            try:
                found = self._read(len(READY), time.monotonic() + _START_SECONDS)
            except TimeoutError:
                found = b""
            if found != READY:
                self.is_usable = False
                raise QueryCrashed("it did not start")
            self._is_ready = True

    def ask(self, message: bytes, timeout: float) -> pa.Table:
        """Run one query; whatever goes wrong with the process ends it."""
        deadline = time.monotonic() + timeout + _GRACE
        with self._ended_if_interrupted():
            try:
                self._write(message)
                head, rows = self._answer(deadline)
            except TimeoutError:
                self.is_usable = False
                raise QueryTimedOut(timeout) from None
            except (EOFError, BrokenPipeError):
                self.is_usable = False
                raise QueryCrashed(self._how_it_ended()) from None
        self.is_usable = not head["retires"]
        if "error" in head:
            raise _error_of(head)
        table = pa.ipc.open_stream(rows).read_all()
        table.validate()
        return table

    def end(self) -> None:
        """Kill it, and remove what it spilled."""
        self.is_usable = False
        self._process.kill()
        self.let_go()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_START_SECONDS)
        remove_leavings()

    def let_go(self) -> None:
        """Close the pipes; the process ends when nobody else holds them."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._lifeline = -1

    def _answer(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        head_size, rows_size = SIZE.unpack(self._read(SIZE.size, deadline))
        if head_size > _MOST_HEAD or rows_size > MAX_RESULT_BYTES + _ARROW_OVERHEAD:
            raise EOFError
        head: dict[str, Any] = json.loads(self._read(head_size, deadline))
        return head, self._read(rows_size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        found = bytearray()
        while len(found) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            data = os.read(descriptor, min(size - len(found), 1 << 20))
            if not data:
                raise EOFError
            found += data
        return bytes(found)

    def _write(self, message: bytes) -> None:
        assert self._process.stdin is not None
        view = memoryview(message)
        while view:
            view = view[self._process.stdin.write(view) or 0 :]

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1)
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        return "it gave no valid answer"

    @contextmanager
    def _ended_if_interrupted(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            raise
        except BaseException:  # Ctrl-C: nobody waits for the answer
            self.is_usable = False
            raise


class _Pool:
    """Processes for untrusted queries of this process."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._guard = threading.Lock()
        self._slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()

    @contextmanager
    def child(self, sandbox: Sandbox, timeout: float) -> Iterator[_Child]:
        """A process for one query, preferably one that has the sandbox open already."""
        if not self._slots.acquire(timeout=timeout):
            raise QueryTimedOut(timeout)
        try:
            child = self._taken(sandbox)
            try:
                child.wait_until_ready()
                child.sandbox = sandbox if sandbox.stays_open else None
                yield child
            finally:
                self._give_back(child)
        finally:
            self._slots.release()

    def prestart(self) -> None:
        """Start a process, if none is idle."""
        with self._guard:
            if not self._idle:
                self._idle.append(_Child())

    def end(self) -> None:
        """Kill all processes."""
        with self._guard:
            children = [*self._idle, *self._busy]
            self._idle.clear()
        for child in children:
            child.end()

    def forget(self) -> None:
        """After a fork: the processes are the parent's, and must not outlive it because of this one."""
        for child in (*self._idle, *self._busy):
            child.let_go()
        self._begin()

    def _taken(self, sandbox: Sandbox) -> _Child:
        with self._guard:
            found = min(
                self._idle, key=lambda child: (child.sandbox != sandbox, child.sandbox is not None), default=None
            )
            if found is not None:
                self._idle.remove(found)
            child = found or _Child()
            self._busy.add(child)
            return child

    def _give_back(self, child: _Child) -> None:
        with self._guard:
            self._busy.discard(child)
            is_kept = child.is_usable and len(self._idle) < _MOST_IDLE
            if is_kept:
                self._idle.append(child)
        if not is_kept:
            child.end()
            self.prestart()


def _environment() -> dict[str, str]:
    return {
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "LC_ALL": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",
        "TMPDIR": tempfile.gettempdir(),
        "TZ": "UTC",
    }


def _error_of(head: dict[str, Any]) -> StoreError:
    """The error that the process met, by its name; its constructor's arguments stand in its message already."""
    kind = getattr(errors, str(head["error"]), None)
    if not (isinstance(kind, type) and issubclass(kind, StoreError)):
        kind = QueryFailed
    error = kind.__new__(kind)
    error.args = (str(head["message"]),)
    return error


_pool = _Pool()
renew_in_child(_pool, _Pool.forget)
atexit.register(_pool.end)
