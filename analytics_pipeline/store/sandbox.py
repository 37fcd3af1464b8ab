"""The sandbox: a DuckDB instance in which one SELECT can be run, without a way to a file, a network or a setting.

Belongs here: what a sandbox holds, its limits of time, memory and rows. Does not: what may be asked (`query_check`),
data frames (`sealed`), or other processes (`untrusted`). The process of an untrusted query imports this module and
little else, so it needs neither Polars nor the rest of the store.

Two fences, each enough for most attempts: `query_check` checks the query's syntax tree, and the instance may open
nothing but the files that it was made for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa

from analytics_pipeline.errors import QueryFailed, QueryRefused, QueryTimedOut, ResultTooLarge, TooManyRows
from analytics_pipeline.store.query_check import checked_select
from analytics_pipeline.store.schema import file_literal, identifier, literal
from analytics_pipeline.waiting import join

Parameter: TypeAlias = "bool | int | float | str | bytes | datetime | date | Decimal | None"
Parameters: TypeAlias = "Sequence[Parameter] | Mapping[str, Parameter] | None"
Prepare: TypeAlias = "Callable[[duckdb.DuckDBPyConnection, Path], Sequence[str]]"
"""Gives the statements that make what can be queried, from a connection to try them on and a folder of the sandbox."""

DEFAULT_MEMORY = "2GB"
MAX_RESULT_BYTES = 1 << 30
"""Of one answer; DuckDB's own limit does not count the rows that leave it."""

_FOLDER = "analytics-query-"
_BATCH_ROWS = 122_880
_INTERRUPT_AGAIN = 0.05
"""Seconds between interrupts: DuckDB forgets one that comes before the query runs."""


@dataclass(frozen=True)
class Sandbox:
    """What a sandbox holds, to be made in any process.

    Args:
        root: of everything that it may open; no message shows it.
        statements: that make what can be queried.
        files: paths that it can open.
        folders: below which it can open every file.
        database: attached by a statement, whose tables go by their plain names; None for the instance's own.
        per_query: a statement that runs before each query, for what does not outlive a cursor.
        memory_limit: for all queries together, as DuckDB spells it.
        max_spill: bytes on disk that queries may take, as DuckDB spells it.
        threads: of DuckDB; None for its own choice.
        stays_open: whether a process that runs untrusted queries keeps the instance for the next one.
    """

    root: str
    statements: tuple[str, ...]
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    database: str | None = None
    per_query: str | None = None
    memory_limit: str = DEFAULT_MEMORY
    max_spill: str = "16GB"
    threads: int | None = None
    stays_open: bool = True


