"""Inboxes: what the intake needs of a place where run documents are dropped, and what all of them have in common.

Belongs here: which names are documents, the names and reports of those that are moved. Does not: any one place
(`folder`, `bucket`), what a document says (`reading`).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from analytics_pipeline.capabilities.documents.reading import WHOLE, Problem, Refusal

LARGEST_BYTES = 64 * 1024 * 1024
"""Of a document."""

_ENDING = ".json"
_REPORT = ".report.json"
_LONGEST_STEM = 200  # bytes; a file system takes 255 with everything that is appended


@dataclass(frozen=True)
class Dropped:
    """A document in the inbox as it was when it was read.

    Args:
        name: of its file or object.
        content: None where it could not be read.
        stamp: tells it from another one under the same name.
        refusal: why it could not be read.
    """

    name: str
    content: bytes | None
    stamp: tuple[int | str, ...]
    refusal: Refusal | None = None

    @property
    def shown(self) -> str:
        """Its name as text that can be stored and shown anywhere."""
        return os.fsencode(self.name).decode("utf-8", "replace")


class Inbox(Protocol):
    """A place where documents are dropped."""

    @property
    def place(self) -> str:
        """The place in words for the user."""
        ...

    def has_document(self) -> bool:
        """Whether anything is to be taken up; as cheap as the place allows."""
        ...

    def held(self, log: Callable[[str], None]) -> AbstractContextManager[None]:
        """Take documents up for a `with` block; what a killed one left on the way is put back before.

        Raises:
            InboxUnusable: the place cannot be made, read or written.
        """
        ...

    def names(self) -> Iterator[str]:
        """The documents that wait, in no order."""
        ...

    def read(self, name: str) -> Dropped | None:
        """A document, whatever it turns out to be; None where it is gone."""
        ...

    def is_settled(self, document: Dropped) -> bool:
        """Whether a document was last written to so long ago that nobody writes it any more."""
        ...

    def keep(self, document: Dropped) -> bool:
        """Move a stored document to the others of this day; False where another one stands there under its name now.

        Raises:
            OSError: it cannot be moved.
        """
        ...

    def reject(self, document: Dropped, refusal: Refusal) -> bool:
        """Move a refused document aside, with a report beside it; False where another one has its name now.

        Raises:
            OSError: it cannot be moved.
        """
        ...


def is_document(name: str) -> bool:
    """Whether a file of this name is a run document; others are temporary files of who writes one."""
    return name.endswith(_ENDING) and not name.startswith(".")


def day_folder() -> str:
    """Where documents go that are stored now, in the inbox."""
    return f"stored/{datetime.now(UTC):%Y-%m-%d}"


def unread(name: str, stamp: tuple[int | str, ...], reason: str) -> Dropped:
    """A document that is refused without being read."""
    return Dropped(name, None, stamp, Refusal([Problem(WHOLE, reason)]))


def too_large(name: str, stamp: tuple[int | str, ...], size: int, largest: int) -> Dropped:
    """A document that is refused for its size."""
    return unread(name, stamp, f"has {size:,} bytes; a document has at most {largest:,}")


def unique_name(name: str) -> str:
    """A name like this one that nobody has or is about to take."""
    return f"{_stem(name)}.{uuid.uuid4().hex[:8]}{_ENDING}"


def free_name(name: str, exists: Callable[[str], bool]) -> str:
    """A name for a document that is moved: its own, unless that or its report's is taken."""
    plain = f"{_stem(name)}{_ENDING}"
    is_taken = plain.endswith(_REPORT) or exists(plain) or exists(report_name(plain))
    return unique_name(name) if is_taken else plain


def report_name(name: str) -> str:
    """The name of the report beside a rejected document."""
    return f"{name.removesuffix(_ENDING)}{_REPORT}"


def report_of(document: Dropped, refusal: Refusal) -> str:
    """The report itself."""
    told = {
        "document": document.shown,
        "rejected_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_uid": refusal.run_uid,
        "error_count": refusal.count,
        "errors": [_told(problem) for problem in refusal.problems],
    }
    return json.dumps(told, indent=2) + "\n"


def _told(problem: Problem) -> dict[str, str]:
    found = {} if problem.found is None else {"found": problem.found}
    return {"field": problem.field, "reason": problem.reason, **found}


def _stem(name: str) -> str:
    return os.fsdecode(os.fsencode(name.removesuffix(_ENDING))[:_LONGEST_STEM])
