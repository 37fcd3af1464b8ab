"""Connections of one sync: their common name in Postgres, how long one may be silent, stopping all when one fails.

Belongs here: what the halves share while they talk to the source at the same time.
Does not: what they ask (`changes`, `plan`), or the streams of rows, which have a watchdog of their own (`postgres`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event
from time import monotonic
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from analytics_pipeline.errors import SourceError, SourceStalled
from analytics_pipeline.sync.postgres.failures import source_of, translated
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.session import connected
from analytics_pipeline.sync.postgres.snapshot import Snapshot
from analytics_pipeline.waiting import STEP, all_done, in_thread, wait_for

T = TypeVar("T")

_CANCEL_EVERY = 0.2
_CANCEL_SECONDS = 2.0
_INTERRUPTED_SECONDS = 1.5
"""After an interrupt, threads that have not ended by then are left behind; the process may be gone at once."""
_CANCEL = """
SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE application_name OPERATOR(pg_catalog.=) %s AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
  AND state OPERATOR(pg_catalog.=) 'active'
"""


class Stopped(Exception):
    """Ends a task whose partner failed."""


def labelled(url: SecretStr, label: str) -> SecretStr:
    """The connection string with a name of its own in pg_stat_activity, by which its queries can be cancelled.

    Raises:
        InvalidSourceUrl: it cannot be parsed.
    """
    source_of(url)
    return SecretStr(make_conninfo(url.get_secret_value(), application_name=label))


def label_of(snapshot: Snapshot) -> str:
    """The name of a snapshot's connections in pg_stat_activity."""
    return str(conninfo_to_dict(snapshot.url.get_secret_value())["application_name"])


def cancel_labelled(url: SecretStr, label: str) -> None:
    """Cancel all running queries of that name; says nothing if the source is gone, for then they end by themselves."""

    def cancel() -> None:
        with connected(url) as connection:
            connection.execute(_CANCEL, (label,))

    with suppress(SourceError, Stalled):
        within(_CANCEL_SECONDS, cancel, lambda _: None)


@contextmanager
def cancelled_by_interrupt(url: SecretStr, label: str) -> Iterator[None]:
    """Cancel the queries of that name when an interrupt ends the `with` block; a failure leaves them alone.

    An interrupt is what no `except Exception` catches: Ctrl-C, SIGTERM, Dagster's own.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException:
        _cancel_until_idle(url, label, _INTERRUPTED_SECONDS)
        raise


def _cancel_until_idle(url: SecretStr, label: str, seconds: float) -> None:
    """Cancel again and again, on one connection, until none of that name is active; a query may be about to begin."""
    ended = Event()

    def cancel() -> None:
        with connected(url) as connection:
            while not ended.is_set() and connection.execute(_CANCEL, (label,)).fetchall():
                wait_for(ended, _CANCEL_EVERY)
                connection.execute("SELECT pg_catalog.pg_stat_clear_snapshot()")  # its transaction keeps one

    try:
        with suppress(SourceError, Stalled):
            within(seconds, cancel, lambda _: None)
    finally:
        ended.set()


def asked(snapshot: Snapshot, seconds: float, ask: Callable[[psycopg.Connection], T]) -> T:
    """What a question gives on a connection of the snapshot that nothing else uses meanwhile.

    Args:
        snapshot: to ask in.
        seconds: after which an answer that does not come is given up.
        ask: the question.

    Raises:
        SourceStalled: no answer.
        SourceError: the source refused.
    """
    with snapshot.session() as connection:
        return _within(snapshot, seconds, partial(_translated, snapshot, ask, connection))


def _translated(snapshot: Snapshot, ask: Callable[[psycopg.Connection], T], connection: psycopg.Connection) -> T:
    with translated(snapshot.url):
        return ask(connection)


def _within(snapshot: Snapshot, seconds: float, work: Callable[[], T]) -> T:
    try:
        return within(seconds, work, lambda _: None)
    except Stalled:
        raise SourceStalled(str(snapshot.source), seconds) from None


def together(tasks: Sequence[Callable[[], T]], failed: Event, cancel: Callable[[], None]) -> list[T]:
    """Run tasks at once; when one fails, or this thread is interrupted, stop the others.

    Args:
        tasks: each in a thread of its own; they look at `failed` where they can.
        failed: set as soon as one has failed.
        cancel: called again and again until the others have ended, for a query may just be about to begin.

    Raises:
        BaseException: the first failure in time.
    """
    errors: list[BaseException] = []

    def run(task: Callable[[], T]) -> T:
        try:
            return task()
        except Stopped:
            raise
        except BaseException as error:
            errors.append(error)
            failed.set()
            raise

    futures = [in_thread(partial(run, task), "half") for task in tasks]
    try:
        while not failed.is_set() and wait(futures, timeout=STEP, return_when=FIRST_EXCEPTION).not_done:
            pass
    except BaseException:
        failed.set()
        _stop(futures, cancel, _INTERRUPTED_SECONDS)
        raise
    if failed.is_set():
        _stop(futures, cancel, None)
    if errors:
        raise errors[0]
    return [future.result(timeout=0) for future in futures]


def _stop(futures: Sequence[Future[T]], cancel: Callable[[], None], seconds: float | None) -> None:
    """Cancel until all have ended, or for so many seconds; in a thread, for the network may be frozen."""
    until = None if seconds is None else monotonic() + seconds

    def cancel_again() -> None:
        while not all_done(futures, _CANCEL_EVERY) and (until is None or monotonic() < until):
            cancel()

    in_thread(cancel_again, "cancel")
    all_done(futures, seconds)