class SandboxInstance:
    """A DuckDB instance that was prepared and then shut; every query takes a cursor of its own.

    Args:
        sandbox: what it holds; its statements are those of `prepare`, where there is one.
        prepare: makes the statements, where they depend on a folder that lives as long as the instance.
    """

    def __init__(self, sandbox: Sandbox, prepare: Prepare | None = None) -> None:
        remove_leavings()
        folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        self._remove_folder = weakref.finalize(self, _remove_of, os.getpid(), folder)
        self._sandbox = sandbox
        self._hidden = (str(folder), sandbox.root)
        self.connection = duckdb.connect(config={"python_enable_replacements": "false"})
        try:
            self.statements = tuple(prepare(self.connection, folder)) if prepare else sandbox.statements
            self._shut(folder)
        except BaseException:
            self.close()
            raise

    def _shut(self, folder: Path) -> None:
        threads = self._sandbox.threads
        for statement in (
            *([f"SET threads = {threads}"] if threads else []),
            *self.statements,
            "SET GLOBAL TimeZone = 'UTC'",
            f"SET memory_limit = {literal(self._sandbox.memory_limit)}",
            f"SET temp_directory = {literal(str(folder / 'spill'))}",
            f"SET max_temp_directory_size = {literal(self._sandbox.max_spill)}",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            f"SET allowed_paths = [{_spelled(self._sandbox.files)}]",
            f"SET allowed_directories = [{_spelled(self._sandbox.folders)}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self.connection.execute(statement)

    def close(self) -> None:
        """Close the instance; running queries of other threads fail."""
        self.connection.close()
        self._remove_folder()

    def query(
        self, sql: str, params: Parameters, timeout: float, max_rows: int | None, max_bytes: int | None = None
    ) -> pa.Table:
        """The rows of one SELECT.

        Args:
            sql: DuckDB's dialect.
            params: for `?` (a sequence) or `$name` (a mapping).
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused; None for as many as fit.
            max_bytes: of the rows; `MAX_RESULT_BYTES` where it is None.

        Raises:
            QueryRefused: it is anything else than one SELECT over what was prepared.
            QueryFailed: DuckDB could not run it.
            QueryTimedOut: it ran longer than `timeout` seconds.
            ResultTooLarge: its rows take more than `max_bytes`.
            TooManyRows: it has more than `max_rows`.
        """
        checked_timeout(timeout)
        with self.connection.cursor() as cursor:
            if self._sandbox.database is not None:
                cursor.execute(f"USE {identifier(self._sandbox.database)}")  # not inherited by a cursor
            if self._sandbox.per_query is not None:
                cursor.execute(self._sandbox.per_query)
            with self._without_paths():
                query = checked_select(cursor, sql)
                with _time_limit(cursor, timeout):
                    return _run(cursor, query, params, max_rows, max_bytes or MAX_RESULT_BYTES)

    @contextmanager
    def _without_paths(self) -> Iterator[None]:
        """Keep the folders of this machine out of what a failed query shows."""
        try:
            yield
        except (QueryFailed, QueryRefused) as error:
            message = str(error)
            for hidden in self._hidden:
                message = message.replace(f"{hidden}/", "").replace(hidden, "…")
            error.args = (message,)
            raise


def checked_timeout(seconds: float) -> None:
    """Refuse a time limit that no clock can measure.

    Raises:
        QueryRefused: it is negative, not a number, or too large.
    """
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise QueryRefused(f"a timeout of {seconds} seconds")


def remove_leavings() -> None:
    """Remove the folders of processes that were killed: what they spilled may be large."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _spelled(paths: Iterable[str]) -> str:
    """Paths in both ways in which views give them: DuckDB compares the words, not what they mean."""
    return ", ".join(sorted({spelling(path) for path in paths for spelling in (literal, file_literal)}))


def _remove_of(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a fork ends its finalizers, too
        shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # a number that is too large for a process
        return False
    except OSError:
        return True
    return True


def _run(
    cursor: duckdb.DuckDBPyConnection, sql: str, params: Parameters, max_rows: int | None, max_bytes: int
) -> pa.Table:
    try:
        reader = cursor.sql(sql, params=params).to_arrow_reader(_BATCH_ROWS)  # execute() would copy every row once more
        return _within_limits(reader, max_rows, max_bytes)
    except (TooManyRows, ResultTooLarge):
        raise
    except duckdb.PermissionException as error:
        raise QueryRefused(str(error).splitlines()[0]) from error
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError, TypeError, ValueError) as error:
        raise QueryFailed(str(error)) from error


def _within_limits(reader: pa.RecordBatchReader, max_rows: int | None, max_bytes: int) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    size, rows = 0, 0
    for batch in reader:
        size += batch.nbytes
        rows += batch.num_rows
        if max_rows is not None and rows > max_rows:
            raise TooManyRows(max_rows)
        if size > max_bytes:
            raise ResultTooLarge(max_bytes)
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=reader.schema)


@contextmanager
def _time_limit(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    done, expired = threading.Event(), threading.Event()

    def guard() -> None:
        wait = seconds
        while not done.wait(wait):
            expired.set()
            cursor.interrupt()
            wait = _INTERRUPT_AGAIN

    thread = threading.Thread(target=guard, name="query-time-limit", daemon=True)
    thread.start()
    try:
        yield
    except QueryFailed as error:
        if expired.is_set():
            raise QueryTimedOut(seconds) from error
        raise
    finally:
        done.set()
        join(thread)  # an interrupt that comes late would hit the cursor's next query
