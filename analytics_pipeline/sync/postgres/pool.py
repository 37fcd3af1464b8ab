"""The connections of one snapshot, lent for one question or one stream of rows at a time.

Belongs here: how many are open at once, who waits for one, cancelling what is lent, closing all.
Does not: how a connection is opened and joins the snapshot (`snapshot`, `opening`).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic, sleep
from typing import TypeVar

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.pq import TransactionStatus

from analytics_pipeline.errors import SourceConnectionLost, SourceReadFailed
from analytics_pipeline.sync.postgres.failures import DRIVER_ERRORS, Source
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.session import Connection, execute
from analytics_pipeline.waiting import STEP, in_thread, wait_until

C = TypeVar("C", psycopg.Connection, adbc.Connection)

_CLOSE_SECONDS = 0.5
_CANCEL_SECONDS = 2.0
_CUT_SECONDS = 10.0


class Pool:
    """Connections of both drivers in one snapshot; any thread may borrow one.

    Args:
        source: named in errors.
        coordinator: keeps the snapshot alive; lent like the others, closed last.
        limit: connections open at once, the coordinator among them; None for no limit.
        is_pooled: whether a pooler is between: it keeps a server session whose transaction has ended.
    """

    def __init__(self, source: Source, coordinator: psycopg.Connection, limit: int | None, *, is_pooled: bool) -> None:
        self.limit = limit
        self._source, self._coordinator, self._is_pooled = source, coordinator, is_pooled
        self._changed = threading.Condition()
        self._sessions: list[psycopg.Connection] = [coordinator]
        self._streams: list[adbc.Connection] = []
        self._open = 1
        self._is_closed = False
        self._cancels: dict[int, Callable[[], None]] = {}

    def add(self, streams: Sequence[adbc.Connection], sessions: Sequence[psycopg.Connection]) -> None:
        """Take over connections that are in the snapshot already."""
        with self._changed:
            self._streams.extend(streams)
            self._sessions.extend(sessions)
            self._open += len(streams) + len(sessions)

    @contextmanager
    def session(self, connect: Callable[[], psycopg.Connection]) -> Iterator[psycopg.Connection]:
        """Lend a psycopg connection; one whose transaction has failed is not lent again.

        Args:
            connect: opens a further one, where that is allowed.

        Raises:
            SourceConnectionLost: the snapshot was closed meanwhile.
        """
        connection = self._borrow(self._sessions, self._streams, connect)
        try:
            with self.cancellable(lambda: connection.cancel_safe(timeout=_CANCEL_SECONDS)):
                yield connection
        finally:
            is_usable = connection.pgconn.transaction_status == TransactionStatus.INTRANS
            self._give_back(self._sessions, connection, is_usable=is_usable)

    def stream(self, connect: Callable[[], adbc.Connection]) -> adbc.Connection:
        """Lend an ADBC connection; `end_stream` takes it back.

        Args:
            connect: opens a further one, where that is allowed.

        Raises:
            SourceReadFailed: one connection is all that there is.
            SourceConnectionLost: the snapshot was closed meanwhile.
        """
        if self.limit == 1:
            raise SourceReadFailed(str(self._source), "the fast driver needs a second connection")
        return self._borrow(self._streams, self._sessions, connect)

    def end_stream(self, connection: adbc.Connection, *, is_usable: bool) -> None:
        """Take back an ADBC connection; one whose stream was not read to its end is closed."""
        self._give_back(self._streams, connection, is_usable=is_usable)

    @contextmanager
    def cancellable(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Let `cancel_all` cancel what runs in the block."""
        key = id(cancel)
        with self._changed:
            self._cancels[key] = cancel
        try:
            yield
        finally:
            with self._changed:
                del self._cancels[key]

    def cancel_all(self) -> None:
        """Cancel what runs on the lent connections; a cancel request needs no free connection."""
        with self._changed:
            cancels = list(self._cancels.values())
        for cancel in cancels:
            with suppress(Stalled, *DRIVER_ERRORS):
                within(_CANCEL_SECONDS, cancel, lambda _: None)

    def close(self) -> None:
        """Close what is not lent, and what is lent as soon as it is given back; the coordinator in any case."""
        with self._changed:
            self._is_closed = True
            is_lent = self._coordinator not in self._sessions
            idle = [each for each in (*self._sessions, *self._streams) if each is not self._coordinator]
            self._sessions.clear()
            self._streams.clear()
            self._changed.notify_all()
        for each in idle:
            self._close(each)
        if is_lent:
            cut(self._coordinator)
        else:
            self._close(self._coordinator)

    def _borrow(self, own: list[C], others: Sequence[Connection], connect: Callable[[], C]) -> C:
        with self._changed:
            wait_until(self._changed, lambda: self._is_closed or own or self._may_open() or self._spare_of(others))
            if self._is_closed:
                raise SourceConnectionLost(str(self._source), "its snapshot was closed")
            if own:
                return own.pop()
            evicted = None if self._may_open() else self._spare_of(others)
            self._open += 1
            if evicted is not None:
                self._open -= 1
                (self._sessions if evicted in self._sessions else self._streams).remove(evicted)
        try:
            if evicted is not None:
                self._close(evicted)
            return connect()
        except BaseException:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()
            raise

    def _may_open(self) -> bool:
        return self.limit is None or self._open < self.limit

    def _spare_of(self, others: Sequence[Connection]) -> Connection | None:
        """An idle connection of the other driver, which gives up its place."""
        return next((each for each in others if each is not self._coordinator), None)

    def _give_back(self, own: list[C], connection: C, *, is_usable: bool) -> None:
        with self._changed:
            is_kept = is_usable and not self._is_closed
            if is_kept:
                own.append(connection)
            elif connection is self._coordinator:
                self._is_closed = True  # the snapshot went with its transaction: no one is to wait for it
            else:
                self._open -= 1
            self._changed.notify_all()
        if not is_kept and connection is not self._coordinator:
            self._close(connection, is_usable=is_usable)

    def _close(self, connection: Connection, *, is_usable: bool = True) -> None:
        """Close in another thread: a frozen network never answers a ROLLBACK, and ADBC waits for it."""
        close_in_time(connection, rolls_back=self._is_pooled and is_usable)


def cut(connection: psycopg.Connection) -> None:
    """Shut the socket of a connection in which another thread may wait for the server.

    To close it would free the memory that this thread uses, which ends the process. Its wait fails instead, and the
    connection is closed a moment after that.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)
    in_thread(partial(_close_after_work, connection), "cut connection")


def _close_after_work(connection: psycopg.Connection) -> None:
    until = monotonic() + _CUT_SECONDS
    while connection.pgconn.transaction_status == TransactionStatus.ACTIVE and monotonic() < until:
        sleep(STEP)
    sleep(STEP)  # the other thread reads why its wait failed
    connection.close()


def close_in_time(connection: Connection, *, rolls_back: bool = False) -> None:
    """Close a connection, and wait no longer than half a second for that; one at work is cut.

    Args:
        connection: of either driver.
        rolls_back: ends its transaction first: a pooler then keeps the server session, and need not open another.
    """
    if isinstance(connection, psycopg.Connection) and connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
        cut(connection)
        return

    def close() -> None:
        try:
            if rolls_back:
                execute(connection, "ROLLBACK")
        finally:
            connection.close()

    with suppress(Stalled, *DRIVER_ERRORS):
        within(_CLOSE_SECONDS, close, lambda _: None)
