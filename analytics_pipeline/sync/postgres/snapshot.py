"""Snapshot: one exported state of the source that any number of connections of both drivers read.

Belongs here: locking what the queries read before the snapshot exists, exporting it, joining it, letting it go.
Does not: which columns or rows are read (`readers`).

TRUNCATE and rewriting ALTERs ignore snapshots: without the locks a half read after one would be empty, with no error.
With them, such a statement waits until the snapshot is let go. A session that joins while it waits would queue behind
it for ever: it fails with `SourceLocked` instead, which is transient. Spare connections, which hold the locks from the
beginning, have no such fate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from pydantic import SecretStr

from analytics_pipeline.errors import SourceReadFailed, SourceStalled
from analytics_pipeline.sync.postgres.describe import BaseTable, base_tables
from analytics_pipeline.sync.postgres.failures import DRIVER_ERRORS, Source, source_of, sqlstate, translated
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.session import (
    LOCK_TIMEOUT,
    Connection,
    Server,
    begin_sql,
    connect,
    connect_adbc,
    execute,
    server_of,
)
from analytics_pipeline.sync.postgres.sql import quote_identifier, quote_literal
from analytics_pipeline.waiting import all_done, in_thread, result_of

_LOCKABLE = ("r", "p", "v")
_JOINED_LOCK_TIMEOUT = 1.0
"""A joined session waits for a lock only behind somebody who waits for the coordinator's: more patience is no use."""
_LOCK_NOT_AVAILABLE = "55P03"
_CLOSE_SECONDS = 0.5
_CONNECTING = "postgres connection"


@dataclass(frozen=True)
class Spares:
    """Connections to open before the locks are taken, so that no rewrite gets between the locks and a reader.

    Args:
        adbc: for streams of rows.
        psycopg: for descriptions, ranges and the cursor tier.
    """

    adbc: int = 0
    psycopg: int = 0


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot; it lives until `open_snapshot` ends.

    Args:
        id: what pg_export_snapshot() gave.
        url: of the source.
        locked: relations that no other session can truncate or rewrite meanwhile.
        query_timeout: seconds a statement of any joined connection may take, its streaming included.
        server: of all its connections.
        coordinator: the connection that exported it, for one question at a time; `open_snapshot` closes it.
    """

    id: str
    url: SecretStr
    locked: tuple[BaseTable, ...]
    query_timeout: float | None
    server: Server
    coordinator: psycopg.Connection = field(repr=False, compare=False)
    _streams: list[adbc.Connection] = field(default_factory=list, repr=False, compare=False)
    _sessions: list[psycopg.Connection] = field(default_factory=list, repr=False, compare=False)

    @property
    def source(self) -> Source:
        """Where it is, without secrets."""
        return source_of(self.url)

    def connect(self) -> psycopg.Connection:
        """A connection inside the snapshot, in its read-only transaction, a spare one while there is one.

        The caller closes it.
        """
        with suppress(IndexError):  # not `if`: another thread may take the last one in between
            return self._sessions.pop()
        connection = connect(self.url, query_timeout=self.query_timeout)
        self._join(connection, "ROLLBACK", self._begin(_JOINED_LOCK_TIMEOUT))
        return connection

    def connect_adbc(self) -> adbc.Connection:
        """The same through ADBC."""
        with suppress(IndexError):
            return self._streams.pop()
        connection = connect_adbc(self.url)
        self._join(connection, self._begin(_JOINED_LOCK_TIMEOUT))
        return connection

    def adopt(self, streams: Iterable[adbc.Connection], sessions: Iterable[psycopg.Connection]) -> None:
        """Take over connections that hold the locks already: join them to the snapshot."""
        self._streams.extend(streams)
        self._sessions.extend(sessions)
        for each in (*self._streams, *self._sessions):
            self._join(each)

    def close_spares(self) -> None:
        """Let go of what no reader took.

        Not in this thread: ADBC rolls back first, and a frozen network never answers.
        """
        for spare in (*self._streams, *self._sessions):
            with suppress(Stalled):
                within(_CLOSE_SECONDS, spare.close, lambda _: None)
        self._streams.clear()
        self._sessions.clear()

    def _begin(self, lock_timeout: float) -> str:
        return begin_sql(self.url, self.server, self.query_timeout, lock_timeout, shared=True)

    def _join(self, connection: Connection, *before: str) -> None:
        """Import the snapshot in the connection's transaction; close the connection if that fails."""
        milliseconds = round(_JOINED_LOCK_TIMEOUT * 1000)
        imported = f"SET TRANSACTION SNAPSHOT {quote_literal(self.id)}; SET LOCAL lock_timeout = {milliseconds}"
        try:
            with translated(self.url):
                execute(connection, "; ".join([*before, imported]))
        except BaseException:
            connection.close()
            raise


