"""Opens the connections of a snapshot: the first one decides the server, the others are opened all or none.

Belongs here: one address for all connections, the check that one server answers, letting go when there are too few.
Does not: locks and the snapshot itself (`snapshot`), lending the connections (`pool`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, TypeVar

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from analytics_pipeline.errors import SourceBusy, SourceConnectionsExhausted, SourceReadFailed
from analytics_pipeline.sync.postgres.failures import source_of, translated
from analytics_pipeline.sync.postgres.pool import close_in_time
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.session import (
    LOCK_TIMEOUT,
    Server,
    begin_sql,
    connect,
    connect_adbc,
    connect_session,
    execute,
    server_of,
)
from analytics_pipeline.waiting import all_done, in_thread, result_of

T = TypeVar("T")
C = TypeVar("C", psycopg.Connection, adbc.Connection)
_Opening: TypeAlias = "Future[psycopg.Connection] | Future[adbc.Connection]"

_FIRST_SECONDS = 60.0
"""How long to wait for the first connection. A pooler may be busy; and who holds none keeps nobody waiting."""
_OTHERS_SECONDS = 3.0
"""How long to wait for the others while some are held: each of two syncs may hold what the other one waits for."""
_ENDING_SECONDS = 0.3
_SLOWER = 10
"""On a slow network, as many times as long as the first connection took, up to the limit of the first one."""
_CHOOSES_A_SERVER = ("load_balance_hosts", "target_session_attrs", "host", "hostaddr", "port")
_CONNECTING = "postgres connection"


@dataclass(frozen=True)
class Spares:
    """Connections to open before the locks are taken, so that no rewrite gets between the locks and a reader.

    Args:
        adbc: for streams of rows.
        psycopg: for descriptions, ranges and the cursor tier.
        limit: connections at once in the snapshot, its coordinator among them; None for no limit.
    """

    adbc: int = 0
    psycopg: int = 0
    limit: int | None = None

    @property
    def wanted(self) -> int:
        """Connections to open at once, the coordinator among them."""
        return 1 + self.adbc + self.psycopg

    def within(self, connections: int) -> Spares:
        """The same with fewer connections: streams first, for they take the longest."""
        streams = min(self.adbc, max(0, connections - 1))
        sessions = min(self.psycopg, max(0, connections - 1 - streams))
        limit = connections if self.limit is None else min(self.limit, connections)
        return Spares(streams, sessions, limit)

    @property
    def capped(self) -> Spares:
        """The same within its own limit."""
        return self if self.limit is None else replace(self.within(self.limit), limit=self.limit)


class TooFew(Exception):
    """Fewer connections than wanted may be used; all of them are closed.

    Args:
        fewer: with how many to begin again.
        reason: how many were wanted and how many there were, as a sentence.
    """

    def __init__(self, fewer: int, reason: str) -> None:
        super().__init__(reason)
        self.fewer, self.reason = fewer, reason


@dataclass(frozen=True)
class First:
    """The first connection, and where the others go.

    Args:
        connection: in a read-only transaction.
        server: that it reached.
        address: the connection string with this one address. Secret.
        seconds: that it took.
    """

    connection: psycopg.Connection
    server: Server
    address: SecretStr
    seconds: float


def open_first(url: SecretStr, query_timeout: float | None, stall_timeout: float, wanted: int) -> First:
    """Open the connection that decides the server.

    Args:
        url: of the source.
        query_timeout: seconds for each statement.
        stall_timeout: seconds to wait at most.
        wanted: connections in all; for the error.

    Raises:
        SourceConnectionsExhausted: server, role or pooler have no connection free.
        SourceError: no connection for another reason.
    """
    source, began = source_of(url), time.monotonic()

    def open_it() -> tuple[psycopg.Connection, Server]:
        connection = connect(url, query_timeout=query_timeout)
        try:
            with translated(url):
                return connection, server_of(connection)
        except BaseException:
            connection.close()
            raise

    seconds = min(_FIRST_SECONDS, stall_timeout)
    try:
        connection, server = within(seconds, partial(_retried, open_it), lambda opened: opened[0].close())
    except Stalled:
        why = f"no answer to its first statement within {seconds:g} s, as where a pooler is busy or a network hangs"
        raise SourceConnectionsExhausted(str(source), 1, wanted, 0, why) from None
    except SourceConnectionsExhausted:
        raise
    except SourceBusy as error:
        raise SourceConnectionsExhausted(str(source), 1, wanted, 0, error.detail) from None
    return First(connection, server, address_of(url, connection), time.monotonic() - began)


def address_of(url: SecretStr, connection: psycopg.Connection) -> SecretStr:
    """The connection string with the one address that a connection has reached; the host's name stays, for TLS."""
    with translated(url):
        given = conninfo_to_dict(url.get_secret_value())
    info = connection.info
    reached = {"host": info.host, "hostaddr": info.hostaddr, "port": str(info.port)}
    kept = {key: str(value) for key, value in given.items() if key not in _CHOOSES_A_SERVER}
    return SecretStr(make_conninfo("", **(kept | {key: value for key, value in reached.items() if value})))


