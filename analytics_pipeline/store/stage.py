"""Staging: where a sync writes its files before a commit takes them, or a sweep takes the leavings of a dead one.

Belongs here: the folder of one sync, the lock that says its process lives, the note of how far it came.
Does not: what is written there.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from analytics_pipeline.errors import NameRefused, StageBusy
from analytics_pipeline.store.digest import problem_of
from analytics_pipeline.store.files import DEFAULT_BUFFER_BYTES, PartitionedWriter
from analytics_pipeline.store.layout import Layout, fsync_path
from analytics_pipeline.store.locks import FileLock, locked, try_lock
from analytics_pipeline.store.partition import DataFile

RESUMABLE_FOR = timedelta(days=7)
"""A resumable stage that nobody wrote to for so long is forgotten: its source has moved on."""

_LOCK_NAME = ".lock"
_NOTE_NAME = ".note"
_RESUMABLE = "resumable."  # with a dot, which no sync id has
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
    with _held_folder(layout, sync_id, "", lock_timeout) as folder:
        try:
            yield Stage(sync_id, folder)
        finally:
            _remove(folder)


class ResumableStage(Stage):
    """A stage whose files stay when its process dies or fails, for the next one that asks for the same name.

    Its files are committed like those of any stage: the commit takes them away. With them lies a note, in which a
    process writes how far it came. Resuming goes so: `read_note`; of the files that the note names take those that
    `holds` confirms (a commit that was killed may have taken some); `keep_only` those, for a killed writer leaves
    parts of files, too; go on, and `write_note` after each writer's `close`; after the commit `discard`.
    """

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._discarded = False

    @property
    def is_discarded(self) -> bool:
        """Whether the stage goes at the end of its `with` block."""
        return self._discarded

    def read_note(self) -> str | None:
        """What was written last by `write_note`, in whichever process; None where nothing was."""
        try:
            return (self.folder / _NOTE_NAME).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write_note(self, text: str) -> None:
        """Replace the note, in one step; what the stage holds by then outlives a power cut if the note does."""
        fsync_path(self.folder)
        draft = self.folder / f"{_NOTE_NAME}.new"
        draft.write_text(text, encoding="utf-8")
        fsync_path(draft)
        draft.replace(self.folder / _NOTE_NAME)
        fsync_path(self.folder)

    def holds(self, file: DataFile) -> bool:
        """Whether a file lies in this stage and holds what was written."""
        return problem_of(self.folder / Path(file.path).name, file.bytes, file.digest) is None

    def keep_only(self, files: Iterable[DataFile]) -> None:
        """Remove all data files but these."""
        kept = {Path(file.path).name for file in files}
        for path in self.folder.glob("*.parquet"):
            if path.name not in kept:
                path.unlink()

    def discard(self) -> None:
        """Nothing is left to resume: the stage goes at the end of its `with` block, with its note and files."""
        self._discarded = True


@contextmanager
def open_resumable_stage(layout: Layout, name: str, *, lock_timeout: float) -> Iterator[ResumableStage]:
    """The stage of a name: as the process before left it, or a new one.

    It stays after the `with` block, however that ends, unless it was discarded. A sweep takes it when it was written
    to for the last time `RESUMABLE_FOR` ago.

    Raises:
        NameRefused: the name is no plain name.
        StageBusy: a live process has it.
        StoreBusy, StoreUnwritable: see `locked`.
    """
    with _held_folder(layout, name, _RESUMABLE, lock_timeout) as folder:
        stage = ResumableStage(name, folder)
        try:
            yield stage
        finally:
            if stage.is_discarded:
                _remove(folder)


@contextmanager
def _held_folder(layout: Layout, name: str, prefix: str, lock_timeout: float) -> Iterator[Path]:
    if not _SYNC_ID.fullmatch(name):
        raise NameRefused(name, "a sync id is letters, digits, _ and -")
    folder = layout.staging / f"{prefix}{name}"
    # Under the commit lock, so that no sweep sees the folder before its lock is held.
    with locked(layout.commit_lock, timeout=lock_timeout):
        lock = _claimed(folder)
    if lock is None:
        raise StageBusy(str(folder))
    try:
        yield folder
    finally:
        lock.release()


def sweep_stages(layout: Layout) -> list[str]:
    """Remove the stages whose process is gone; call it under the commit lock. Returns their names."""
    resumable_since = time.time() - RESUMABLE_FOR.total_seconds()
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
        if folder.name.startswith(_RESUMABLE) and _last_write(folder) > resumable_since:
            lock.release()
            continue
        _remove(folder)
        lock.release()
        if not folder.name.startswith("."):
            swept.append(folder.name)
    return swept


def _last_write(folder: Path) -> float:
    written = (path for path in folder.iterdir() if path.name != _LOCK_NAME)  # sweeps write their name into the lock
    return max(path.stat().st_mtime for path in (folder, *written))


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
