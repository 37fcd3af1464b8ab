"""Append-only tables as their users see them: append, query, locate, maintain.

Belongs here: the facade over the modules beside it, the order of a write. Does not: how any of it works.

A write is durable before it is visible, and whole or not at all: its files are forced to the disk out of sight, then
one transaction of the index names all of them with the identities of their rows, then they are put in their place. A
process that is killed before the transaction has written nothing; what one leaves after it, the next one finishes.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.errors import AnalyticsError, AppendedFilesLost, QueryFailed, TablesNotFound
from analytics_pipeline.forks import leave_to_parent, renew_in_child
from analytics_pipeline.store.append import recovery
from analytics_pipeline.store.append.access import IndexAccess
from analytics_pipeline.store.append.compaction import GRACE, compact_table, remove_retired
from analytics_pipeline.store.append.index import Index, NewFile, Proof, TableFiles
from analytics_pipeline.store.append.index_file import index_in_memory, read_index
from analytics_pipeline.store.append.layout import AppendLayout, new_name
from analytics_pipeline.store.append.parquet import TypeChange, new_columns, without_empty_types, write_file
from analytics_pipeline.store.append.recovery import Identity, Unreadable
from analytics_pipeline.store.append.views import loss_of, moment_sql, stamp_of
from analytics_pipeline.store.commit import refresh_catalog
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.schema import Column, Columns, checked_table_name, columns_of, identifier
from analytics_pipeline.store.sealed import DEFAULT_MEMORY, DEFAULT_TIMEOUT, Parameters, SealedSql

T = TypeVar("T")

logger = logging.getLogger(__name__)

COMPACT_AFTER = 128
"""Files of a table in no copy yet, at which the next write makes one: a query opens each of them."""


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
        types: what to do about rows that come with another type for a column.
        renew: renews what shows these tables besides the catalog of their store; called when columns are new, and when
            copies took the place of files.
        compact_after: files of a table in no copy yet, at which a write makes one.
        memory_limit: for SQL queries of this process, as DuckDB spells it.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        *,
        unreadable: Unreadable = Unreadable.REFUSE,
        types: TypeChange = TypeChange.REFUSE,
        renew: Callable[[], None] | None = None,
        compact_after: int = COMPACT_AFTER,
        memory_limit: str = DEFAULT_MEMORY,
    ) -> None:
        self.layout = AppendLayout(root.expanduser().resolve())
        self._identity = identity
        self._compact_after = compact_after
        self._memory_limit = memory_limit
        self._types = types
        self._renew = renew
        self._access = IndexAccess(self.layout, identity, unreadable, types)
        self._session: tuple[Mapping[str, TableFiles], SealedSql] | None = None
        self._guard = threading.Lock()
        renew_in_child(self, AppendTables._begin_again)

    def _begin_again(self) -> None:
        """In a forked child: nobody there releases the parent's lock, and DuckDB needs the parent's threads."""
        self._guard = threading.Lock()
        if self._session is not None:
            leave_to_parent(self._session)
            self._session = None

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
        return self._write(lambda index: self._append(index, typed))

    def _append(self, index: Index, batches: Mapping[str, pa.Table]) -> Mapping[str, Appended]:
        added = {
            table: new_columns(table, index.columns(table), columns_of(rows.schema), self._types)
            for table, rows in batches.items()
        }
        fresh = {table: self._unknown(index, table, rows) for table, rows in batches.items()}
        written = {table: rows for table, rows in fresh.items() if rows.num_rows}
        paths = self._place(index, written, added) if written else {}
        self._compact(index, written)
        return {table: Appended(paths.get(table), rows) for table, rows in fresh.items()}

    def unknown(self, table: str, rows: pa.Table) -> pa.Table:
        """Those of some rows that are not there yet."""
        if not self.layout.root.is_dir():
            return rows
        return self._access.read(lambda index: self._unknown(index, table, rows))

    def _unknown(self, index: Index, table: str, rows: pa.Table) -> pa.Table:
        identities = self._identity.of(table, rows)
        known = index.known(table, {row[0] for row in identities if row})
        if not known:
            return rows
        return rows.filter(pa.array([not row or row[0] not in known for row in identities], pa.bool_()))

    def _place(
        self, index: Index, batches: Mapping[str, pa.Table], added: Mapping[str, Sequence[Column]]
    ) -> Mapping[str, Path]:
        call = uuid.uuid4().hex
        try:
            proofs = {}
            for table, rows in batches.items():
                write_file(rows, recovery.staged(self.layout, call, table))
                proofs[table] = Proof.of(recovery.staged(self.layout, call, table))
            now = time.time_ns() // 1_000_000
            files = [self._new_file(index, table, rows, proofs[table], now) for table, rows in batches.items()]
            with index.transaction():
                for file in files:
                    index.add(file, call)
                    index.add_columns(file.table, added[file.table])
        except BaseException:
            for table in batches:
                recovery.staged(self.layout, call, table).unlink(missing_ok=True)
            raise
        recovery.finish_call(index, self.layout, call)
        return {file.table: self.layout.folder(file.table) / file.name for file in files}

    def _new_file(self, index: Index, table: str, rows: pa.Table, proof: Proof, now: int) -> NewFile:
        name = new_name(now, index.newest_stamp(table))
        identities = [one for row in self._identity.of(table, rows) for one in row]
        return NewFile(table, name, stamp_of(name), rows.num_rows, identities, proof)

    def _compact(self, index: Index, tables: Iterable[str]) -> None:
        """Copies what has become many small files of one table: no write pays for several of them.

        A failure leaves everything as it was, and is told.
        """
        longest = max(tables, key=index.tail_length, default=None)
        if longest is None or index.tail_length(longest) < self._compact_after:
            return
        try:
            compact_table(index, self.layout, longest)
        except (AnalyticsError, OSError) as error:
            logger.warning("The tables below %s were not compacted: %s", self.layout.root, error)

    def _write(self, action: Callable[[Index], T]) -> T:
        """Do something that may change the published views, and renew these if it did."""
        result, views = self._access.write(lambda index: (action(index), index.unpublished()))
        if views is not None and self._publish():
            self._access.write(lambda index: index.publish(views))
        return result

    def _publish(self) -> bool:
        """Renew the published views; a failure is told, and the next write tries again."""
        try:
            self._show()
        except (AnalyticsError, OSError, duckdb.Error) as error:
            logger.warning("The views of %s do not show its newest tables yet: %s", self.layout.root, error)
            return False
        return True

    def _show(self) -> None:
        """Renew the views in the catalog of the store that this folder lies in, if it lies in one, and elsewhere."""
        store = Layout(self.layout.root.parent)
        if self._renew is not None:
            self._renew()
        if store.manifests.is_dir():
            refresh_catalog(store)

    def publish(self) -> None:
        """Take up what other programs have changed, and renew the published views if they are no longer right."""
        self._write(_nothing)

    def renew_views(self) -> None:
        """Renew the published views, which are to show something else than before.

        Raises:
            AnalyticsError, OSError, duckdb.Error: they could not be; the next write tries again.
        """
        self._access.write(Index.change_views)
        views = self._access.read(Index.unpublished)
        self._show()
        if views is not None:
            self._access.write(lambda index: index.publish(views))

    def snapshot(self) -> Mapping[str, TableFiles]:
        """What each table consists of at this moment, sorted by name.

        Raises:
            AppendedFileUnreadable: a table has a damaged file.
        """
        return self._access.read(Index.live_tables) if self.layout.root.is_dir() else {}

    def proofs(self) -> Mapping[tuple[str, str], Proof | None]:
        """What each file and copy in use was written with, by table and name; see `Index.proofs`."""
        return self._access.read(Index.proofs)

    def files(self, table: str) -> TableFiles:
        """What a table consists of at this moment; of nothing where there is no such table."""
        return self.snapshot().get(table, TableFiles((), (), (), None, 0))

    def paths(self, table: str, files: TableFiles) -> Sequence[Path]:
        """Where the files of a table are.

        Raises:
            AppendedFilesLost: some are lost.
        """
        if files.lost:
            raise AppendedFilesLost(loss_of(files, self.layout, table))
        copies = [self.layout.compacted / name for name in files.copies]
        return [*copies, *(self.layout.folder(table) / name for name in files.tail)]

    def columns(self, table: str) -> Columns:
        """The columns of a table, over all versions of its rows; none where there is no such table."""
        return self.files(table).columns

    def locate(self, identity: str, without: Collection[str] = ()) -> Path | None:
        """The file that holds the rows of an identity, in the first table that has it, some left out.

        Raises:
            AppendedFilesLost: it is lost.
        """
        if not self.layout.root.is_dir():
            return None
        found = self._access.read(lambda index: index.file_of(identity, without))
        if found:
            return self.layout.folder(found[0]) / found[1]
        lost = self._access.read(lambda index: index.lost_file_of(identity))
        if lost and lost[0] not in without:
            raise AppendedFilesLost(loss_of(self.files(lost[0]), self.layout, lost[0]))
        return None

    def forget(self, table: str) -> Sequence[str]:
        """Go on without the rows of a table's lost files, from now on without a word; gives the files' names.

        Raises:
            StoreUnwritable, AppendFailed: see `append`.
        """

        def accept(index: Index) -> Sequence[str]:
            names = index.lost(table)
            with index.transaction():
                index.accept_loss(table, names)
            return names

        return self._write(accept) if self.layout.root.is_dir() else ()

    def query(
        self,
        sql: str,
        params: Parameters = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_rows: int | None = None,
        untrusted: bool = False,
    ) -> pl.DataFrame:
        """The rows of one SELECT over the tables as they are now.

        Raises:
            TablesNotFound: the folder does not exist.
            AppendedFileUnreadable: a table has a damaged file.
            QueryFailed: a table has lost a file; it names the file.
            QueryRefused, QueryFailed, QueryTimedOut, ResultTooLarge, TooManyRows: see `SealedSql.query`.
        """
        if not self.layout.root.is_dir():
            raise TablesNotFound(str(self.layout.root))
        files = self.snapshot()
        if not files:
            return pl.DataFrame()
        try:
            return self._session_of(files).query(sql, params, timeout=timeout, max_rows=max_rows, untrusted=untrusted)
        except QueryFailed:
            newer = self.snapshot()
            if not newer or newer == files:
                raise
        return self._session_of(newer).query(
            sql, params, timeout=timeout, max_rows=max_rows, untrusted=untrusted
        )  # a file went meanwhile

    def _session_of(self, files: Mapping[str, TableFiles]) -> SealedSql:
        with self._guard:
            if self._session is None or self._session[0] != files:
                self._session = (files, self._sealed(files))  # others' queries keep the older one
            return self._session[1]

    def _sealed(self, files: Mapping[str, TableFiles]) -> SealedSql:
        def prepare(_connection: duckdb.DuckDBPyConnection, _folder: Path) -> list[str]:
            views = [
                f"CREATE VIEW {identifier(table)} AS {moment_sql(content, self.layout, table)}"
                for table, content in files.items()
            ]
            return ["SET TimeZone = 'UTC'", *views]

        root = str(self.layout.root)
        return SealedSql(prepare, root=root, folders=[root], memory_limit=self._memory_limit)

    def compact(self) -> None:
        """Copy every table's small files, however few, and remove copies that nobody needs any more."""

        def compact_all(index: Index) -> None:
            for table in index.tables():
                if index.tail_length(table) > 1:
                    compact_table(index, self.layout, table)

        self._write(compact_all)
        self.sweep()

    def sweep(self, grace: timedelta = GRACE) -> None:
        """Finish or remove what killed calls left, look through all folders, and remove retired copies."""
        self._write(Index.doubt)  # of files that a system of coarse time may have hidden
        self._write(lambda index: remove_retired(index, self.layout, grace))

    def rebuild_index(self) -> None:
        """Make the index anew from the files: after it was lost or is not believed. It still misses what was lost."""
        losses = None
        with contextlib.suppress(sqlite3.DatabaseError):
            losses = read_index(self.layout.index, Index.losses)
        self._access.discard()
        if losses is not None and any(losses):
            self._access.write(lambda index: index.take_over(losses))
        self.publish()

    def index_differs(self) -> bool:
        """Whether the index says of the files that are there anything else than these say."""
        fresh = Index(index_in_memory())
        look = self.layout.changed_at
        recovery.adopt(fresh, self.layout, self._identity, Unreadable.SKIP, types=self._types, look=look)
        return fresh.facts() != self._access.read(Index.facts)


def _nothing(_: Index) -> None:
    """Writing brings the index in line with the folders; there is nothing else to do."""
