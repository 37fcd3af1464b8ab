"""The inbox as a folder: reading files without trusting them, moving them so that none is ever lost.

Belongs here: files. Does not: storing what they say (`intake`), names and reports, which all inboxes share (`inbox`).

    inbox/*.json                     waiting
    inbox/stored/2026-01-31/*.json   taken up that day
    inbox/rejected/*.json            refused, each with its *.report.json
    inbox/.moving/*.json             on the way; what a killed intake leaves there goes back

A document is moved by its name, but was read before: whatever stands there under the same name by then is another one.
So a move goes through `.moving`, where it is compared with what was read, and back into the inbox if it differs.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from analytics_pipeline.capabilities.documents.inbox import (
    LARGEST_BYTES,
    Dropped,
    day_folder,
    free_name,
    is_document,
    report_name,
    report_of,
    too_large,
    unique_name,
    unread,
)
from analytics_pipeline.capabilities.documents.reading import WHOLE, Problem, Refusal
from analytics_pipeline.errors import InboxUnusable
from analytics_pipeline.store.locks import exclusive

SETTLE_SECONDS = 10.0
"""A document that is no JSON may be one half of one, for so long after it was last written to."""


class FolderInbox:
    """The folder.

    Args:
        root: of the inbox; made by `held`.
        largest: bytes of a document; a larger one is not read.
        settle: seconds after its last change in which a broken document may still be growing.
    """

    def __init__(self, root: Path, *, largest: int = LARGEST_BYTES, settle: float = SETTLE_SECONDS) -> None:
        self.root = root
        self.rejected = root / "rejected"
        self._moving = root / ".moving"
        self._lock = root / ".intake.lock"
        self._largest = largest
        self._settle = settle

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def has_document(self) -> bool:
        """Whether anything is to be taken up; looks no further than to the first."""
        return any(True for _ in _documents(self.root)) or any(True for _ in _documents(self._moving))

    @contextmanager
    def held(self, log: Callable[[str], None]) -> Iterator[None]:
        """Be the only one who takes documents up, for a `with` block; what a killed one left is put back before.

        Raises:
            InboxUnusable: the folder cannot be made or written.
            StoreUnwritable: its lock cannot.
        """
        try:
            for folder in (self.root / "stored", self.rejected, self._moving):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InboxUnusable(str(self.root), str(error)) from error
        with exclusive(self._lock, log):
            for name in list(_documents(self._moving)):
                self._put_back(self._moving / name)
            yield

    def names(self) -> Iterator[str]:
        """The documents that wait, in no order."""
        return _documents(self.root)

    def read(self, name: str) -> Dropped | None:
        """A document, whatever it turns out to be; None where it is gone."""
        path = self.root / name
        try:
            found = path.lstat()
        except FileNotFoundError:
            return None
        stamp = _stamp(found)
        if not stat.S_ISREG(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a folder or a device"
            return unread(name, stamp, f"is {kind}: put the file itself there")
        if found.st_size > self._largest:
            return too_large(name, stamp, found.st_size, self._largest)
        try:
            # Neither follows a link that has taken the file's place, nor waits for the writer of a pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                return Dropped(name, file.read(self._largest + 1), stamp)
        except OSError as error:
            reason = f"cannot be read: {os.strerror(error.errno or 0)}"
            return Dropped(name, None, stamp, Refusal([Problem(WHOLE, reason)], is_final=False))

    def is_settled(self, document: Dropped) -> bool:
        """Whether a document was last written to so long ago that nobody writes it any more.

        By the clock of the file system, which on a network is another machine's.
        """
        os.utime(self._lock)
        return abs(self._lock.stat().st_mtime_ns - int(document.stamp[2])) > self._settle * 1e9

    def keep(self, document: Dropped) -> bool:
        """Move a stored document to the others of this day; False where another one stands there under its name now.

        Raises:
            OSError: it cannot be moved.
        """
        return self._move(document, self.root / day_folder(), None)

    def reject(self, document: Dropped, refusal: Refusal) -> bool:
        """Move a refused document aside, with a report beside it; False where another one has its name now.

        Raises:
            OSError: it cannot be moved.
        """
        return self._move(document, self.rejected, refusal)

    def _move(self, document: Dropped, folder: Path, refusal: Refusal | None) -> bool:
        moving = self._moving / document.name
        try:
            (self.root / document.name).rename(moving)
        except FileNotFoundError:
            return False
        if _stamp(moving.lstat()) != document.stamp:
            self._put_back(moving)
            return False
        folder.mkdir(exist_ok=True)
        target = folder / free_name(document.name, lambda name: os.path.lexists(folder / name))
        if refusal is not None:
            report = target.with_name(report_name(target.name))
            temporary = report.with_name(f".{uuid.uuid4().hex}")
            temporary.write_text(report_of(document, refusal))
            temporary.rename(report)
        moving.rename(target)
        return True

    def _put_back(self, moving: Path) -> None:
        """Under a name that nobody has or is about to take: a rename would replace what has it."""
        moving.rename(self.root / unique_name(moving.name))


def _documents(folder: Path) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if is_document(entry.name))


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
