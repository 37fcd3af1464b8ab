"""Waiting that a signal can end: events, threads, futures and file locks, in short steps.

Belongs here: every wait of this package without a limit of its own, and threads that do not outlive the main one.
Does not: what is waited for, or what is done after an interrupt.

Polars installs a SIGINT handler with SA_RESTART. From then on the kernel resumes a system call after the signal, and
Python runs its own handler only when that call returns: after an untimed wait, perhaps never.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Protocol, TypeVar

from analytics_pipeline.forks import FileLock

T = TypeVar("T")

STEP = 0.1
"""Seconds of one wait; a signal is handled after at most this long."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TERMINATED = 128 + signal.SIGTERM


def wait_for(event: threading.Event, seconds: float | None = None) -> bool:
    """Wait for an event; whether it came.

    Args:
        event: to wait for.
        seconds: at most; None for no limit.
    """
    return _in_steps(event.wait, event.is_set, seconds)


class Joinable(Protocol):
    """A thread, or a process of `multiprocessing`."""

    def is_alive(self) -> bool:
        """Whether it still runs."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        ...


def join(worker: Joinable, seconds: float | None = None) -> bool:
    """Wait for the end of a thread or process; whether it has ended.

    Args:
        worker: to wait for.
        seconds: at most; None for no limit.
    """
    return _in_steps(worker.join, lambda: not worker.is_alive(), seconds)


def wait_until(changed: threading.Condition, holds: Callable[[], object], seconds: float | None = None) -> bool:
    """Wait, with the condition's lock held, until something holds; whether it does.

    Args:
        changed: notified when that may have changed.
        holds: what to wait for.
        seconds: at most; None for no limit.
    """
    return _in_steps(changed.wait, lambda: bool(holds()), seconds)


def all_done(futures: Iterable[Future[T]], seconds: float | None = None) -> bool:
    """Wait for futures; whether all of them are done.

    Args:
        futures: to wait for.
        seconds: at most; None for no limit.
    """
    waited = list(futures)
    return _in_steps(lambda step: wait(waited, timeout=step), lambda: all(each.done() for each in waited), seconds)


def result_of(future: Future[T], seconds: float | None = None) -> T:
    """What a future gives.

    Args:
        future: to wait for.
        seconds: at most; None for no limit.

    Raises:
        TimeoutError: it is not done yet.
        BaseException: what the future's work raised.
    """
    all_done([future], seconds)
    return future.result(timeout=0)


def in_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Do the work in a daemon thread. Python waits at its exit for the threads of an executor, but not for this one.

    Args:
        work: what to do.
        name: of the thread.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again, by `result_of`
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


def at_once(tasks: Sequence[Callable[[], T]], workers: int, name: str) -> list[T]:
    """The results of tasks, in their order; a failure or an interrupt starts no further one.

    Args:
        tasks: each is called in one of the threads.
        workers: threads at most.
        name: of the threads.

    Raises:
        BaseException: the failure of the first task, in their order, that failed.
    """
    todo = deque(enumerate(tasks))
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def work() -> None:
        while True:
            try:
                number, task = todo.popleft()
            except IndexError:
                return
            try:
                results[number] = task()
            except BaseException as error:  # noqa: BLE001 - it is raised again, in the caller's thread
                errors[number] = error
                todo.clear()

    threads = [in_thread(work, name) for _ in range(min(workers, len(tasks)))]
    try:
        for thread in threads:
            result_of(thread)
    finally:
        todo.clear()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(tasks))]


def flock(descriptor: int, kind: int) -> None:
    """Take a lock on an open file as `fcntl.flock` does, in a thread where another process holds it.

    Args:
        descriptor: of the file.
        kind: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        # A twin, for the caller may close its own descriptor while the thread still waits.
        _flock_in_thread(FileLock(lambda: os.dup(descriptor)), kind)


def _flock_in_thread(twin: FileLock, kind: int) -> None:
    guard = threading.Lock()
    given_up = False

    def take() -> None:
        try:
            fcntl.flock(twin.descriptor, kind)
            with guard:
                if given_up:
                    fcntl.flock(twin.descriptor, fcntl.LOCK_UN)
        finally:
            twin.close()

    taken = in_thread(take, "file lock")
    try:
        result_of(taken)
    except BaseException:
        with guard:
            given_up = True
        raise


def let_signals_interrupt() -> None:
    """Take back SA_RESTART, whichever library set it; callable from any thread."""
    for each in _SIGNALS:
        signal.siginterrupt(each, True)  # noqa: FBT003 - the signature of the standard library


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a `with` block like an interrupt does, so that its `finally` blocks run.

    Where a program has a handler of its own (Dagster has), or outside of the main thread, this changes nothing.
    """
    let_signals_interrupt()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(_TERMINATED)


def _in_steps(wait_once: Callable[[float], object], is_done: Callable[[], bool], seconds: float | None) -> bool:
    until = None if seconds is None else monotonic() + seconds
    while not is_done():
        left = STEP if until is None else min(STEP, until - monotonic())
        if left <= 0:
            return False
        wait_once(left)
    return True
