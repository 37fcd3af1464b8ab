"""Forks: what a child of `os.fork` must not take over from its parent.

A child has one thread, and a copy of everything else. A lock that another thread of the parent held would never be
released, SQLite would take the parent's connections for connections of its own (and report a file as busy, or unlink
its log while the child writes it), DuckDB would wait for threads that are not there, and a file lock that came along
would be held until the child ends, even if the parent is killed.

So work that must not be copied half done runs in `without_fork`; who keeps something open registers how it is closed
before a fork (`close_before_fork`) or renewed in the child (`renew_in_child`, `leave_to_parent`); a file lock is a
`FileLock`.

Belongs here: these, and the hooks that call them. Does not: programs that are started; they inherit nothing.
"""

from __future__ import annotations

import fcntl
import logging  # before the hooks below: Python calls the last ones first, and what is waited for may log
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
"""Seconds that a fork waits for other threads. After that it goes on: a child that cannot use a table is less harm."""

_STEP = 0.1
"""Seconds of one wait."""


class _Gate:
    """Counts the threads that are in work which must not be copied half done, and lets a fork wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._depths: dict[int, int] = {}
        self._closed_by: int | None = None

    def enter(self) -> None:
        """Begin such work; waits for a fork of another thread. Reentrant."""
        own = threading.get_ident()
        with self._changed:
            while own not in self._depths and self._closed_by not in {None, own}:
                self._changed.wait(_STEP)  # with a limit: a signal would not end a wait without one
            self._depths[own] = self._depths.get(own, 0) + 1

    def leave(self) -> None:
        """End it."""
        own = threading.get_ident()
        with self._changed:
            self._depths[own] -= 1
            if not self._depths[own]:
                del self._depths[own]
            self._changed.notify_all()

    def close(self) -> bool:
        """Let no other thread begin, and wait until none is at work; whether no thread is, this one neither."""
        own = threading.get_ident()
        deadline = time.monotonic() + _LONGEST_WAIT
        with self._changed:
            while self._closed_by not in {None, own} or self._depths.keys() - {own}:
                if self._closed_by is None:
                    self._closed_by = own
                if time.monotonic() >= deadline:
                    break
                self._changed.wait(_STEP)
            self._closed_by = own
            return not self._depths

    def open(self) -> None:
        """Let others begin again."""
        with self._changed:
            self._closed_by = None
            self._changed.notify_all()

    def renew(self) -> None:
        """In a child: only the thread that is there can be at work."""
        own = threading.get_ident()
        self._changed = threading.Condition()
        self._depths = {own: self._depths[own]} if own in self._depths else {}
        self._closed_by = None


_gate = _Gate()
_first_process = os.getpid()
_Registered = dict[int, "tuple[weakref.ref[Any], Callable[[Any], None]]"]
_before: _Registered = {}
_in_child: _Registered = {}


@contextmanager
def without_fork() -> Iterator[None]:
    """Do work that a child must not get a half-done copy of: forks of other threads wait for the end of the block.

    Nothing in it may wait for another process, or for another thread's fork.
    """
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


def close_before_fork(owner: T, close: Callable[[T], None]) -> None:
    """Have something closed before each fork of this process, as long as its owner lives.

    Args:
        owner: of what is to be closed; not kept alive by this.
        close: called while no other thread is in `without_fork`; the owner opens again what it needs later.
    """
    _register(_before, owner, close)


def renew_in_child(owner: T, renew: Callable[[T], None]) -> None:
    """Have something set right in each child of this process, as long as its owner lives.

    Args:
        owner: of locks, sessions and the like; not kept alive by this.
        renew: called in the child, which has one thread then; must not wait for anything.
    """
    _register(_in_child, owner, renew)


def is_forked() -> bool:
    """Whether this process was forked from one that had this module, and began no program since."""
    return os.getpid() != _first_process


def leave_to_parent(copy: object) -> None:
    """In a child: keep a copy of what the parent has open, untouched: collecting it would close what is not its own."""
    _of_parents.append(copy)


_of_parents: list[object] = []


def _register(registered: _Registered, owner: T, call: Callable[[T], None]) -> None:
    key = id(owner)

    def remove(gone: object) -> None:
        if key in registered and registered[key][0] is gone:
            del registered[key]

    registered[key] = (weakref.ref(owner, remove), call)


def _call(registered: _Registered) -> None:
    for reference, call in list(registered.values()):
        if (owner := reference()) is not None:
            try:
                call(owner)
            except Exception:  # the others are called all the same
                logger.exception("A %s was not made ready for a fork.", type(owner).__name__)


def _prepare() -> None:
    if _gate.close():
        _call(_before)
    else:
        logger.warning("This process forks in the middle of work on tables; the child may find them busy.")


def _renew() -> None:
    _gate.renew()
    _call(_in_child)


os.register_at_fork(before=_prepare, after_in_parent=_gate.open, after_in_child=_renew)


class FileLock:
    """A lock that this process holds on an open file; the kernel drops it when the process ends, however it ends.

    A forked child does not hold it, and does not keep it from being released: its copy of the file is closed.

    Args:
        open_file: opens the file; gives its descriptor, which belongs to this object from then on.
    """

    def __init__(self, open_file: Callable[[], int]) -> None:
        with without_fork():
            self.descriptor = open_file()
            renew_in_child(self, FileLock.close)

    def release(self) -> None:
        """Give the lock back and close the file; harmless when done twice."""
        if self.descriptor >= 0:
            with suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)  # a process that was started by `exec` may hold it, too
            self.close()

    def close(self) -> None:
        """Close the file without giving the lock back, for another descriptor of this process holds it."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
