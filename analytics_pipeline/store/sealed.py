"""Sealed SQL: a DuckDB of this process in which one SELECT can be asked, with no way to a file, a network or a setting.

Belongs here: the sealed session over whatever was prepared in it, its limits of time, memory and rows, the data frame
that comes out. Does not: what may be asked (`query_check`), or what is prepared (`reader`, `append`).

Two fences, each enough for most attempts: `query_check` judges the query's syntax tree, and the session may open
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
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.arrow_frames import data_frame
from analytics_pipeline.errors import QueryFailed, QueryRefused, QueryTimedOut, ResultTooLarge, TooManyRows
from analytics_pipeline.store.query_check import checked_select
from analytics_pipeline.store.schema import file_literal, identifier, literal
from analytics_pipeline.waiting import join

Parameter: TypeAlias = "bool | int | float | str | bytes | datetime | date | Decimal | None"
Parameters: TypeAlias = "Sequence[Parameter] | Mapping[str, Parameter] | None"

DEFAULT_TIMEOUT = 60.0
DEFAULT_MEMORY = "2GB"
MAX_RESULT_BYTES = 1 << 30
"""Of one answer; DuckDB's own limit does not count the rows that leave it."""

_FOLDER = "analytics-query-"
_MAX_SPILL = "16GB"
_BATCH_ROWS = 122_880
_INTERRUPT_AGAIN = 0.05
"""Seconds between interrupts: DuckDB forgets one that comes before the query runs."""


class SealedSql:
    """A DuckDB instance that was prepared and then shut; every query takes a cursor of its own.

    Args:
        prepare: makes what can be asked, in the instance that is still open; gets a folder that lives as long.
        files: paths that the session can open.
        folders: below which it can open every file.
        database: attached by `prepare`, whose tables go by their plain names; None for the instance's own.
        memory_limit: for all queries of the session together, as DuckDB spells it.
    """

    def __init__(
        self,
        prepare: Callable[[duckdb.DuckDBPyConnection, Path], None],
        *,
        files: Sequence[str] = (),
        folders: Sequence[str] = (),
        database: str | None = None,
        memory_limit: str = DEFAULT_MEMORY,
    ) -> None:
        _remove_leavings()
        folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        self._remove_folder = weakref.finalize(self, _remove_of, os.getpid(), folder)
        self._database = database
        self._connection = duckdb.connect(config={"python_enable_replacements": "false"})
        try:
            prepare(self._connection, folder)
            self._seal(folder, files, folders, memory_limit)
        except BaseException:
            self.close()
            raise

    def _seal(self, folder: Path, files: Sequence[str], folders: Sequence[str], memory_limit: str) -> None:
        for statement in (
            "SET GLOBAL TimeZone = 'UTC'",
            f"SET memory_limit = {literal(memory_limit)}",
            f"SET temp_directory = {literal(str(folder / 'spill'))}",
            f"SET max_temp_directory_size = '{_MAX_SPILL}'",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            f"SET allowed_paths = [{_spelled(files)}]",
            f"SET allowed_directories = [{_spelled(folders)}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(statement)

    def close(self) -> None:
        """Close the instance; running queries of other threads fail."""
        self._connection.close()
        self._remove_folder()

    def query(
        self, sql: str, params: Parameters = None, *, timeout: float = DEFAULT_TIMEOUT, max_rows: int | None = None
    ) -> pl.DataFrame:
        """The rows of one SELECT. Of columns with one name, the later ones are called `<name>_1` and so on.

        Args:
            sql: DuckDB's dialect.
            params: for `?` (a sequence) or `$name` (a mapping).
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused; None for as many as fit `MAX_RESULT_BYTES`.

        Raises:
            QueryRefused: it is anything else than one SELECT over what was prepared.
            QueryFailed: DuckDB could not run it.
            QueryTimedOut: it ran longer than `timeout` seconds.
            ResultTooLarge: its rows take more than `MAX_RESULT_BYTES`.
            TooManyRows: it has more than `max_rows`.
        """
        if not 0 <= timeout <= threading.TIMEOUT_MAX:
            raise QueryRefused(f"a timeout of {timeout} seconds")
        with self._connection.cursor() as cursor:
            if self._database is not None:
                cursor.execute(f"USE {identifier(self._database)}")  # not inherited by a cursor
            query = checked_select(cursor, sql)
            with _time_limit(cursor, timeout):
                table = _run(cursor, query, params, max_rows)
        return _data_frame(table)


def _spelled(paths: Iterable[str]) -> str:
    """Paths in both ways in which views give them: DuckDB compares the words, not what they mean."""
    return ", ".join(sorted({spelling(path) for path in paths for spelling in (literal, file_literal)}))


def _remove_of(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a fork ends its finalizers, too
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leavings() -> None:
    """Remove the folders of processes that were killed: what they spilled may be large."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _run(cursor: duckdb.DuckDBPyConnection, sql: str, params: Parameters, max_rows: int | None) -> pa.Table:
    try:
        reader = cursor.sql(sql, params=params).to_arrow_reader(_BATCH_ROWS)  # execute() would copy every row once more
        return _within_limits(reader, max_rows)
    except (ResultTooLarge, TooManyRows):
        raise
    except duckdb.PermissionException as error:
        raise QueryRefused(str(error).splitlines()[0]) from error
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError, TypeError, ValueError) as error:
        raise QueryFailed(str(error)) from error


def _within_limits(reader: pa.RecordBatchReader, max_rows: int | None) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    size, rows = 0, 0
    for batch in reader:
        size += batch.nbytes
        rows += batch.num_rows
        if max_rows is not None and rows > max_rows:
            raise TooManyRows(max_rows)
        if size > MAX_RESULT_BYTES:
            raise ResultTooLarge(MAX_RESULT_BYTES)
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=reader.schema)


def _data_frame(table: pa.Table) -> pl.DataFrame:
    names: list[str] = []
    taken = set(table.column_names)
    for name in table.column_names:
        number, unique = 0, name
        while unique in names or (number and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    table = table.rename_columns(names)
    for field in table.schema:
        if unfit := _unfit_type(field.type):
            raise QueryFailed(f"Column {field.name} holds {unfit}, which a data frame cannot: cast it to VARCHAR.")
    try:
        return data_frame(table)
    except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError) as error:
        raise QueryFailed(f"The rows do not fit a data frame: {error}") from error


def _unfit_type(type_: pa.DataType) -> str | None:
    if pa.types.is_interval(type_) or pa.types.is_union(type_):
        return str(type_)
    inner = (_unfit_type(type_.field(index).type) for index in range(type_.num_fields))
    return next((unfit for unfit in inner if unfit), None)


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
