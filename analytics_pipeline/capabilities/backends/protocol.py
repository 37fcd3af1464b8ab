"""The protocol of backends: what the store needs of whatever keeps the records.

Belongs here: its methods and what a write tells. Does not: any implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import RunNotFound


@dataclass(frozen=True)
class StorageWriteReceipt:
    """What one write stored.

    Args:
        run_table_files: run_uid → payload table → file that holds the run's rows; runs that were there are left out.
        rows: new rows by table, `runs` included.
    """

    run_table_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def resolve_run_uri(self, run_uid: str) -> str | None:
        """The file that this write stored a run in; None where it stored none.

        Raises:
            ValueError: it stored the run in several tables.
        """
        files = self.run_table_files.get(run_uid, {})
        if len(files) > 1:
            raise ValueError(f"Run {run_uid!r} went to several tables: {', '.join(sorted(files))}. Name one of them.")
        return next(iter(files.values()), None)


class StorageBackend(Protocol):
    """What keeps records. The first four methods are enough for one of your own: inherit from this class for the rest.

    A write is idempotent: of a payload table, rows of a run that is there are left out; of `runs`, rows with the key
    (run_uid, capability_table, entity_type, entity_id), with the run_event_id where there is one.
    """

    def write(self, records: Sequence[Record]) -> None:
        """Store the records that are not there yet."""
        ...

    def list_tables(self) -> list[str]:
        """Names of the tables that hold rows, sorted."""
        ...

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table, with the names of their Polars types."""
        ...

    def query_sql(self, sql: str) -> pl.DataFrame:
        """The rows of a query over all tables."""
        ...

    def write_with_receipt(self, records: Sequence[Record]) -> StorageWriteReceipt:
        """As `write`, and tell what was stored; by default nothing is told."""
        self.write(records)
        return StorageWriteReceipt()

    def scan_table(self, table_name: str) -> pl.LazyFrame:
        """The rows of a table, read when they are needed; by default at once."""
        return self.query_sql(f"SELECT * FROM {table_name}").lazy()

    def get_run_uri(self, run_uid: str) -> str:
        """Where a run's rows are; by default the name of the payload table that has it.

        Raises:
            RunNotFound: nowhere.
        """
        wanted = run_uid.replace("'", "''")
        for table in self.list_tables():
            if (
                table not in RESERVED
                and not self.query_sql(f"SELECT 1 FROM {table} WHERE run_uid = '{wanted}' LIMIT 1").is_empty()
            ):
                return table
        raise RunNotFound(run_uid, type(self).__name__)
