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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from pydantic import SecretStr

from analytics_pipeline.errors import SourceBusy, SourceConnectionsExhausted, SourceStalled
from analytics_pipeline.sync.postgres.describe import BaseTable, base_tables
from analytics_pipeline.sync.postgres.failures import DRIVER_ERRORS, Source, source_of, sqlstate, translated
from analytics_pipeline.sync.postgres.opening import First, Others, Spares, TooFew, open_first, open_one
from analytics_pipeline.sync.postgres.pool import Pool, close_in_time, cut
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.session import (
    LOCK_TIMEOUT,
    Server,
    begin_sql,
    connect_adbc,
    connect_session,
    execute,
)
from analytics_pipeline.sync.postgres.sql import quote_identifier, quote_literal

_LOCKABLE = ("r", "p", "v")
_JOINED_LOCK_TIMEOUT = 1.0
"""A joined session waits for a lock only behind somebody who waits for the coordinator's: more patience is no use."""
_LOCK_NOT_AVAILABLE = "55P03"
_OPENING_SECONDS = 10.0
"""How long a further connection may take, the queue of a pooler included; the sync begins again with fewer then."""
_MANY_TABLES = 16
_INDEXES = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_index AS i
WHERE i.indrelid OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.oid[])
"""

C = TypeVar("C", psycopg.Connection, adbc.Connection)


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot; it lives until `open_snapshot` ends.

    Args:
        id: what pg_export_snapshot() gave.
        url: of the source.
        address: of the one server that all its connections go to. Secret.
        locked: relations that no other session can truncate or rewrite meanwhile.
        query_timeout: seconds a statement of any joined connection may take, its streaming included.
        server: of all its connections.
        pool: its connections.
    """

    id: str
    url: SecretStr
    address: SecretStr
    locked: tuple[BaseTable, ...]
    query_timeout: float | None
    server: Server
    pool: Pool = field(repr=False, compare=False)

    @property
    def source(self) -> Source:
        """Where it is, without secrets."""
        return source_of(self.url)

    @property
    def connections(self) -> int | None:
        """Connections that it may have at once, the one that exported it among them; None for no limit."""
        return self.pool.limit

    def session(self) -> AbstractContextManager[psycopg.Connection]:
        """A psycopg connection inside the snapshot, in its read-only transaction; waits for one where all are lent.

        Raises:
            SourceError: it could not be opened.
        """
        return self.pool.session(lambda: self._opened(connect_session))

    @contextmanager
    def stream(self) -> Iterator[adbc.Connection]:
        """The same through ADBC. It is closed where the block fails or ends early.

        Raises:
            SourceError: it could not be opened.
        """
        connection = self.pool.stream(lambda: self._opened(connect_adbc))
        is_usable = False
        try:
            yield connection
            is_usable = True
        finally:
            self.pool.end_stream(connection, is_usable=is_usable)

    def _opened(self, open_it: Callable[[SecretStr], C]) -> C:
        """Open a further connection and import the snapshot, all in one message."""
        begin = begin_sql(self.url, self.server, self.query_timeout, _JOINED_LOCK_TIMEOUT, shared=True)
        statements = f"{self.server.guard_sql}; {begin}; {_import_sql(self.id)}"
        try:
            return within(_OPENING_SECONDS, lambda: open_one(open_it, self.address, statements), close_in_time)
        except SourceBusy as error:
            raise SourceConnectionsExhausted(str(self.source), 1, 1, 0, error.detail) from None
        except Stalled:
            why = f"no further connection within {_OPENING_SECONDS:.0f} s"
            raise SourceConnectionsExhausted(str(self.source), 1, 1, 0, why) from None


def _import_sql(snapshot: str) -> str:
    """Statements by which a transaction without a snapshot takes over an exported one, and its patience ends."""
    milliseconds = round(_JOINED_LOCK_TIMEOUT * 1000)
    return f"SET TRANSACTION SNAPSHOT {quote_literal(snapshot)}; SET LOCAL lock_timeout = {milliseconds}"


