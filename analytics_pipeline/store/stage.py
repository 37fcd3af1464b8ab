"""Staging: where a sync writes its files before a commit takes them, or a sweep takes the leavings of a dead one.

Belongs here: the folder of one sync and the lock that says its process lives. Does not: what is written there.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from analytics_pipeline.errors import NameRefused, StageBusy
from analytics_pipeline.store.files import DEFAULT_BUFFER_BYTES, PartitionedWriter
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.locks import FileLock, locked, try_lock
from analytics_pipeline.store.partition import DataFile

_LOCK_NAME = ".lock"
_SYNC_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Stage:
    """The staging folder of one sync. While it is open, no sweep touches it, however long it takes.

    Args:
        sync_id: of the sync.
        folder: where it writes.
    """

    def __init__(self, sync_id: str, folder: Path) -> None:
        self.sync_id = sync_id
        self.folder = folder
        self.moved: dict[tuple[DataFile, ...], Sequence[tuple[DataFile, ...]]] = {}
        """Runs of shared files that were written anew into this stage, with what each became; see `split`."""

    def writer(self, table: str, schema: pa.Schema, *, buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> PartitionedWriter:
        """A writer of one table's partitions into this stage."""
        return PartitionedWriter(self.folder, table, schema, buffer_bytes=buffer_bytes)


@contextmanager
def open_stage(layout: Layout, sync_id: str, *, lock_timeout: float) -> Iterator[Stage]:
    """A new stage, removed at the end of the `with` block with everything that no commit took.

    Raises:
        NameRefused: the id is no plain name.
        StageBusy: a live process has a stage of this id.
        StoreBusy, StoreUnwritable: see `locked`.
    """
    if not _SYNC_ID.fullmatch(sync_id):
        raise NameRefused(sync_id, "a sync id is letters, digits, _ and -")
    folder = layout.staging / sync_id
    # Under the commit lock, so that no sweep sees the folder before its lock is held.
    with locked(layout.commit_lock, timeout=lock_timeout):
        lock = _claimed(folder)
    if lock is None:
        raise StageBusy(str(folder))
    try:
        yield Stage(sync_id, folder)
    finally:
        _remove(folder)
        lock.release()


def sweep_stages(layout: Layout) -> list[str]:
    """Remove the stages whose process is gone; call it under the commit lock. Returns their names."""
    swept = []
    for folder in list(layout.staging.iterdir()):
        if not folder.is_dir():
            folder.unlink(missing_ok=True)  # a draft whose committer died: drafts are written under the lock held here
            continue
        try:
            lock = try_lock(folder / _LOCK_NAME)
        except FileNotFoundError:
            continue  # its owner removed it just now
        if lock is None:
            continue
        _remove(folder)
        lock.release()
        if not folder.name.startswith("."):
            swept.append(folder.name)
    return swept


def _claimed(folder: Path) -> FileLock | None:
    while True:
        folder.mkdir(exist_ok=True)
        try:
            return try_lock(folder / _LOCK_NAME)
        except FileNotFoundError:
            continue  # its last owner removed it between the two lines


def _remove(folder: Path) -> None:
    """Remove a stage under another name: one of the same id that begins meanwhile keeps its files."""
    leaving = folder.with_name(f".gone-{uuid.uuid4().hex}")
    try:
        folder.rename(leaving)
    except FileNotFoundError:
        return
    shutil.rmtree(leaving, ignore_errors=True)  # what stays, a sweep takes
