"""Access to the index: one writer at a time and any number of readers, each with an index that knows the folders.

Belongs here: who may use the index when, what happens to one that is lost, damaged, or not to be written. Does not:
what is done with it (`tables`), bringing it in line (`recovery`).
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa

from analytics_pipeline.errors import AppendFailed, StoreUnwritable
from analytics_pipeline.forks import renew_in_child, without_fork
from analytics_pipeline.store.append import recovery
from analytics_pipeline.store.append.index import Index
from analytics_pipeline.store.append.index_file import IndexFile, index_in_memory, is_damaged, read_index
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.parquet import TypeChange
from analytics_pipeline.store.append.recovery import Identity, State, Unreadable
from analytics_pipeline.store.locks import exclusive, try_lock

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_WAIT = 0.001
_LONGEST_WAIT = 0.05
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_UNWRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


class IndexAccess:
    """The index of a folder of append-only tables.

    Safe to share between threads.

    Args:
        layout: the folder.
        identity: what tells a known row from a new one.
        unreadable: what to do about damaged files that another program left there.
        types: what to do about columns of another type in files of other programs.
    """

    def __init__(self, layout: AppendLayout, identity: Identity, unreadable: Unreadable, types: TypeChange) -> None:
        self._layout = layout
        self._identity = identity
        self._unreadable = unreadable
        self._types = types
        self._file = IndexFile(layout.index)
        self._memory: sqlite3.Connection | None
        self._renew()
        renew_in_child(self, IndexAccess._renew)

    def _renew(self) -> None:
        self._guard = threading.Lock()
        self._memory = None

    def write(self, action: Callable[[Index], T]) -> T:
        """Do something with the index, in line with the folders, while nobody else writes.

        Raises:
            AppendedFileUnreadable: a table has a damaged file.
            AppendFailed, StoreUnwritable: the disk refused.
        """
        with _failures_named(self._layout):
            self._layout.create()
            with exclusive(self._layout.lock, logger.debug):
                return self._locked(action)

    def read(self, ask: Callable[[Index], T]) -> T:
        """What somebody wants to know of the tables as they are now.

        Writers are not waited for; files that another program has just added are looked into first.

        Raises:
            AppendedFileUnreadable: a table has a damaged file.
            AppendFailed: the disk refused.
        """
        wait = _FIRST_WAIT
        while True:
            state, answer = self._read_if_possible(ask)
            if answer is not None and state is State.CURRENT:
                return answer[0]
            try:
                with _failures_named(self._layout):
                    lock = try_lock(self._layout.lock)
                    if lock is not None:
                        try:
                            return self._locked(ask)
                        finally:
                            lock.release()
            except StoreUnwritable:
                return self._read_by_memory(ask)
            if answer is not None and state is State.BEING_WRITTEN:
                return answer[0]
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def discard(self) -> None:
        """Remove the index: the next one who needs it makes it anew."""
        with _failures_named(self._layout):
            self._layout.create()
            with exclusive(self._layout.lock, logger.debug):
                self._file.remove()

    def _read_if_possible(self, ask: Callable[[Index], T]) -> tuple[State, tuple[T] | None]:
        def ask_all(index: Index) -> tuple[State, tuple[T]]:
            return recovery.state_of(index, self._layout), (ask(index),)

        try:
            return read_index(self._layout.index, ask_all)
        except sqlite3.DatabaseError:
            return State.BEHIND, None

    def _locked(self, action: Callable[[Index], T]) -> T:
        try:
            return self._attempt(action)
        except sqlite3.DatabaseError as error:
            if not is_damaged(error):
                raise
            logger.warning("The index of %s is made anew from the Parquet files: %s", self._layout.root, error)
            self._file.remove()
            return self._attempt(action)

    def _attempt(self, action: Callable[[Index], T]) -> T:
        self._layout.create()
        with self._file.opened() as index:
            recovery.settle_calls(index, self._layout)
            recovery.adopt(
                index, self._layout, self._identity, self._unreadable, types=self._types, look=self._layout.mark
            )
            return action(index)

    def _read_by_memory(self, ask: Callable[[Index], T]) -> T:
        with self._guard, without_fork():
            if self._memory is None:
                logger.info("%s cannot be written: this process looks through its files.", self._layout.root)
                self._memory = index_in_memory()
            index = Index(self._memory)
            look = self._layout.changed_at
            recovery.adopt(index, self._layout, self._identity, self._unreadable, types=self._types, look=look)
            return ask(index)


@contextmanager
def _failures_named(layout: AppendLayout) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, pa.ArrowException) as error:
        code = getattr(error, "sqlite_errorcode", None)
        refused = code is not None and code & 0xFF in _UNWRITABLE
        if refused or (isinstance(error, OSError) and error.errno in _REFUSED):
            raise StoreUnwritable(str(layout.root)) from error
        raise AppendFailed(str(layout.root), str(error)) from error
