"""Backups by date: copies of the store in one folder, of which the newest few stay.

Belongs here: their names, and which of them go. Does not: copying a store (`store`), when (`components`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics_pipeline.store import Manifest, Store

KEEP = 7

_LOCK = "all_backups_of_the_store_by_the_time_of_their_making"
"""Longer than the name of a dataset may be: a dataset's lock is another one."""

_NAME = "%Y-%m-%dT%H%M%SZ"
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z")
_DRAFT = re.compile(rf"\.{_OURS.pattern}-[0-9a-f]{{32}}")


@dataclass(frozen=True)
class BackedUp:
    """What a backup did.

    Args:
        path: the new backup, a store of its own.
        manifest: the version in it.
        removed: older backups, for which there was no room among the newest.
    """

    path: Path
    manifest: Manifest
    removed: Sequence[Path]


def back_up(
    store: Store, folder: Path, log: Callable[[str], None], *, keep: int = KEEP, now: datetime | None = None
) -> BackedUp:
    """Copy the store to a folder named by the present, then remove the oldest of its kind.

    Whatever else lies in the folder stays. A backup that fails removes none.

    Args:
        store: what is copied; syncs and readers go on.
        folder: of all backups; made where it is not there.
        log: told if this waits for another backup of the store.
        keep: backups that stay, with the new one; at least 1.
        now: an aware time; the present by default.

    Raises:
        StoreError: the copy could not be made.
    """
    path = folder.expanduser().resolve() / f"{(now or datetime.now(UTC)).astimezone(UTC):{_NAME}}"
    with store.exclusive(_LOCK, log):
        for draft in _named(path.parent, _DRAFT):  # of processes that died: this is the only one at work
            shutil.rmtree(draft)
        manifest = store.backup(path)
        others = [backup for backup in _named(path.parent, _OURS) if backup != path]  # a clock may have been ahead
        old = others[: max(0, len(others) + 1 - keep)]
        for backup in old:
            shutil.rmtree(backup)
    return BackedUp(path, manifest, old)


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The folders with such names, oldest first."""
    return sorted(path for path in folder.glob("*") if path.is_dir() and pattern.fullmatch(path.name))