class Others:
    """The further connections, which open meanwhile, each in a transaction without a snapshot.

    Behind a pooler one more is opened and closed again: a sync that holds the whole pool would stop the application.

    Args:
        first: the connection that has been opened.
        spares: how many.
        query_timeout: seconds for each statement.
    """

    def __init__(self, first: First, spares: Spares, query_timeout: float | None) -> None:
        server, address = first.server, first.address
        begin = f"{server.guard_sql}; {begin_sql(address, server, query_timeout, LOCK_TIMEOUT, shared=True)}"
        probes = 1 if server.is_pooled and spares.wanted > 1 else 0
        self._spares = spares
        self._seconds = min(max(_OTHERS_SECONDS, _SLOWER * first.seconds), _FIRST_SECONDS)
        self._fast = [_opening(connect_adbc, address, begin) for _ in range(spares.adbc)]
        self._slow = [_opening(connect_session, address, begin) for _ in range(spares.psycopg + probes)]

    def wait(self, on_notice: Callable[[str], None]) -> tuple[list[adbc.Connection], list[psycopg.Connection]]:
        """Wait for all of them, or let go of all.

        Args:
            on_notice: told that the fast driver does not work here.

        Raises:
            TooFew: not all came in time.
            SourceError: one could not be opened for another reason.
        """
        try:
            all_done([*self._fast, *self._slow], self._seconds)
            self._refuse_too_few()
            streams = _usable(self._fast, on_notice)
            sessions = [result_of(done) for done in self._slow]
        except BaseException:
            self.let_go()
            raise
        for probe in sessions[self._spares.psycopg :]:
            close_in_time(probe, rolls_back=True)
        return streams, sessions[: self._spares.psycopg]

    def let_go(self) -> None:
        """Close those that came, and the others as soon as they come."""
        for fast in self._fast:
            fast.add_done_callback(_close_late)
        for slow in self._slow:
            slow.add_done_callback(_close_late)

    def _refuse_too_few(self) -> None:
        opened: list[_Opening] = [*self._fast, *self._slow]
        failures = [error for done in opened if done.done() and (error := done.exception())]
        for error in failures:
            if not isinstance(error, (SourceBusy, SourceReadFailed)):
                raise error
        busy = [error.detail for error in failures if isinstance(error, SourceBusy)]
        late = [done for done in opened if not done.done()]
        if busy or late:
            wanted = self._spares.wanted
            had = min(wanted, 1 + len(opened) - len(late) - len(failures))
            fewer = max(1, min((had + 1) // 2, wanted - 1))
            why = busy[0] if busy else f"the others were not there after {self._seconds:.0f} s"
            raise TooFew(
                fewer,
                f"{wanted} connections wanted, 1 needed, {had} available: {why}. Going on with {fewer}, so that others "
                "find one, too.",
            )


def _opening(open_it: Callable[[SecretStr], C], address: SecretStr, statements: str) -> Future[C]:
    return in_thread(partial(_retried, partial(open_one, open_it, address, statements)), _CONNECTING)


def _retried(open_it: Callable[[], T]) -> T:
    """Try once more: a session counts until its process has ended, after its client; and ADBC connects twice."""
    try:
        return open_it()
    except SourceBusy:
        time.sleep(_ENDING_SECONDS)
        return open_it()


def open_one(open_it: Callable[[SecretStr], C], address: SecretStr, statements: str) -> C:
    """Open one connection and send its first statements.

    Raises:
        SourceServersDiffer: another server answered.
        SourceError: it could not be opened.
    """
    connection = open_it(address)
    try:
        with translated(address):
            execute(connection, statements)
    except BaseException:
        connection.close()
        raise
    return connection


def _usable(opened: Sequence[Future[adbc.Connection]], on_notice: Callable[[str], None]) -> list[adbc.Connection]:
    """The connections, or none where ADBC does not get along with the server: then the cursor tier reads."""
    failures = [error for done in opened if (error := done.exception())]
    for error in failures:
        if not isinstance(error, SourceReadFailed):
            raise error
    if failures:
        on_notice(f"The fast driver cannot connect. {failures[0]}")
    return [result_of(done) for done in opened if done.exception() is None]


def _close_late(done: Future[C]) -> None:
    """Close a connection that nobody waits for any more."""
    if done.exception() is None:
        in_thread(partial(close_in_time, done.result(timeout=0), rolls_back=True), _CONNECTING)