@contextmanager
def open_snapshot(
    url: SecretStr,
    queries: Sequence[str],
    *,
    query_timeout: float | None,
    on_notice: Callable[[str], None],
    stall_timeout: float = 300.0,
    spares: Spares = Spares(),
) -> Iterator[Snapshot]:
    """Lock everything that the queries read, then export a snapshot and hold it open.

    Args:
        url: of the source.
        queries: all that will be read in the snapshot.
        query_timeout: seconds a statement may take, None for no limit.
        on_notice: told what could not be locked, and why.
        stall_timeout: seconds after which an answer that does not come is given up.
        spares: connections to open at once; as many as will read, and no rewrite can get in between.

    Raises:
        SourceError: no connection, a wrong query, or a table that stayed locked by another session.
    """
    try:
        coordinator, snapshot, tables = within(
            stall_timeout, lambda: _coordinate(url, queries, query_timeout, spares, on_notice), _let_go
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


def _coordinate(
    url: SecretStr,
    queries: Sequence[str],
    query_timeout: float | None,
    spares: Spares,
    on_notice: Callable[[str], None],
) -> _Opened:
    open_session = partial(connect, url, query_timeout=query_timeout)
    first = in_thread(open_session, _CONNECTING)
    fast = [in_thread(partial(connect_adbc, url), _CONNECTING) for _ in range(spares.adbc)]
    slow = [in_thread(open_session, _CONNECTING) for _ in range(spares.psycopg)]
    all_done([first, *fast, *slow])
    try:
        coordinator, sessions = result_of(first), [result_of(done) for done in slow]
        streams = _usable(fast, on_notice)
        tables = sorted({t for query in queries for t in base_tables(coordinator, query)}, key=lambda t: t.oid)
        locked = tuple(t for t in tables if t.selectable and t.kind in _LOCKABLE)
        server = server_of(coordinator)
        begin = begin_sql(url, server, query_timeout, LOCK_TIMEOUT, shared=True)
        with translated(url):
            _lock_all(coordinator, streams, sessions, locked, begin)
            snapshot = Snapshot(_export(coordinator), url, locked, query_timeout, server, coordinator)
        snapshot.adopt(streams, sessions)
    except BaseException:
        for done in (*fast, *slow, first):
            if done.exception() is None:
                result_of(done).close()
        raise
    return coordinator, snapshot, tables


def _usable(opened: Sequence[Future[adbc.Connection]], on_notice: Callable[[str], None]) -> list[adbc.Connection]:
    """The connections, or none where ADBC does not get along with the server: then the cursor tier reads."""
    failures = [error for done in opened if (error := done.exception())]
    for error in failures:
        if not isinstance(error, SourceReadFailed):
            raise error
    if failures:
        on_notice(f"The fast driver cannot connect. {failures[0]}")
    return [result_of(done) for done in opened if done.exception() is None]


def _lock_all(
    coordinator: psycopg.Connection,
    streams: Sequence[adbc.Connection],
    sessions: Sequence[psycopg.Connection],
    tables: Sequence[BaseTable],
    begin: str,
) -> None:
    """Begin everywhere, and take the locks everywhere or nowhere.

    LOCK takes no snapshot: the coordinator's is taken by the export, when all connections hold all locks. A rewrite
    that queues behind the coordinator's lock would hold up the others for ever, for it waits for us: then all let go.
    """
    lock = _lock(tables)
    deadline = time.monotonic() + LOCK_TIMEOUT
    for each in streams:
        execute(each, begin)
    for one in (coordinator, *sessions):
        execute(one, f"ROLLBACK; {begin}")
    while lock:
        execute(coordinator, lock)
        try:
            for each in (*streams, *sessions):
                execute(each, f"{lock} NOWAIT")
        except DRIVER_ERRORS as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE or time.monotonic() > deadline:
                raise
        else:
            return
        for each in (*streams, *sessions, coordinator):
            execute(each, f"ROLLBACK; {begin}")


def _lock(tables: Sequence[BaseTable]) -> str:
    names = ", ".join(f"{quote_identifier(t.schema)}.{quote_identifier(t.name)}" for t in tables)
    return f"LOCK TABLE {names} IN ACCESS SHARE MODE" if tables else ""


def _export(coordinator: psycopg.Connection) -> str:
    row = coordinator.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
    assert row is not None, "a SELECT without FROM gives one row"
    return str(row[0])


def _why_not(table: BaseTable) -> str | None:
    name = f"{table.schema}.{table.name}"
    if table.kind not in _LOCKABLE:
        kind = {"m": "a materialised view", "f": "a foreign table"}.get(table.kind, "not a table")
        return f"{name} is {kind} and cannot be locked: a refresh or change of it during the read can show half-way."
    if not table.selectable and not table.covered:
        return f"{name} cannot be locked without SELECT on it: a TRUNCATE or ALTER during the read can show half-way."
    return None
