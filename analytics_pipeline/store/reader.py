"""Shut-in SQL: one SELECT over the store's tables and views, with no way to a file, a network or a setting.

Belongs here: the sealed DuckDB session, its limits of time and memory, the data frame that comes out.
Does not: what may be asked (`query_check`), what the tables hold, or how they got there.

Two fences, each enough for most attempts: `query_check` judges the query's syntax tree, and the session may open
nothing but the data files of its version.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.errors import QueryFailed, QueryRefused, QueryTimedOut, ResultTooLarge, StaleReader
from analytics_pipeline.store.catalog import attach_catalog, build_catalog
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Manifest
from analytics_pipeline.store.query_check import checked_select
from analytics_pipeline.store.schema import literal

Parameter: TypeAlias = "bool | int | float | str | bytes | datetime | date | Decimal | None"
Parameters: TypeAlias = "Sequence[Parameter] | Mapping[str, Parameter] | None"

DEFAULT_TIMEOUT = 60.0
DEFAULT_MEMORY = "2GB"
MAX_RESULT_BYTES = 1 << 30
"""Of one answer; DuckDB's own limit does not count the rows that leave it."""

_FAULTS_OF_A_QUERY = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""Not those of a lost file."""
_FOLDER = "analytics-query-"
_MAX_SPILL = "16GB"
_BATCH_ROWS = 122_880
_INTERRUPT_AGAIN = 0.05
"""Seconds between interrupts: DuckDB forgets one that comes before the query runs."""


class SqlSession:
    """A sealed DuckDB instance on one version of the store; every query takes a cursor of its own.

    It attaches the version's catalog. Where that is missing, damaged, of another folder or locked by somebody who
    opened it read-write, it builds one of its own in a temporary folder: reading never waits for writing.

    Args:
        layout: the store.
        manifest: the version; its data files are all that the session can open.
        memory_limit: for all queries of the session together, as DuckDB spells it.
    """

    def __init__(self, layout: Layout, manifest: Manifest, *, memory_limit: str = DEFAULT_MEMORY) -> None:
        self.manifest = manifest
        self._files = [f"{layout.root}/{file.path}" for file in manifest.live_files]
        _remove_leavings()
        folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._connection = duckdb.connect(config={"python_enable_replacements": "false"})
        try:
            self._attach(layout, manifest, folder)
            self._seal(folder, memory_limit)
        except BaseException:
            self.close()
            raise

    def _attach(self, layout: Layout, manifest: Manifest, folder: Path) -> None:
        catalog = layout.catalog_of(manifest.version)
        if attach_catalog(self._connection, catalog, manifest.version, layout):
            return
        own = folder / "catalog.duckdb"
        build_catalog(manifest, layout, own)
        if not attach_catalog(self._connection, own, manifest.version, layout):
            raise QueryFailed(f"DuckDB cannot open the catalog of version {manifest.version}.")

    def _seal(self, folder: Path, memory_limit: str) -> None:
        files = ", ".join(literal(path) for path in self._files)
        for statement in (
            "SET GLOBAL TimeZone = 'UTC'",
            f"SET memory_limit = {literal(memory_limit)}",
            f"SET temp_directory = {literal(str(folder / 'spill'))}",
            f"SET max_temp_directory_size = '{_MAX_SPILL}'",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            f"SET allowed_paths = [{files}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(statement)

    def close(self) -> None:
        """Close the instance; running queries of other threads fail."""
        self._connection.close()
        self._remove_folder()

    def query(self, sql: str, params: Parameters, timeout: float) -> pl.DataFrame:
        """The rows of one SELECT. Of columns with one name, the later ones are called `<name>_1` and so on.

        Raises:
            QueryRefused: it is anything else than one SELECT over the store.
            QueryFailed: DuckDB could not run it.
            QueryTimedOut: it ran longer than `timeout` seconds.
            ResultTooLarge: its rows take more than `MAX_RESULT_BYTES`.
            StaleReader: its version was swept while it ran.
        """
        if not 0 <= timeout <= threading.TIMEOUT_MAX:
            raise QueryRefused(f"a timeout of {timeout} seconds")
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")  # not inherited by a cursor
            query = checked_select(cursor, sql)
            with _time_limit(cursor, timeout):
                try:
                    table = _run(cursor, query, params)
                except (QueryFailed, QueryRefused) as error:
                    if not isinstance(error.__cause__, _FAULTS_OF_A_QUERY) and self._is_swept():
                        raise StaleReader from error
                    raise
        return _data_frame(table)

    def _is_swept(self) -> bool:
        """Whether a file of this version is gone; DuckDB's own words for it differ from version to version."""
        return not all(Path(path).exists() for path in self._files)


@dataclass(frozen=True)
class Reading:
    """One version of the store, while somebody reads it: see `Store.reading`."""

    session: SqlSession

    @property
    def manifest(self) -> Manifest:
        """The state that the queries see."""
        return self.session.manifest

    def query(self, sql: str, params: Parameters = None, *, timeout: float = DEFAULT_TIMEOUT) -> pl.DataFrame:
        """The rows of one SELECT; see `Store.query`."""
        return self.session.query(sql, params, timeout)


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


def _run(cursor: duckdb.DuckDBPyConnection, sql: str, params: Parameters) -> pa.Table:
    try:
        reader = cursor.sql(sql, params=params).to_arrow_reader(_BATCH_ROWS)  # execute() would copy every row once more
        return _within_limit(reader)
    except duckdb.PermissionException as error:
        raise QueryRefused(str(error).splitlines()[0]) from error
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError, TypeError, ValueError) as error:
        raise QueryFailed(str(error)) from error


def _within_limit(reader: pa.RecordBatchReader) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        size += batch.nbytes
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
        return pl.DataFrame(table)
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
        thread.join()  # an interrupt that comes late would hit the cursor's next query
