"""A base in a folder. Nothing outside of it is ever touched: no link below it is followed, whenever it was put there.

Belongs here: opening folders one by one without following links, fsync, renames, locks of folders. Does not: temporary
files (`local_files`), what is in a file (`container`), or which names may be (`names`).
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from analytics_pipeline.errors import ObjectNotFound, ObjectsBaseRefused, ObjectUnwritable, PrefixRefused
from analytics_pipeline.forks import FileLock
from analytics_pipeline.objects.base import Durability, Entry
from analytics_pipeline.objects.container import Encoded, Source
from analytics_pipeline.objects.local_files import (
    AT_ONCE,
    READ,
    new_file,
    remove_folder,
    remove_if_dead,
    write_pieces,
)
from analytics_pipeline.objects.names import new_object_name
from analytics_pipeline.waiting import flock

STAGING = ".staging"
"""Files on their way in and folders on their way out; no prefix begins with a dot."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalBase:
    """A base in a folder, which is made with the first write.

    Args:
        root: the folder; may be a link itself.
        durability: when a write counts as done.

    Raises:
        ObjectsBaseRefused: a file is there.
    """

    url = "file:///"
    has_locks = True

    def __init__(self, root: Path, durability: Durability = Durability.DISK) -> None:
        self.root = root.absolute()
        self._durable = durability is Durability.DISK
        if self.root.exists() and not self.root.is_dir():
            raise ObjectsBaseRefused(str(root), "it is a file")

    def __str__(self) -> str:
        return str(self.root)

    def write(self, path: str, encoded: Encoded) -> None:
        """See `Base.write`."""
        prefix, _, name = path.rpartition("/")
        try:
            folder, staging = self._open_both(prefix, STAGING)
            try:
                self._write(encoded, name, folder, staging)
            finally:
                os.close(folder)
                os.close(staging)
        except OSError as error:
            if isinstance(error, ObjectUnwritable | ObjectNotFound):
                raise
            raise ObjectUnwritable(str(self), f"{error.strerror}") from error

    def _write(self, encoded: Encoded, name: str, folder: int, staging: int) -> None:
        temporary, lock = new_file(staging)
        try:
            try:
                write_pieces(encoded, lock.descriptor)
                self._sync(lock.descriptor)
                os.rename(temporary, name, src_dir_fd=staging, dst_dir_fd=folder)
            finally:
                lock.release()
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=staging)
            raise
        self._sync(folder)

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[Source, int]]:
        """See `Base.opened`."""
        prefix, _, name = path.rpartition("/")
        try:
            folder = self._opened_folder(prefix, create=False)
            try:
                descriptor = os.open(name, READ, dir_fd=folder)
            finally:
                os.close(folder)
        except FileNotFoundError:
            raise ObjectNotFound(f"{self.url}{path}", str(self)) from None
        except OSError as error:
            raise self._refused(path, error) from None
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise PrefixRefused(path, "is no file")
            if facts.st_size <= AT_ONCE:
                yield io.BytesIO(os.read(descriptor, facts.st_size)), facts.st_size
            else:
                yield io.FileIO(descriptor, "rb", closefd=False), facts.st_size
        finally:
            os.close(descriptor)

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See `Base.entries`."""
        try:
            with self._folder(prefix) as folder, os.scandir(folder) as found:
                return [
                    Entry(item.name, None if item.is_dir(follow_symlinks=False) else _modified(item))
                    for item in found
                    if not item.name.startswith(".")
                ]
        except FileNotFoundError:
            return []

    def remove(self, path: str) -> None:
        """See `Base.remove`."""
        prefix, _, name = path.rpartition("/")
        with suppress(FileNotFoundError), self._folder(prefix) as folder:
            os.unlink(name, dir_fd=folder)
            self._sync(folder)

    def remove_all(self, prefix: str) -> int:
        """See `Base.remove_all`. It goes out of sight at once, by one rename."""
        parent, _, name = prefix.rpartition("/")
        try:
            with self._folder(parent) as folder:
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(facts.st_mode):
                    if not stat.S_ISREG(facts.st_mode):
                        raise PrefixRefused(prefix, "is a link")
                    os.unlink(name, dir_fd=folder)
                    return 1
                gone = f"deleted-{new_object_name()}"
                with self._folder(STAGING, create=True) as staging:
                    os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=staging)
                    self._sync(folder)
                    return remove_folder(gone, staging)
        except FileNotFoundError:
            return 0

    @contextmanager
    def exclusive(self, prefix: str) -> Iterator[None]:
        """Hold the lock on a prefix's folder; a killed holder holds it no longer."""
        while True:
            lock = FileLock(lambda: self._opened_folder(prefix, create=True))
            try:
                flock(lock.descriptor, fcntl.LOCK_EX)
                if self._is_still(prefix, lock.descriptor):
                    yield
                    return
            finally:
                lock.release()

    def clear_staging(self) -> int:
        """See `Base.clear_staging`. A living writer holds a lock on its file."""
        count = 0
        with suppress(FileNotFoundError), self._folder(STAGING) as staging:
            for name in os.listdir(staging):  # noqa: PTH208 - by descriptor
                facts = os.stat(name, dir_fd=staging, follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    count += remove_folder(name, staging)
                elif stat.S_ISREG(facts.st_mode):
                    count += remove_if_dead(name, staging)
                else:  # a link, which nobody follows here, or a pipe: no writer of this store makes any
                    os.unlink(name, dir_fd=staging)
                    count += 1
        return count

    def _is_still(self, prefix: str, folder: int) -> bool:
        try:
            with self._folder(prefix) as found:
                return os.path.samestat(os.fstat(found), os.fstat(folder))
        except FileNotFoundError:
            return False

    @contextmanager
    def _folder(self, prefix: str, *, create: bool = False) -> Iterator[int]:
        """The descriptor of a folder; see `_open_below`."""
        descriptor = self._opened_folder(prefix, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _opened_folder(self, prefix: str, *, create: bool) -> int:
        root = self._open_root(create=create)
        try:
            return self._open_below(prefix, root, create=create)
        finally:
            os.close(root)

    def _open_both(self, prefix: str, other: str) -> tuple[int, int]:
        root = self._open_root(create=True)
        try:
            descriptor = self._open_below(prefix, root, create=True)
            try:
                return descriptor, self._open_below(other, root, create=True)
            except BaseException:
                os.close(descriptor)
                raise
        finally:
            os.close(root)

    def _open_below(self, prefix: str, root: int, *, create: bool) -> int:
        """Open a folder part by part: a link on the way is refused, not followed."""
        parts = prefix.split("/") if prefix else ["."]
        descriptor = root
        for part in parts:
            try:
                below = self._open_folder(part, descriptor, create=create)
            except OSError as error:
                raise self._refused(prefix, error) from None
            finally:
                if descriptor != root:
                    os.close(descriptor)
            descriptor = below
        return descriptor

    def _open_root(self, *, create: bool) -> int:
        try:
            return os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)
        except FileNotFoundError:
            if not create:
                raise
        self.root.mkdir(parents=True, exist_ok=True)
        return os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)

    def _open_folder(self, name: str, parent: int, *, create: bool) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            self._sync(parent)
        return os.open(name, _FOLDER, dir_fd=parent)

    def _refused(self, prefix: str, error: OSError) -> OSError | PrefixRefused:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            return PrefixRefused(prefix, f"leads over a link or a file in {self}, which is not followed")
        return error

    def _sync(self, descriptor: int) -> None:
        if self._durable:
            os.fsync(descriptor)


def _modified(item: os.DirEntry[str]) -> datetime:
    return datetime.fromtimestamp(item.stat(follow_symlinks=False).st_mtime, UTC)
