"""The Parquet backend: one small file a table and write, in a folder that any Parquet reader can read.

Belongs here: records to append-only tables and back. Does not: how these are written (`store.append`), object stores
(`object_store`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from analytics_pipeline.capabilities.backends.protocol import StorageBackend, StorageWriteReceipt
from analytics_pipeline.capabilities.identity import CapabilityIdentity, run_uids
from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.rows import tables_of
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import RunNotFound, TableNotFound
from analytics_pipeline.store.append.recovery import Unreadable
from analytics_pipeline.store.append.tables import COMPACT_AFTER, AppendTables
from analytics_pipeline.store.schema import arrow_schema
from analytics_pipeline.store.sealed import DEFAULT_TIMEOUT


class ParquetBackend(StorageBackend):
    """Records in a folder of Parquet files: `{root}/{table}/{milliseconds}_{8 hex}.parquet`.

    Args:
        root: the folder; made by the first write.
        unreadable: what to do about damaged files that another program left there.
        compact_after: files of a table at which a write copies them into one, for queries.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        unreadable: Unreadable = Unreadable.REFUSE,
        compact_after: int = COMPACT_AFTER,
    ) -> None:
        self.tables = AppendTables(Path(root), CapabilityIdentity(), unreadable=unreadable, compact_after=compact_after)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.tables.layout.root

    def write(self, records: Sequence[Record]) -> None:
        """Store the records that are not there yet; see `write_with_receipt`."""
        self.write_with_receipt(records)

    def write_with_receipt(self, records: Sequence[Record]) -> StorageWriteReceipt:
        """Store the records that are not there yet, all of them or none.

        Raises:
            RecordValueRefused, RecordsDisagree, RunRefused: see `tables_of`.
            StoreError: see `AppendTables.append`.
        """
        batches = tables_of(records)
        if not batches:
            return StorageWriteReceipt()
        files: dict[str, dict[str, str]] = {}
        appended = self.tables.append(batches)
        for table, (path, rows) in appended.items():
            if path is not None and table not in RESERVED:
                for run_uid in run_uids(rows):
                    files.setdefault(run_uid, {})[table] = str(path)
        return StorageWriteReceipt(files, {table: rows.num_rows for table, (_, rows) in appended.items()})

    def list_tables(self) -> list[str]:
        """Names of the tables that hold rows, sorted."""
        return sorted(self.tables.snapshot())

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table over all versions of its records, with the names of their Polars types.

        Raises:
            TableNotFound: there is no such table.
        """
        columns = self.tables.columns(table_name)
        if not columns:
            raise TableNotFound(table_name, self.list_tables())
        schema = pl.DataFrame(arrow_schema(columns).empty_table()).schema
        return {name: str(dtype) for name, dtype in schema.items()}

    def scan_table(self, table_name: str) -> pl.LazyFrame:
        """The rows of a table, read from its files when they are needed.

        Raises:
            TableNotFound: there is no such table.
        """
        files = self.tables.files(table_name)
        if not files.columns:
            raise TableNotFound(table_name, self.list_tables())
        schema = pl.DataFrame(arrow_schema(files.columns).empty_table()).schema
        paths = list(self.tables.paths(table_name, files))
        return pl.scan_parquet(paths, schema=schema, missing_columns="insert", extra_columns="ignore", glob=False)

    def get_run_uri(self, run_uid: str) -> str:
        """The file that holds a run's rows.

        Raises:
            RunNotFound: no table has the run.
        """
        path = self.tables.locate(run_uid, without=RESERVED)
        if path is None:
            raise RunNotFound(run_uid, str(self.path))
        return str(path)

    def query_sql(self, sql: str, *, timeout: float = DEFAULT_TIMEOUT, max_rows: int | None = None) -> pl.DataFrame:
        """The rows of one SELECT over all tables, in DuckDB's dialect; an empty frame while nothing is stored.

        Args:
            sql: reads tables by their plain names, and can read or change nothing else.
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused.

        Raises:
            StoreError: see `AppendTables.query`.
        """
        return self.tables.query(sql, timeout=timeout, max_rows=max_rows)
