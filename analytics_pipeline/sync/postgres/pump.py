"""Pump: hand-over of batches from reader threads to one consumer that never waits for ever.

Belongs here: threads, the bounded queue, the watchdog's clock, stopping readers that may be frozen.
Does not: Postgres. A reader is anything that iterates, can be cancelled from another thread, and closes itself.

Reader threads are daemons: one that a frozen network holds inside a driver cannot be stopped, only left behind.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

from analytics_pipeline.waiting import join, wait_for, wait_until

T = TypeVar("T")

_DEPTH_PER_READER = 8  # MiB each: a row group is written while these wait
_CANCEL_EVERY = 0.2


class Stalled(Exception):
    """Nothing arrived within the time allowed."""


class Reader(Protocol):
    """One connection's worth of batches. Iterating opens and closes the connection in the iterating thread."""

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...

    def cancel(self) -> None:
        """Ask the server to stop, from another thread; may block, may come too early or too late."""


class Pump:
    """Runs readers in threads and yields what they read, in no particular order."""

    def __init__(self, readers: Sequence[Reader], patience: float, stall_timeout: float) -> None:
        self.patience = patience
        """Seconds that the next batch may take: more for the first one."""
        self._stall_timeout = stall_timeout
        self._depth = _DEPTH_PER_READER * len(readers)
        self._changed = threading.Condition()
        self._waiting: deque[pa.RecordBatch] = deque()
        self._error: BaseException | None = None
        self._closed = False
        self._running = len(readers)
        self._threads = [(reader, self._start(reader)) for reader in readers]

    def get(self) -> pa.RecordBatch | None:
        """The next batch, or None when all readers have ended.

        Raises:
            Stalled: nothing came within the stall timeout.
            BaseException: what a reader raised, as it was.
        """
        with self._changed:
            ready = wait_until(self._changed, lambda: self._waiting or self._error or not self._running, self.patience)
            if self._error:
                raise self._error
            if not ready:
                raise Stalled
            self.patience = self._stall_timeout
            batch = self._waiting.popleft() if self._waiting else None
            self._changed.notify_all()
            return batch

    def close(self, grace: float = 5.0) -> None:
        """Stop the readers: cancel those that still run and wait for them, but no longer than `grace` seconds, once."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for reader, thread in self._threads:
            if thread.is_alive():
                threading.Thread(target=_cancel_until_dead, args=(reader, thread, grace), daemon=True).start()
        deadline = time.monotonic() + grace
        for _, thread in self._threads:
            join(thread, max(0.0, deadline - time.monotonic()))

    def _start(self, reader: Reader) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(reader,), name="postgres reader", daemon=True)
        thread.start()
        return thread

    def _run(self, reader: Reader) -> None:
        error: BaseException | None = None
        try:
            batches = iter(reader)
            for batch in batches:
                if not self._put(batch):
                    break
            _close(batches)
        except BaseException as caught:  # noqa: BLE001 - it is raised again, in the consumer's thread
            error = caught
        with self._changed:
            self._running -= 1
            self._error = self._error or error
            self._changed.notify_all()

    def _put(self, batch: pa.RecordBatch) -> bool:
        with self._changed:
            wait_until(self._changed, lambda: self._closed or len(self._waiting) < self._depth)
            if not self._closed:
                self._waiting.append(batch)
                self._changed.notify_all()
            return not self._closed


def within(seconds: float, work: Callable[[], T], late: Callable[[T], None]) -> T:
    """Do the work in a thread and wait for it no longer than this.

    Args:
        seconds: after which `Stalled` is raised; the thread is left behind.
        work: what to do.
        late: given the result of work that ended after it was given up, to let go of it.
    """
    done = threading.Event()
    lock = threading.Lock()
    results: list[T] = []
    errors: list[BaseException] = []
    abandoned = False

    def run() -> None:
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - it is raised again, in the caller's thread
            errors.append(caught)
        else:
            with lock:
                results.append(result)
                if abandoned:
                    late(result)
        done.set()

    threading.Thread(target=run, name="postgres coordinator", daemon=True).start()
    try:
        wait_for(done, seconds)
    finally:  # also of an interrupt: what comes later is let go
        with lock:
            abandoned = not (results or errors)
    if abandoned:
        raise Stalled
    if errors:
        raise errors[0]
    return results[0]


def _close(batches: Iterator[pa.RecordBatch]) -> None:
    """Run a generator's `finally` now, in its own thread."""
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def _cancel_until_dead(reader: Reader, thread: threading.Thread, seconds: float) -> None:
    """Cancel again and again: a request that arrives between two statements is lost."""
    deadline = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < deadline:
        reader.cancel()
        thread.join(_CANCEL_EVERY)
