"""File locks that die with their process: the commit lock, and the lock by which a live stage is told from a dead one.

Belongs here: `flock` with a time limit and a holder's name. Does not: what is done under a lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from analytics_pipeline.errors import StoreBusy, StoreUnwritable
from analytics_pipeline.forks import FileLock
from analytics_pipeline.waiting import flock

__all__ = ["FileLock", "exclusive", "locked", "shared", "try_lock"]

_FIRST_WAIT = 0.002
_LONGEST_WAIT = 0.05
_SIGNATURE = 24


def try_lock(path: Path) -> FileLock | None:
    """The lock on a file (created where missing), or None while another holder has it.

    Raises:
        StoreUnwritable: this user may not create or change the file.
    """
    while True:
        lock = FileLock(lambda: _open(path))
        try:
            fcntl.flock(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, lock.descriptor):
                break
        except BlockingIOError:
            lock.release()
            return None
        except BaseException:
            lock.release()
            raise
        lock.release()  # the file was removed between open and lock: a lock on it would exclude nobody
    _sign(lock.descriptor)
    return lock


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreUnwritable(str(path)) from error
        raise


def _open_to_share(path: Path) -> int:
    """As `_open`; a file that this user may only read will do, too."""
    try:
        return _open(path)
    except StoreUnwritable:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY)
        raise


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold the lock on a file for the length of a `with` block.

    Args:
        path: the lock file; its content names the holder.
        timeout: seconds to wait for another holder.

    Raises:
        StoreBusy: the other holder kept it for longer; names that process.
        StoreUnwritable: see `try_lock`.
    """
    deadline = time.monotonic() + timeout
    wait = _FIRST_WAIT
    while (lock := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise StoreBusy(str(path), timeout, path.read_text().strip() or "an unknown process")
        time.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)
    try:
        yield
    finally:
        lock.release()


def exclusive(path: Path, log: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold the lock on a file alone for a `with` block, waiting for other holders as long as they live.

    Args:
        path: the lock file.
        log: told once for whom this waits.

    Raises:
        StoreUnwritable: see `try_lock`.
    """
    return _held(path, fcntl.LOCK_EX, log)


def shared(path: Path, log: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold the lock on a file together with others of this kind, waiting for who holds it alone.

    Args:
        path: the lock file.
        log: told once for whom this waits.

    Raises:
        StoreUnwritable: this user may not read the file, or there is none and he may not create it.
    """
    return _held(path, fcntl.LOCK_SH, log)


@contextmanager
def _held(path: Path, kind: int, log: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(lambda: _open(path) if kind == fcntl.LOCK_EX else _open_to_share(path))
    try:
        try:
            fcntl.flock(lock.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"Waiting for {path.read_text().strip() or 'another process'}, which holds {path.name}.")
            flock(lock.descriptor, kind)
        _sign(lock.descriptor)
        yield
    finally:
        lock.release()


def _sign(descriptor: int) -> None:
    """Name the holder for those who wait; on a full disk the lock is as good without."""
    with contextlib.suppress(OSError):
        # Padded, not cut: ext4 forces a file that was cut to the disk as it is closed, which takes milliseconds.
        os.pwrite(descriptor, f"process {os.getpid()}".ljust(_SIGNATURE).encode(), 0)
