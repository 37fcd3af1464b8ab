"""The inbox: a folder where run documents are dropped, and where they go from there.

Belongs here: which files are documents, reading them without trusting them, moving them so that none is ever lost.
Does not: what a document says (`reading`), storing it (`intake`).

    inbox/*.json                     waiting
    inbox/stored/2026-01-31/*.json   taken up that day
    inbox/rejected/*.json            refused, each with its *.report.json
    inbox/.moving/*.json             on the way; what a killed intake leaves there goes back

A document is moved by its name, but was read before: whatever stands there under the same name by then is another one.
So a move goes through `.moving`, where it is compared with what was read, and back into the inbox if it differs.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from analytics_pipeline.capabilities.documents.reading import WHOLE, Problem, Refusal
from analytics_pipeline.errors import InboxUnusable
from analytics_pipeline.store.locks import exclusive

SETTLE_SECONDS = 10.0
"""A document that is no JSON may be one half of one, for so long after it was last written to."""
LARGEST_BYTES = 64 * 1024 * 1024
"""Of a document."""

_ENDING = ".json"
_REPORT = ".report.json"
_LONGEST_STEM = 200  # bytes; a file system takes 255 with everything that is appended


@dataclass(frozen=True)
class Dropped:
    """A document in the inbox as it was when it was read.

    Args:
        name: of its file.
        content: None where it could not be read.
        stamp: tells it from another one under the same name.
        refusal: why it could not be read.
    """

    name: str
    content: bytes | None
    stamp: tuple[int, int, int]
    refusal: Refusal | None = None

    @property
    def shown(self) -> str:
        """Its name as text that can be stored and shown anywhere."""
        return os.fsencode(self.name).decode("utf-8", "replace")


def is_document(name: str) -> bool:
    """Whether a file of this name is a run document; others are temporary files of who writes one."""
    return name.endswith(_ENDING) and not name.startswith(".")


def has_document(root: Path) -> bool:
    """Whether anything is to be taken up; looks no further than to the first."""
    return any(True for _ in _documents(root)) or any(True for _ in _documents(root / ".moving"))


def _documents(folder: Path) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if is_document(entry.name))


class Inbox:
    """The folder.

    Args:
        root: of the inbox; made by `held`.
        largest: bytes of a document; a larger one is not read.
        settle: seconds after its last change in which a broken document may still be growing.
    """

    def __init__(self, root: Path, *, largest: int = LARGEST_BYTES, settle: float = SETTLE_SECONDS) -> None:
        self.root = root
        self.stored = root / "stored"
        self.rejected = root / "rejected"
        self._moving = root / ".moving"
        self._lock = root / ".intake.lock"
        self._largest = largest
        self._settle = settle

    @contextmanager
    def held(self, log: Callable[[str], None]) -> Iterator[None]:
        """Be the only one who takes documents up, for a `with` block; what a killed one left is put back before.

        Raises:
            InboxUnusable: the folder cannot be made or written.
            StoreUnwritable: its lock cannot.
        """
        try:
            for folder in (self.stored, self.rejected, self._moving):
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
            return _unread(name, stamp, f"is {kind}: put the file itself there")
        if found.st_size > self._largest:
            return _unread(name, stamp, f"has {found.st_size:,} bytes; a document has at most {self._largest:,}")
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
        return abs(self._lock.stat().st_mtime_ns - document.stamp[2]) > self._settle * 1e9

    def keep(self, document: Dropped) -> bool:
        """Move a stored document to the others of this day; False where another one stands there under its name now.

        Raises:
            OSError: it cannot be moved.
        """
        return self._move(document, self.stored / f"{datetime.now(UTC):%Y-%m-%d}", None)

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
        target = _free(folder, document.name)
        if refusal is not None:
            _write_report(target, document.shown, refusal)
        moving.rename(target)
        return True

    def _put_back(self, moving: Path) -> None:
        """Under a name that nobody has or is about to take: a rename would replace what has it."""
        moving.rename(self.root / _unique(moving.name))


def _unread(name: str, stamp: tuple[int, int, int], reason: str) -> Dropped:
    return Dropped(name, None, stamp, Refusal([Problem(WHOLE, reason)]))


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _stem(name: str) -> str:
    return os.fsdecode(os.fsencode(name.removesuffix(_ENDING))[:_LONGEST_STEM])


def _unique(name: str) -> str:
    return f"{_stem(name)}.{uuid.uuid4().hex[:8]}{_ENDING}"


def _free(folder: Path, name: str) -> Path:
    """A path for a document and its report; only who holds the inbox adds to the folder."""
    plain = folder / f"{_stem(name)}{_ENDING}"
    is_taken = any(map(os.path.lexists, (plain, _report_of(plain)))) or plain.name.endswith(_REPORT)
    return folder / _unique(name) if is_taken else plain


def _report_of(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix(_ENDING)}{_REPORT}")


def _write_report(target: Path, shown: str, refusal: Refusal) -> None:
    told = {
        "document": shown,
        "rejected_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_uid": refusal.run_uid,
        "error_count": refusal.count,
        "errors": [_told(problem) for problem in refusal.problems],
    }
    report = _report_of(target)
    temporary = report.with_name(f".{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(told, indent=2) + "\n")
    temporary.rename(report)


def _told(problem: Problem) -> dict[str, str]:
    found = {} if problem.found is None else {"found": problem.found}
    return {"field": problem.field, "reason": problem.reason, **found}
