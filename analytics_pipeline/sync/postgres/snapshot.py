"""Snapshot: one exported state of the source that any number of connections of both drivers read.

Belongs here: locking what the queries read before the snapshot exists, exporting it, joining it, letting it go.
Does not: which columns or rows are read (`readers`).

TRUNCATE and rewriting ALTERs ignore snapshots: without the locks a half read after one would be empty, with no error.
With them, such a statement waits until the snapshot is let go. A session that joins while it waits would queue behind
it for ever; it fails with `SourceLocked` instead, which is transient: the statement gets its turn, a retry the new rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from pydantic import SecretStr

from analytics_pipeline.errors import SourceStalled
from analytics_pipeline.sync.postgres.describe import BaseTable, base_tables
from analytics_pipeline.sync.postgres.failures import Source, source_of, translated
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.session import connect, connect_adbc, settings_sql
from analytics_pipeline.sync.postgres.sql import quote_identifier, quote_literal

_LOCKABLE = ("r", "p", "v")
_JOINED_LOCK_TIMEOUT = 1.0
"""A joined session waits for a lock only behind somebody who waits for the coordinator's: more patience is no use."""
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot; it lives until `open_snapshot` ends.

    Args:
        id: what pg_export_snapshot() gave.
        url: of the source.
        locked: relations that no other session can truncate or rewrite meanwhile.
        query_timeout: seconds a statement of any joined connection may take, its streaming included.
    """

    id: str
    url: SecretStr
    locked: tuple[BaseTable, ...]
    query_timeout: float | None

    @property
    def source(self) -> Source:
        """Where it is, without secrets."""
        return source_of(self.url)

    def connect(self) -> psycopg.Connection:
        """A connection inside the snapshot, in its read-only transaction; the caller closes it."""
        connection = connect(self.url, query_timeout=self.query_timeout)
        try:
            with translated(self.url):
                connection.execute(_BEGIN)
                for statement in self._join():
                    connection.execute(statement.encode())
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_adbc(self) -> adbc.Connection:
        """The same through ADBC; the caller closes it."""
        connection = connect_adbc(self.url)
        try:
            with translated(self.url), connection.cursor() as cursor:
                connection.adbc_connection.set_autocommit(False)
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                for statement in self._join():
                    cursor.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _join(self) -> tuple[str, str]:
        settings = settings_sql(self.query_timeout, _JOINED_LOCK_TIMEOUT, scope="transaction")
        return f"SET TRANSACTION SNAPSHOT {quote_literal(self.id)}", settings


@contextmanager
def open_snapshot(
    url: SecretStr,
    queries: Sequence[str],
    *,
    query_timeout: float | None,
    on_notice: Callable[[str], None],
    stall_timeout: float = 300.0,
) -> Iterator[Snapshot]:
    """Lock everything that the queries read, then export a snapshot and hold it open.

    Args:
        url: of the source.
        queries: all that will be read in the snapshot.
        query_timeout: seconds a statement may take, None for no limit.
        on_notice: told what could not be locked, and why.
        stall_timeout: seconds after which an answer that does not come is given up.

    Raises:
        SourceError: no connection, a wrong query, or a table that stayed locked by another session.
    """
    try:
        coordinator, exported, tables = within(
            stall_timeout, lambda: _coordinate(url, queries, query_timeout), lambda late: late[0].close()
        )
    except Stalled:
        raise SourceStalled(str(source_of(url)), stall_timeout) from None
    try:
        for reason in filter(None, map(_why_not, tables)):
            on_notice(reason)
        yield Snapshot(exported, url, tuple(table for table in tables if _why_not(table) is None), query_timeout)
    finally:
        # No ROLLBACK first: it would wait for an answer that a frozen network never brings.
        coordinator.close()


def _coordinate(
    url: SecretStr, queries: Sequence[str], query_timeout: float | None
) -> tuple[psycopg.Connection, str, list[BaseTable]]:
    coordinator = connect(url, query_timeout=query_timeout)
    try:
        # In the order of their oids, so that two refreshes never wait for each other.
        tables = sorted({t for query in queries for t in base_tables(coordinator, query)}, key=lambda t: t.oid)
        with translated(url):
            return coordinator, _export(coordinator, [t for t in tables if _why_not(t) is None]), tables
    except BaseException:
        coordinator.close()
        raise


def _export(coordinator: psycopg.Connection, tables: Sequence[BaseTable]) -> str:
    coordinator.execute(_BEGIN)
    if tables:
        names = ", ".join(f"{quote_identifier(t.schema)}.{quote_identifier(t.name)}" for t in tables)
        # LOCK takes no snapshot: the transaction's is taken by the SELECT below, when all locks are held.
        coordinator.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE".encode())
    row = coordinator.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None, "a SELECT without FROM gives one row"
    return str(row[0])


def _why_not(table: BaseTable) -> str | None:
    name = f"{table.schema}.{table.name}"
    if table.kind not in _LOCKABLE:
        kind = {"m": "a materialised view", "f": "a foreign table"}.get(table.kind, "not a table")
        return f"{name} is {kind} and cannot be locked: a refresh or change of it during the read can show half-way."
    if not table.selectable:
        return f"{name} cannot be locked without SELECT on it: a TRUNCATE or ALTER during the read can show half-way."
    return None
