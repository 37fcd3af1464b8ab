"""The DuckDB backend: records as tables of one DuckDB file.

Belongs here: that file, opened for the length of one call. Does not: Parquet (`parquet`).

DuckDB lets one process write a file and then nobody else open it. So a writer holds a lock beside the file alone,
readers hold it together, and nobody keeps the file open longer than a call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.capabilities.backends.protocol import StorageBackend, StorageWriteReceipt
from analytics_pipeline.capabilities.identity import CapabilityIdentity, run_uids
from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.rows import tables_of
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import AppendFailed, RunNotFound, TableNotFound
from analytics_pipeline.store.append.parquet import new_columns, without_empty_types
from analytics_pipeline.store.locks import exclusive, shared
from analytics_pipeline.store.schema import Column, Columns, arrow_schema, columns_of, identifier, literal
from analytics_pipeline.store.sealed import DEFAULT_TIMEOUT, SealedSql

logger = logging.getLogger(__name__)

_DATABASE = "capabilities"
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
        connection.register("fresh_rows", fresh)
        connection.execute(f"INSERT INTO {identifier(table)} BY NAME SELECT * FROM fresh_rows")
        connection.unregister("fresh_rows")
        taken = pa.table({"identity": [one for row in self._identity.of(table, fresh) for one in row]})
        connection.register("taken", taken)
        connection.execute(f"INSERT OR IGNORE INTO {_IDENTITIES} SELECT ?, identity FROM taken", [table])
        connection.unregister("taken")
        return fresh

    def list_tables(self) -> list[str]:
        """Names of the tables that hold rows, sorted."""
        return sorted(self._tables())

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table over all versions of its records, with the names of their Polars types.

        Raises:
            TableNotFound: there is no such table.
        """
        tables = self._tables()
        if table_name not in tables:
            raise TableNotFound(table_name, sorted(tables))
        schema = pl.DataFrame(arrow_schema(tables[table_name]).empty_table()).schema
        return {name: str(dtype) for name, dtype in schema.items()}

    def get_run_uri(self, run_uid: str) -> str:
        """The file, where it has the run.

        Raises:
            RunNotFound: it has not.
        """
        for table in self.list_tables():
            sql = f"SELECT 1 FROM {identifier(table)} WHERE run_uid = {literal(run_uid)} LIMIT 1"
            if table not in RESERVED and not self.query_sql(sql).is_empty():
                return str(self.path)
        raise RunNotFound(run_uid, str(self.path))

    def query_sql(self, sql: str, *, timeout: float = DEFAULT_TIMEOUT, max_rows: int | None = None) -> pl.DataFrame:
        """The rows of one SELECT over all tables; an empty frame while nothing is stored.

        Args:
            sql: reads tables by their plain names, and can read or change nothing else.
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused.

        Raises:
            QueryRefused, QueryFailed, QueryTimedOut, ResultTooLarge, TooManyRows: see `SealedSql.query`.
        """
        if not self.path.exists():
            return pl.DataFrame()
        with shared(self._lock, logger.debug):
            session = SealedSql(self._attach, database=_DATABASE)
            try:
                return session.query(sql, timeout=timeout, max_rows=max_rows)
            finally:
                session.close()

    def _attach(self, connection: duckdb.DuckDBPyConnection, _folder: Path) -> None:
        connection.execute(f"ATTACH {literal(str(self.path))} AS {_DATABASE} (READ_ONLY)")

    def _tables(self) -> Mapping[str, Columns]:
        if not self.path.exists():
            return {}
        with shared(self._lock, logger.debug), duckdb.connect(self.path, read_only=True) as connection:
            names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
            return {name: _columns(connection, name) for (name,) in names}

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self._lock, logger.debug):
            try:
                with duckdb.connect(self.path) as connection:
                    connection.execute("SET TimeZone = 'UTC'")
                    connection.execute("BEGIN")
                    connection.execute(_PREPARE)
                    yield connection
                    connection.execute("COMMIT")
            except (duckdb.IOException, duckdb.TransactionException) as error:
                raise AppendFailed(str(self.path), str(error)) from error


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> Columns:
    sql = (
        "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = ? "
        "ORDER BY column_index"
    )
    return tuple(Column(*row) for row in connection.execute(sql, [table]).fetchall())
