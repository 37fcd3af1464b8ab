"""Append-only tables as their users see them: append, query, locate, maintain.

Belongs here: the facade over the modules beside it, the order of a write. Does not: how any of it works.

A write is durable before it is visible, and whole or not at all: its files are forced to the disk out of sight, then
one transaction of the index names all of them with the identities of their rows, then they are put in their place. A
process that is killed before the transaction has written nothing; what one leaves after it, the next one finishes.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.errors import AnalyticsError, AppendedFileUnreadable, AppendFailed, StoreUnwritable
from analytics_pipeline.store.append import recovery
from analytics_pipeline.store.append.compaction import GRACE, compact_table, remove_retired
from analytics_pipeline.store.append.index import (
    Index,
    NewFile,
    TableFiles,
    open_index,
    open_index_in_memory,
    open_index_to_read,
)
from analytics_pipeline.store.append.layout import AppendLayout, new_name
from analytics_pipeline.store.append.parquet import new_columns, without_empty_types, write_file
from analytics_pipeline.store.append.recovery import Identity, Unreadable
from analytics_pipeline.store.append.views import moment_sql, stamp_of
from analytics_pipeline.store.commit import refresh_catalog
from analytics_pipeline.store.layout import Layout, fsync_path
from analytics_pipeline.store.locks import exclusive
from analytics_pipeline.store.schema import Column, Columns, checked_table_name, columns_of, identifier
from analytics_pipeline.store.sealed import DEFAULT_MEMORY, DEFAULT_TIMEOUT, Parameters, SealedSql

logger = logging.getLogger(__name__)

COMPACT_AFTER = 512
"""Files of a table in no copy yet, at which the next write makes one: a query opens each of them."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Appended(NamedTuple):
    """What a write did to a table.

    Args:
        path: of the new file; None where every row was known.
        rows: that were new.
    """

    path: Path | None
    rows: pa.Table


