"""Files of a local base that are on their way: written, finished or left by killed writers.

Belongs here: what is done to one of them, by the descriptor of its folder. Does not: how folders are reached (`local`).
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
from collections.abc import Iterable

from analytics_pipeline.forks import FileLock
from analytics_pipeline.objects.container import Bytes, Encoded
from analytics_pipeline.objects.names import new_object_name
from analytics_pipeline.waiting import flock

AT_ONCE = 64 * 1024
"""Objects up to this size are written and read by one call of the operating system."""

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How files are opened: no link is followed, and nobody waits for the other end of a pipe."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_pieces(encoded: Encoded, descriptor: int) -> None:
    """Write a container to an open file."""
    pieces: Iterable[Bytes] = encoded.pieces()
    if encoded.size <= AT_ONCE:
        pieces = [b"".join(pieces)]
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def new_file(staging: int) -> tuple[str, FileLock]:
    """A new file with a lock on it, which tells a living writer from a dead one."""
    while True:
        name = new_object_name()
        lock = FileLock(functools.partial(os.open, name, _NEW_FILE, 0o644, dir_fd=staging))
        flock(lock.descriptor, fcntl.LOCK_EX)
        if os.fstat(lock.descriptor).st_nlink:
            return name, lock
        lock.release()  # the sweeper took it between the two calls


def remove_if_dead(name: str, staging: int) -> int:
    """Remove a file that no living writer holds; the number of files that went."""
    try:
        descriptor = os.open(name, READ, dir_fd=staging)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=staging)
    except (BlockingIOError, FileNotFoundError):
        return 0
    finally:
        os.close(descriptor)
    return 1


def remove_folder(name: str, parent: int) -> int:
    """Remove a folder with all that is in it; the number of files."""
    count = sum(len(files) for _, _, files, _ in os.fwalk(name, dir_fd=parent, follow_symlinks=False))
    shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
    return count
