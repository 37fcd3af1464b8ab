"""The protocol of backends: what the store needs of whatever keeps the records.

Belongs here: its methods and what a write tells. Does not: any implementation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import polars as pl

from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.errors import QueryRefused, RunNotFound


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


class CustomBackend(Protocol):
    """The least that keeps records: four methods, whoever's class it is.

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


@runtime_checkable
class StorageBackend(CustomBackend, Protocol):
    """What keeps records, and tells where: whoever inherits from it needs the four methods of `CustomBackend` alone."""

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


class CompletedBackend(StorageBackend):
    """A backend of four methods or more: its own where it has them, the others by default.

    Args:
        given: the four, at least.
    """

    def __init__(self, given: CustomBackend) -> None:
        self._given = given

    def write(self, records: Sequence[Record]) -> None:
        """Store the records that are not there yet."""
        self._given.write(records)

    def write_with_receipt(self, records: Sequence[Record]) -> StorageWriteReceipt:
        """As `write`, and tell what was stored, if it does."""
        own = self._own("write_with_receipt")
        return super().write_with_receipt(records) if own is None else own(records)

    def list_tables(self) -> list[str]:
        """Names of the tables that hold rows, sorted."""
        return self._given.list_tables()

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table, with the names of their Polars types."""
        return self._given.describe_table(table_name)

    def scan_table(self, table_name: str) -> pl.LazyFrame:
        """The rows of a table, read when they are needed; by default at once."""
        own = self._own("scan_table")
        return super().scan_table(table_name) if own is None else own(table_name)

    def get_run_uri(self, run_uid: str) -> str:
        """Where a run's rows are; by default the name of the payload table that has it."""
        own = self._own("get_run_uri")
        return super().get_run_uri(run_uid) if own is None else own(run_uid)

    def query_sql(self, sql: str, **limits: float | None) -> pl.DataFrame:
        """The rows of a query over all tables, within those of the limits that it has."""
        return query_within(self._given, sql, limits)

    def _own(self, name: str) -> Callable[..., Any] | None:
        own = getattr(self._given, name, None)
        return own if callable(own) else None


def query_within(backend: CustomBackend, sql: str, limits: Mapping[str, float | None]) -> pl.DataFrame:
    """The rows of a query.

    Args:
        backend: to ask.
        sql: in its dialect.
        limits: by name; those that its `query_sql` has no argument for are left out.

    Raises:
        QueryRefused: the query is untrusted, and the backend cannot run it in a process of its own.
    """
    query: Callable[..., pl.DataFrame] = backend.query_sql
    if not limits:
        return query(sql)
    known = inspect.signature(query).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    if limits.get("untrusted") and not takes_all and "untrusted" not in known:
        raise QueryRefused(f"an untrusted query, which {type(backend).__name__} has no process for")
    return query(sql, **{name: value for name, value in limits.items() if takes_all or name in known})
