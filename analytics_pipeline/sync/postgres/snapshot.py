"""Snapshot: one exported state of the source that any number of connections of both drivers read.

Belongs here: locking what the queries read before the snapshot exists, exporting it, joining it, letting it go.
Does not: which columns or rows are read (`readers`).

TRUNCATE and rewriting ALTERs ignore snapshots: without the locks a half read after one would be empty, with no error.
With them, such a statement waits until the snapshot is let go. A session that joins while it waits would queue behind
it for ever: it fails with `SourceLocked` instead, which is transient. Spare connections, which hold the locks from the
beginning, have no such fate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

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
_ISOLATION = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
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
    _spares: list[adbc.Connection] = field(default_factory=list, repr=False, compare=False)

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
        """The same through ADBC, a spare one while there is one; the caller closes it."""
        if self._spares:
            return self._spares.pop()
        connection = connect_adbc(self.url)
        return _run(connection, self.url, (_ISOLATION, *self._join()))

    def keep_spare(self, connection: adbc.Connection) -> None:
        """Take over a connection that holds the locks already: join it to the snapshot."""
        self._spares.append(_run(connection, self.url, self._join()))

    def close_spares(self) -> None:
        """Let go of what no reader took."""
        while self._spares:
            self._spares.pop().close()

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
    connections: int = 0,
) -> Iterator[Snapshot]:
    """Lock everything that the queries read, then export a snapshot and hold it open.

    Args:
        url: of the source.
        queries: all that will be read in the snapshot.
        query_timeout: seconds a statement may take, None for no limit.
        on_notice: told what could not be locked, and why.
        stall_timeout: seconds after which an answer that does not come is given up.
        connections: spare ADBC ones to open at once; as many as will read, and no rewrite can get in between.

    Raises:
        SourceError: no connection, a wrong query, or a table that stayed locked by another session.
    """
    try:
        coordinator, snapshot, tables = within(
            stall_timeout, lambda: _coordinate(url, queries, query_timeout, connections), _let_go
        )
    except Stalled:
        raise SourceStalled(str(source_of(url)), stall_timeout) from None
    try:
        for reason in filter(None, map(_why_not, tables)):
            on_notice(reason)
        yield snapshot
    finally:
        _let_go((coordinator, snapshot, tables))


_Opened: TypeAlias = tuple[psycopg.Connection, Snapshot, list[BaseTable]]


def _let_go(opened: _Opened) -> None:
    """Close without ROLLBACK first: that would wait for an answer that a frozen network never brings."""
    coordinator, snapshot, _ = opened
    coordinator.close()
    snapshot.close_spares()


def _coordinate(url: SecretStr, queries: Sequence[str], query_timeout: float | None, connections: int) -> _Opened:
    coordinator = connect(url, query_timeout=query_timeout)
    spares: list[adbc.Connection] = []
    try:
        # In the order of their oids, so that two refreshes never wait for each other.
        tables = sorted({t for query in queries for t in base_tables(coordinator, query)}, key=lambda t: t.oid)
        locked = tuple(t for t in tables if _why_not(t) is None)
        with translated(url):
            # LOCK takes no snapshot: the coordinator's is taken by the export, when all sessions hold all locks.
            for statement in (_BEGIN, *_lock(locked)):
                coordinator.execute(statement.encode())
            patience = f"SET LOCAL lock_timeout = '{_JOINED_LOCK_TIMEOUT:g}s'"
            for _ in range(connections):
                spares.append(connect_adbc(url))
                _run(spares[-1], url, (_ISOLATION, patience, *_lock(locked)))
            snapshot = Snapshot(_export(coordinator), url, locked, query_timeout)
        for spare in spares:
            snapshot.keep_spare(spare)
    except BaseException:
        for each in (coordinator, *spares):
            each.close()
        raise
    return coordinator, snapshot, tables


def _lock(tables: Sequence[BaseTable]) -> list[str]:
    names = ", ".join(f"{quote_identifier(t.schema)}.{quote_identifier(t.name)}" for t in tables)
    return [f"LOCK TABLE {names} IN ACCESS SHARE MODE"] if tables else []


def _export(coordinator: psycopg.Connection) -> str:
    row = coordinator.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None, "a SELECT without FROM gives one row"
    return str(row[0])


def _run(connection: adbc.Connection, url: SecretStr, statements: Sequence[str]) -> adbc.Connection:
    """Run statements in the connection's one transaction; close it if one fails."""
    try:
        with translated(url), connection.cursor() as cursor:
            connection.adbc_connection.set_autocommit(False)
            for statement in statements:
                cursor.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _why_not(table: BaseTable) -> str | None:
    name = f"{table.schema}.{table.name}"
    if table.kind not in _LOCKABLE:
        kind = {"m": "a materialised view", "f": "a foreign table"}.get(table.kind, "not a table")
        return f"{name} is {kind} and cannot be locked: a refresh or change of it during the read can show half-way."
    if not table.selectable:
        return f"{name} cannot be locked without SELECT on it: a TRUNCATE or ALTER during the read can show half-way."
    return None