@contextmanager
def open_snapshot(
    url: SecretStr,
    queries: Sequence[str],
    *,
    query_timeout: float | None,
    on_notice: Callable[[str], None],
    stall_timeout: float = 300.0,
    spares: Spares | None = None,
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
    opening = _Opening(url, queries, query_timeout, stall_timeout, on_notice)
    wanted = (spares or Spares()).capped
    while True:
        try:
            snapshot, tables = opening.open(wanted)
            break
        except TooFew as few:
            on_notice(f"{source_of(url)}: {few.reason}")
            wanted = wanted.within(few.fewer)
    try:
        for reason in filter(None, map(_why_not, tables)):
            on_notice(reason)
        yield snapshot
    finally:
        snapshot.pool.close()


@dataclass(frozen=True)
class _Opening:
    """What `open_snapshot` was asked for."""

    url: SecretStr
    queries: Sequence[str]
    query_timeout: float | None
    stall_timeout: float
    on_notice: Callable[[str], None]

    def open(self, spares: Spares) -> tuple[Snapshot, list[BaseTable]]:
        """The snapshot and what its queries read, with these connections or none.

        Raises:
            TooFew: it can be had with fewer.
            SourceError: it cannot be had.
        """
        first = open_first(self.url, self.query_timeout, self.stall_timeout, spares.wanted)
        try:
            return within(
                self.stall_timeout, lambda: self._coordinate(first, spares), lambda opened: opened[0].pool.close()
            )
        except Stalled:
            cut(first.connection)
            raise SourceStalled(str(source_of(self.url)), self.stall_timeout) from None
        except Exception:
            close_in_time(first.connection)
            raise
        except BaseException:  # an interrupt: the thread may still wait for the server
            cut(first.connection)
            raise

    def _coordinate(self, first: First, spares: Spares) -> tuple[Snapshot, list[BaseTable]]:
        coordinator, server = first.connection, first.server
        others = Others(first, spares, self.query_timeout)
        try:
            tables = sorted({t for query in self.queries for t in base_tables(coordinator, query)}, key=lambda t: t.oid)
            _refuse_too_many_locks(first, tables, spares.wanted)
        except BaseException:
            others.let_go()
            raise
        streams, sessions = others.wait(self.on_notice)
        try:
            locked = tuple(t for t in tables if t.selectable and t.kind in _LOCKABLE)
            begin = begin_sql(self.url, server, self.query_timeout, LOCK_TIMEOUT, shared=True)
            with translated(self.url):
                _lock_all(coordinator, streams, sessions, locked, begin)
                exported = _export(coordinator)
                for each in (*streams, *sessions):
                    execute(each, _import_sql(exported))
        except BaseException:
            for each in (*streams, *sessions):
                close_in_time(each)
            raise
        pool = Pool(source_of(self.url), coordinator, spares.limit, is_pooled=server.is_pooled)
        pool.add(streams, sessions)
        return Snapshot(exported, self.url, first.address, locked, self.query_timeout, server, pool), tables


def _refuse_too_many_locks(first: First, tables: Sequence[BaseTable], wanted: int) -> None:
    """Each session that plans a query locks every partition and index that the query might read.

    Raises:
        TooFew: more sessions than take half of the lock table.
    """
    if wanted == 1 or len(tables) < _MANY_TABLES:
        return
    row = first.connection.execute(_INDEXES, ([table.oid for table in tables],)).fetchone()
    assert row is not None, "a count is one row"
    locks = len(tables) + int(row[0])
    if locks * wanted * 2 > first.server.lock_slots:
        fewer = max(1, first.server.lock_slots // (2 * locks))
        raise TooFew(
            fewer,
            f"{wanted} connections wanted, but {locks:,} locks in each would fill the lock table of about "
            f"{first.server.lock_slots:,}. Going on with {fewer}; a higher max_locks_per_transaction allows more.",
        )


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
    execute(coordinator, f"ROLLBACK; {begin}")
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