class AppendTables:
    """The append-only tables below a folder: any number of processes may write and read them at once.

    Safe to share between threads.

    Args:
        root: the folder; made by the first write.
        identity: what tells a known row from a new one.
        unreadable: what to do about damaged files that another program left there.
        compact_after: files of a table in no copy yet, at which a write makes one.
        memory_limit: for SQL queries of this process, as DuckDB spells it.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        *,
        unreadable: Unreadable = Unreadable.REFUSE,
        compact_after: int = COMPACT_AFTER,
        memory_limit: str = DEFAULT_MEMORY,
    ) -> None:
        self.layout = AppendLayout(root.expanduser().resolve())
        self._identity = identity
        self._unreadable = unreadable
        self._compact_after = compact_after
        self._memory_limit = memory_limit
        self._guard = threading.Lock()
        self._session: tuple[Mapping[str, TableFiles], SealedSql] | None = None

    def append(self, batches: Mapping[str, pa.Table]) -> Mapping[str, Appended]:
        """Store the rows that are not there yet, all of them or none.

        Args:
            batches: rows by table; the files come into sight in this order.

        Raises:
            ColumnTypeChanged, NameRefused, UnsupportedColumnType: a column does not fit its table.
            AppendedFileUnreadable: a table has a damaged file.
            AppendFailed, StoreUnwritable: the disk refused.
        """
        typed = {checked_table_name(table): without_empty_types(rows) for table, rows in batches.items()}
        with self._writing() as index:
            fresh = {table: self._unknown(index, table, rows) for table, rows in typed.items()}
            wanted = {
                table: new_columns(table, index.columns(table), columns_of(typed[table].schema)) for table in fresh
            }
            written = {table: rows for table, rows in fresh.items() if rows.num_rows}
            paths = self._write(index, written, wanted) if written else {}
            changes_views = any(wanted[table] for table in written) | self._compact(index, written)
        if changes_views:
            self.publish()
        return {table: Appended(paths.get(table), rows) for table, rows in fresh.items()}

    def _unknown(self, index: Index, table: str, rows: pa.Table) -> pa.Table:
        identities = self._identity.of(table, rows)
        known = index.known(table, {row[0] for row in identities if row})
        if not known:
            return rows
        return rows.filter(pa.array([not row or row[0] not in known for row in identities], pa.bool_()))

    def _write(
        self, index: Index, batches: Mapping[str, pa.Table], columns: Mapping[str, Sequence[Column]]
    ) -> Mapping[str, Path]:
        call = uuid.uuid4().hex
        folder = self.layout.staging / call
        folder.mkdir()
        try:
            for table, rows in batches.items():
                write_file(rows, recovery.staged(self.layout, call, table))
            fsync_path(folder)
            now = time.time_ns() // 1_000_000
            files = [self._new_file(index, table, rows, now) for table, rows in batches.items()]
            with index.transaction():
                for file in files:
                    index.add(file, call)
                    index.add_columns(file.table, columns[file.table])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        recovery.finish_call(index, self.layout, call)
        return {file.table: self.layout.folder(file.table) / file.name for file in files}

    def _new_file(self, index: Index, table: str, rows: pa.Table, now: int) -> NewFile:
        name = new_name(now, index.newest_stamp(table))
        identities = [one for row in self._identity.of(table, rows) for one in row]
        return NewFile(table, name, stamp_of(name), rows.num_rows, identities)

    def _compact(self, index: Index, tables: Mapping[str, pa.Table]) -> bool:
        """Copies what has become many small files; a failure leaves everything as it was, and is told."""
        due = [table for table in tables if index.tail_length(table) >= self._compact_after]
        try:
            for table in due:
                compact_table(index, self.layout, table)
        except (AnalyticsError, OSError, sqlite3.Error) as error:
            logger.warning("The tables below %s were not compacted: %s", self.layout.root, error)
            return False
        return bool(due)

    def publish(self) -> None:
        """Renew the views in the catalog of the store that this folder lies in, if it lies in one."""
        store = Layout(self.layout.root.parent)
        if not store.manifests.is_dir():
            return
        try:
            refresh_catalog(store)
        except (AnalyticsError, OSError, duckdb.Error) as error:
            logger.warning("The catalog of %s does not show the newest columns yet: %s", store.root, error)

    def snapshot(self) -> Mapping[str, TableFiles]:
        """What each table consists of at this moment, sorted by name.

        Raises:
            AppendedFileUnreadable: a table has a damaged file.
        """
        if not self.layout.root.is_dir():
            return {}
        with suppress(sqlite3.DatabaseError), open_index_to_read(self.layout.index) as index:
            if recovery.is_current(index, self.layout):
                return _live(index)
        try:
            with self._writing() as index:
                return _live(index)
        except StoreUnwritable:
            logger.info("%s cannot be written: its files are looked through for this query.", self.layout.root)
        with open_index_in_memory() as index:
            recovery.adopt(index, self.layout, self._identity, self._unreadable)
            return _live(index)

    def files(self, table: str) -> TableFiles:
        """What a table consists of at this moment; of nothing where there is no such table."""
        return self.snapshot().get(table, TableFiles((), (), (), None, 0))

    def paths(self, table: str, files: TableFiles) -> Sequence[Path]:
        """Where the files of a table are."""
        copies = [self.layout.compacted / name for name in files.copies]
        return [*copies, *(self.layout.folder(table) / name for name in files.tail)]

    def columns(self, table: str) -> Columns:
        """The columns of a table, over all versions of its rows; none where there is no such table."""
        return self.files(table).columns

    def locate(self, table: str, identity: str) -> Path | None:
        """The file that holds the rows of an identity."""
        self.snapshot()
        with suppress(sqlite3.DatabaseError), open_index_to_read(self.layout.index) as index:
            name = index.file_of(table, identity)
            return self.layout.folder(table) / name if name else None
        return None

    def query(
        self, sql: str, params: Parameters = None, *, timeout: float = DEFAULT_TIMEOUT, max_rows: int | None = None
    ) -> pl.DataFrame:
        """The rows of one SELECT over the tables as they are now.

        Raises:
            AppendedFileUnreadable: a table has a damaged file.
            QueryRefused, QueryFailed, QueryTimedOut, ResultTooLarge, TooManyRows: see `SealedSql.query`.
        """
        return self._session_of(self.snapshot()).query(sql, params, timeout=timeout, max_rows=max_rows)

    def _session_of(self, files: Mapping[str, TableFiles]) -> SealedSql:
        with self._guard:
            if self._session is None or self._session[0] != files:
                self._session = (files, self._sealed(files))  # a query of another thread keeps the older one
            return self._session[1]

    def _sealed(self, files: Mapping[str, TableFiles]) -> SealedSql:
        def prepare(connection: duckdb.DuckDBPyConnection, _folder: Path) -> None:
            connection.execute("SET TimeZone = 'UTC'")
            for table, content in files.items():
                select = moment_sql(content, self.layout, table)
                connection.execute(f"CREATE VIEW {identifier(table)} AS {select}")

        return SealedSql(prepare, folders=[str(self.layout.root)], memory_limit=self._memory_limit)

    def compact(self) -> None:
        """Copy every table's small files, however few, and remove copies that nobody needs any more."""
        with self._writing() as index:
            for table in index.tables():
                if index.tail_length(table) > 1:
                    compact_table(index, self.layout, table)
            remove_retired(index, self.layout, GRACE)
        self.publish()

    def sweep(self, grace: timedelta = GRACE) -> None:
        """Finish or remove what killed calls left, and remove retired copies."""
        with self._writing() as index:
            remove_retired(index, self.layout, grace)

    def rebuild_index(self) -> None:
        """Make the index anew from the files: after it was lost or is not believed."""
        with exclusive(self.layout.lock, logger.debug):
            self._set_aside("asked to")
        self.sweep()
        self.publish()

    @contextmanager
    def _writing(self) -> Iterator[Index]:
        """The index, in line with the folders, while nobody else writes."""
        try:
            self.layout.create()
        except PermissionError as error:
            raise StoreUnwritable(str(self.layout.root)) from error
        with exclusive(self.layout.lock, logger.debug), self._named_failures():
            if not self._is_sound():
                self._set_aside("it is damaged")
            with open_index(self.layout.index) as index:
                recovery.settle_calls(index, self.layout)
                recovery.adopt(index, self.layout, self._identity, self._unreadable)
                yield index

    def _is_sound(self) -> bool:
        try:
            with open_index(self.layout.index) as index:
                index.pending()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode in _DAMAGED:
                return False
            raise
        return True

    def _set_aside(self, reason: str) -> None:
        logger.warning("The index of %s is made anew from the Parquet files: %s", self.layout.root, reason)
        for ending in ("", "-wal", "-shm"):
            self.layout.index.with_name(self.layout.index.name + ending).unlink(missing_ok=True)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except AppendedFileUnreadable:
            raise
        except PermissionError as error:
            raise StoreUnwritable(str(self.layout.root)) from error
        except (OSError, sqlite3.Error, pa.ArrowException) as error:
            raise AppendFailed(str(self.layout.root), str(error)) from error


def _live(index: Index) -> Mapping[str, TableFiles]:
    with index.reading():
        return index.live_tables()
