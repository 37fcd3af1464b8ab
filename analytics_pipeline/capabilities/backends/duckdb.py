"""The DuckDB backend: records as tables of one DuckDB file.

Belongs here: that file, opened for the length of one call. Does not: Parquet (`parquet`).

DuckDB lets one process write a file and then nobody else open it. So a writer holds a lock beside the file alone,
readers hold it together, and nobody keeps the file open longer than a call.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.capabilities.backends.protocol import StorageBackend, StorageWriteReceipt
from analytics_pipeline.capabilities.identity import CapabilityIdentity, run_uids
from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.rows import tables_of
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import (
    AnalyticsError,
    AppendFailed,
    DatabaseHeld,
    DatabaseUnreadable,
    QueryFailed,
    RunNotFound,
    StoreUnwritable,
    TableNotFound,
    TablesNotFound,
)
from analytics_pipeline.forks import without_fork
from analytics_pipeline.store.append.parquet import new_columns, without_empty_types
from analytics_pipeline.store.locks import exclusive, shared
from analytics_pipeline.store.schema import Column, Columns, arrow_schema, columns_of, identifier, literal
from analytics_pipeline.store.sealed import DEFAULT_TIMEOUT, SealedSql

logger = logging.getLogger(__name__)

_DATABASE = "capabilities"
_GIVEN_NAME = "given rows"  # the name of no table of records: it has a space
_GIVEN = identifier(_GIVEN_NAME)
_RUN_UID = Column("run_uid", "VARCHAR")
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_HELD = (duckdb.ConnectionException, getattr(duckdb, "ResourceInUseException", duckdb.ConnectionException))
"""Raised while this process has the file open with other settings: the first by DuckDB 1, the second by DuckDB 2."""

_DAMAGED = ("not a valid DuckDB database", "Corrupt database file", "Could not read")
_IDENTITIES = "own.identities"
_PREPARE = f"""
CREATE SCHEMA IF NOT EXISTS own;
CREATE TABLE IF NOT EXISTS {_IDENTITIES} (table_name VARCHAR, identity VARCHAR, PRIMARY KEY (table_name, identity));
"""


class DuckDBBackend(StorageBackend):
    """Records in a DuckDB file; several processes take turns.

    Args:
        path: of the file; made by the first write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        self._lock = self.path.with_name(f".{self.path.name}.lock")
        self._identity = CapabilityIdentity()

    def write(self, records: Sequence[Record]) -> None:
        """Store the records that are not there yet; see `write_with_receipt`."""
        self.write_with_receipt(records)

    def write_with_receipt(self, records: Sequence[Record]) -> StorageWriteReceipt:
        """Store the records that are not there yet, all of them or none.

        Raises:
            RecordValueRefused, RecordsDisagree, RunRefused: see `tables_of`.
            ColumnTypeChanged, NameRefused: a field does not fit its table.
            AppendFailed, StoreUnwritable: the disk refused.
            DatabaseUnreadable, DatabaseHeld: the file is no DuckDB file, or another program has it open.
        """
        batches = {table: without_empty_types(rows) for table, rows in tables_of(records).items()}
        if not batches:
            return StorageWriteReceipt()
        files: dict[str, dict[str, str]] = {}
        counts = {}
        with self._writing() as connection:
            for table, rows in batches.items():
                fresh = self._insert(connection, table, rows)
                counts[table] = fresh.num_rows
                for run_uid in run_uids(fresh) if table not in RESERVED else ():
                    files.setdefault(run_uid, {})[table] = str(self.path)
        return StorageWriteReceipt(files, counts)

    def _insert(self, connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> pa.Table:
        identities = self._identity.of(table, rows)
        firsts = [row[0] for row in identities if row]
        sql = f"SELECT identity FROM {_IDENTITIES} WHERE table_name = ? AND identity IN (SELECT unnest(?::VARCHAR[]))"
        known = {row[0] for row in connection.execute(sql, [table, firsts]).fetchall()}
        fresh = rows.filter(pa.array([not row or row[0] not in known for row in identities], pa.bool_()))
        columns = _columns(connection, table)
        added = new_columns(table, columns, columns_of(rows.schema))
        if fresh.num_rows == 0:
            return fresh
        if not columns:
            listed = ", ".join(f"{identifier(name)} {type_}" for name, type_ in added)
            connection.execute(f"CREATE TABLE {identifier(table)} ({listed})")
        for name, type_ in added if columns else ():
            connection.execute(f"ALTER TABLE {identifier(table)} ADD COLUMN {identifier(name)} {type_}")
        with _registered(connection, fresh):
            connection.execute(f"INSERT INTO {identifier(table)} BY NAME SELECT * FROM {_GIVEN}")
        taken = pa.table({"identity": [one for row in self._identity.of(table, fresh) for one in row]})
        with _registered(connection, taken):
            connection.execute(f"INSERT OR IGNORE INTO {_IDENTITIES} SELECT ?, identity FROM {_GIVEN}", [table])
        return fresh

    def list_tables(self) -> list[str]:
        """Names of the tables that hold rows, sorted.

        Raises:
            DatabaseUnreadable, DatabaseHeld: see `write_with_receipt`.
        """
        return sorted(self._tables())

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table over all versions of its records, with the names of their Polars types.

        A column of another program's table that no data frame can hold has the name of its DuckDB type.

        Raises:
            TableNotFound: there is no such table.
        """
        tables = self._tables()
        if table_name not in tables:
            raise TableNotFound(table_name, sorted(tables))
        return {column.name: self._polars_type(table_name, column) for column in tables[table_name]}

    def _polars_type(self, table: str, column: Column) -> str:
        try:
            return str(pl.DataFrame(arrow_schema((column,)).empty_table()).dtypes[0])
        except KeyError:  # a type that records have not
            asked = f"SELECT {identifier(column.name)} FROM {identifier(table)} LIMIT 0"
        try:
            return str(self.query_sql(asked).dtypes[0])
        except QueryFailed:
            return column.type

    def get_run_uri(self, run_uid: str) -> str:
        """The file, where it has the run.

        Raises:
            RunNotFound: it has not.
        """
        for table, columns in self._tables().items():
            if table in RESERVED or _RUN_UID not in columns:
                continue  # the store's own, or another program's
            sql = f"SELECT 1 FROM {identifier(table)} WHERE run_uid = {literal(run_uid)} LIMIT 1"
            if not self.query_sql(sql).is_empty():
                return str(self.path)
        raise RunNotFound(run_uid, str(self.path))

    def query_sql(
        self, sql: str, *, timeout: float = DEFAULT_TIMEOUT, max_rows: int | None = None, untrusted: bool = False
    ) -> pl.DataFrame:
        """The rows of one SELECT over all tables.

        Args:
            sql: reads tables by their plain names, and can read or change nothing else.
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused.
            untrusted: see `SealedSql.query`.

        Raises:
            TablesNotFound: the file does not exist.
            QueryRefused, QueryFailed, QueryTimedOut, ResultTooLarge, TooManyRows: see `SealedSql.query`.
            DatabaseUnreadable, DatabaseHeld: see `write_with_receipt`.
        """
        if not self.path.exists():
            raise TablesNotFound(str(self.path))
        with self._reading():
            with _failures_named(self.path, DatabaseUnreadable):
                session = SealedSql(self._attach, root=str(self.path.parent), database=_DATABASE, stays_open=False)
            try:
                return session.query(sql, timeout=timeout, max_rows=max_rows, untrusted=untrusted)
            finally:
                session.close()

    def _attach(self, _connection: duckdb.DuckDBPyConnection, _folder: Path) -> list[str]:
        return [f"ATTACH {literal(str(self.path))} AS {_DATABASE} (READ_ONLY)"]

    def _tables(self) -> Mapping[str, Columns]:
        if not self.path.exists():
            return {}
        with (
            self._reading(),
            without_fork(),  # DuckDB would give a child the parent's instance of the file
            _failures_named(self.path, DatabaseUnreadable),
            duckdb.connect(self.path, read_only=True) as connection,
        ):
            names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
            return {name: _columns(connection, name) for (name,) in names}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep writers away, where this user may: one who cannot make the lock's file reads without."""
        with ExitStack() as held:
            try:
                held.enter_context(shared(self._lock, logger.debug))
            except StoreUnwritable:
                logger.debug("%s cannot be locked by this user; %s is read without.", self._lock, self.path)
            yield

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with _failures_named(self.path, AppendFailed):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(self._lock, logger.debug), without_fork(), duckdb.connect(self.path) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute("BEGIN")
                connection.execute(_PREPARE)
                yield connection
                connection.execute("COMMIT")


@contextmanager
def _failures_named(path: Path, otherwise: Callable[[str, str], AnalyticsError]) -> Iterator[None]:
    """Raise errors that name the file; `otherwise` makes that of a failure which is none of the known ones."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSED:
            raise StoreUnwritable(str(path)) from error
        raise otherwise(str(path), str(error)) from error
    except duckdb.Error as error:
        detail = str(error).splitlines()[0]
        if isinstance(error, _HELD) or "Could not set lock" in detail:
            raise DatabaseHeld(str(path), detail) from error
        if path.is_dir() or any(words in detail for words in _DAMAGED):
            raise DatabaseUnreadable(str(path), detail) from error
        raise otherwise(str(path), detail) from error


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> Iterator[None]:
    """Let SQL read some rows as `_GIVEN`."""
    connection.register(_GIVEN_NAME, rows)
    try:
        yield
    finally:
        connection.unregister(_GIVEN_NAME)


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> Columns:
    sql = (
        "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = ? "
        "ORDER BY column_index"
    )
    return tuple(Column(*row) for row in connection.execute(sql, [table]).fetchall())
