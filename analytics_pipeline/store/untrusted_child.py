"""The process of untrusted queries: reads requests from its standard input, writes rows to its standard output.

Belongs here: its limits, its loop. Does not: starting, pooling and killing it (`untrusted`).

It must not import more than DuckDB, PyArrow and the sandbox: starting it takes time, and what it has imported counts as
its memory. What it receives comes from its own parent; what it sends is JSON and Arrow, which the parent can read
without trust.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa

from analytics_pipeline.errors import QueryFailed, QueryOutOfMemory, StoreError
from analytics_pipeline.store.sandbox import Parameters, Sandbox, SandboxInstance

READY = b"ready"
SIZE = struct.Struct("<QQ")
"""Before each answer: bytes of its JSON head, bytes of its rows."""

_OVERTIME = 1.0
"""Seconds past a query's limit after which the process ends by itself, if its parent did not end it."""


@dataclass(frozen=True)
class Request:
    """One query.

    Args:
        sandbox: what it runs in.
        sql: DuckDB's dialect.
        params: of the query.
        timeout: seconds.
        max_rows: of the answer.
        max_bytes: of the answer.
    """

    sandbox: Sandbox
    sql: str
    params: Parameters
    timeout: float
    max_rows: int | None
    max_bytes: int


def main(memory: int, lifeline: int) -> None:
    """Answer requests until the input ends.

    Args:
        memory: bytes that this process may take beyond what it takes now.
        lifeline: descriptor of a pipe that ends with the parent.
    """
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    _warm_up()
    limit = _limit_memory(memory)
    outgoing.write(READY)
    outgoing.flush()
    instance: SandboxInstance | None = None
    opened: Sandbox | None = None
    while True:
        try:
            request: Request = pickle.load(incoming)  # noqa: S301 - of the parent
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, request.timeout + _OVERTIME)  # SIGALRM ends the process
        head: dict[str, object] = {}
        rows: pa.Buffer | None = None
        try:
            if instance is None or request.sandbox != opened:
                if instance is not None:
                    instance.close()
                instance, opened = None, None
                instance = SandboxInstance(request.sandbox)
                opened = request.sandbox
            rows = _rows(
                instance.query(request.sql, request.params, request.timeout, request.max_rows, request.max_bytes)
            )
        except BaseException as error:  # noqa: BLE001 - every failure is an answer
            head = _failure(error, memory)
        if instance is not None and not request.sandbox.stays_open:
            instance.close()
            instance, opened = None, None
        head["retires"] = _data_size() > limit - memory // 2
        _send(outgoing, head, rows)
        signal.setitimer(signal.ITIMER_REAL, 0)
        rows = None
        if head["retires"]:
            return


def _rows(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _send(outgoing: BinaryIO, head: dict[str, object], rows: pa.Buffer | None) -> None:
    text = json.dumps(head).encode()
    outgoing.write(SIZE.pack(len(text), rows.size if rows is not None else 0))
    outgoing.write(text)
    if rows is not None:
        outgoing.write(memoryview(rows))
    outgoing.flush()


def _failure(error: BaseException, memory: int) -> dict[str, object]:
    cause = error.__cause__ or error
    if isinstance(cause, (MemoryError, duckdb.OutOfMemoryException, pa.ArrowMemoryError)):
        error = QueryOutOfMemory(memory)
    elif not isinstance(error, StoreError):
        error = QueryFailed(f"The query failed: {type(error).__name__}.")
    return {"error": type(error).__name__, "message": str(error)}


def _warm_up() -> None:
    """Have loaded what every query needs, before memory is limited."""
    with duckdb.connect() as connection:
        _rows(connection.sql("SELECT json_serialize_sql('SELECT 1') AS x").to_arrow_table())


def _limit_memory(memory: int) -> int:
    """Limit what the process can take; gives the limit. `RLIMIT_DATA` counts no address space that is only reserved."""
    limit = _data_size() + memory
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # a hard limit below it is a limit, too
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory ends, it is this process that goes
    return limit


def _data_size() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * resource.getpagesize()


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written
    os.kill(os.getpid(), signal.SIGKILL)
