"""The Parquet backend: small files by table, in a folder or an object store, that any Parquet reader can read.

Belongs here: records to append-only tables and back. Does not: how these are written (`store.append`,
`object_store`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analytics_pipeline.capabilities.backends.files import Files, FolderFiles
from analytics_pipeline.capabilities.backends.object_store import ObjectFiles
from analytics_pipeline.capabilities.backends.protocol import StorageBackend, StorageWriteReceipt
from analytics_pipeline.capabilities.backends.roots import checked_root, folder_of, is_object_uri
from analytics_pipeline.capabilities.identity import CapabilityIdentity, run_uids
from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.rows import tables_of
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import RunNotFound, StoreConfigInvalid, TableNotFound
from analytics_pipeline.store.append.recovery import Unreadable
from analytics_pipeline.store.append.tables import COMPACT_AFTER, AppendTables
from analytics_pipeline.store.schema import arrow_schema
from analytics_pipeline.store.sealed import DEFAULT_TIMEOUT


class ParquetBackend(StorageBackend):
    """Records in a folder of Parquet files, `{root}/{table}/{milliseconds}_{8 hex}.parquet`, or in an object store.

    Args:
        root: the folder, made by the first write; or the URL of an object store's prefix, such as `s3://bucket/runs`:
            there each run is an object of its own, and less is promised: see `object_store`.
        storage_options: of the object store, for fsspec; never shown.
        cache: folder that keeps what was fetched from an object store for later processes.
        unreadable: what to do about damaged files that another program left there.
        compact_after: files of a table at which a write copies them into one, for queries.

    Raises:
        StoreConfigInvalid: the root shows credentials or is misspelt, or its object store cannot be opened.
    """

    def __init__(
        self,
        root: str | Path,
        storage_options: Mapping[str, Any] | None = None,
        *,
        cache: Path | None = None,
        unreadable: Unreadable = Unreadable.REFUSE,
        compact_after: int = COMPACT_AFTER,
    ) -> None:
        def tables(folder: Path) -> AppendTables:
            return AppendTables(folder, CapabilityIdentity(), unreadable=unreadable, compact_after=compact_after)

        try:
            place = checked_root(root)
        except ValueError as error:
            raise StoreConfigInvalid(str(error)) from None
        self._files: Files = (
            ObjectFiles(place, storage_options or {}, tables, cache)
            if is_object_uri(place)
            else FolderFiles(tables(folder_of(place)))
        )

    @property
    def uri(self) -> str:
        """The folder, or the prefix of the object store."""
        return self._files.uri

    @property
    def tables(self) -> AppendTables:
        """The tables to read, as they are now; of an object store a local mirror."""
        return self._files.current()

    @property
    def path(self) -> Path:
        """The folder that queries read."""
        return self.tables.layout.root

    def write(self, records: Sequence[Record]) -> None:
        """Store the records that are not there yet; see `write_with_receipt`."""
        self.write_with_receipt(records)

    def write_with_receipt(self, records: Sequence[Record]) -> StorageWriteReceipt:
        """Store the records that are not there yet, all of them or none; in an object store, each run or not.

        Raises:
            RecordValueRefused, RecordsDisagree, RunRefused: see `tables_of`.
            StoreError, CapabilityError: see `AppendTables.append` and `ObjectFiles.append`.
        """
        batches = tables_of(records)
        if not batches:
            return StorageWriteReceipt()
        files: dict[str, dict[str, str]] = {}
        counts = dict.fromkeys(batches, 0)
        for table, uri, rows in self._files.append(batches):
            counts[table] += rows.num_rows
            if uri is not None and table not in RESERVED:
                for run_uid in run_uids(rows):
                    files.setdefault(run_uid, {})[table] = uri
        return StorageWriteReceipt(files, counts)

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
        tables = self.tables
        files = tables.files(table_name)
        if not files.columns:
            raise TableNotFound(table_name, self.list_tables())
        schema = pl.DataFrame(arrow_schema(files.columns).empty_table()).schema
        paths = list(tables.paths(table_name, files))
        return pl.scan_parquet(paths, schema=schema, missing_columns="insert", extra_columns="ignore", glob=False)

    def get_run_uri(self, run_uid: str) -> str:
        """The file that holds a run's rows.

        Raises:
            RunNotFound: no table has the run.
        """
        path = self.tables.locate(run_uid, without=RESERVED)
        if path is None:
            raise RunNotFound(run_uid, self.uri)
        return self._files.uri_of(path)

    def query_sql(
        self, sql: str, *, timeout: float = DEFAULT_TIMEOUT, max_rows: int | None = None, untrusted: bool = False
    ) -> pl.DataFrame:
        """The rows of one SELECT over all tables, in DuckDB's dialect; an empty frame while nothing is stored.

        Args:
            sql: reads tables by their plain names, and can read or change nothing else.
            timeout: seconds after which it is interrupted.
            max_rows: more than these are refused.
            untrusted: see `SealedSql.query`.

        Raises:
            StoreError: see `AppendTables.query`.
        """
        return self.tables.query(sql, timeout=timeout, max_rows=max_rows, untrusted=untrusted)
