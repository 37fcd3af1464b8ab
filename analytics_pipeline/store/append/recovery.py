"""Bringing the index in line with the folders: after a killed call, a foreign writer, a copy, a lost index.

Belongs here: what must be true before anybody reads or writes by the index. Does not: reading or writing.

All of it happens under the write lock, so what is half done belongs to nobody alive.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from analytics_pipeline.errors import AppendedFileUnreadable, ColumnTypeChanged, NameRefused
from analytics_pipeline.store.append.index import Index, NewFile, Proof
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.parquet import TypeChange, look_into, new_columns
from analytics_pipeline.store.append.views import is_regular, stamp_of
from analytics_pipeline.store.digest import ALTERED
from analytics_pipeline.store.layout import fsync_path

logger = logging.getLogger(__name__)

_NAMED = 5


class Identity(Protocol):
    """What tells a row that is there from a new one."""

    def columns(self, table: str) -> Sequence[str]:
        """The columns that identities of a table are made from."""
        ...

    def of(self, table: str, rows: pa.Table) -> Sequence[tuple[str, ...]]:
        """For each row the identities that it takes; it is known if the first of them is. None at all: always new."""
        ...


class Unreadable(Enum):
    """What to do about files that cannot be read."""

    REFUSE = "refuse"
    SKIP = "skip"


class State(Enum):
    """How an index stands to the folders."""

    CURRENT = "current"
    BEING_WRITTEN = "being written"
    BEHIND = "behind"


def state_of(index: Index, layout: AppendLayout) -> State:
    """Whether the index knows every file, or all but those of calls that have not ended, or not even these."""
    pending = {table for _, table, _ in index.pending()}
    folders = set(layout.table_folders())
    moved = {table for table in folders if index.seen(table) != layout.changed_at(table)}
    gone = set(index.tables_with_files()) - folders
    if index.copies() - layout.copies():
        return State.BEHIND
    if not pending and not moved and not gone:
        return State.CURRENT
    return State.BEING_WRITTEN if pending and moved | gone <= pending else State.BEHIND


def settle_calls(index: Index, layout: AppendLayout) -> None:
    """Finish the calls whose process died after it had named its files, and remove what others left."""
    for call in dict.fromkeys(call for call, _, _ in index.pending()):
        finish_call(index, layout, call)
    for leftover in layout.staging.iterdir():
        leftover.unlink(missing_ok=True)


def finish_call(index: Index, layout: AppendLayout, call: str) -> None:
    """Put a call's files in their place, in the order they were named, and say so."""
    files = index.files_of(call)
    lost = _lost(layout, call, files)
    seen = {table: _place(index, layout, call, table, name) for table, name in files if (table, name) not in lost}
    for table in seen:
        fsync_path(layout.folder(table))
    with index.passing_transaction():
        for table, name in lost:
            logger.warning("%s of a call that was killed is lost; its rows can be written again.", name)
            index.forget(table, [name], time.time())
        index.settle(call)
        for table, changed_at in seen.items():
            index.see(table, changed_at)


def _lost(layout: AppendLayout, call: str, files: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Files of a call that a power cut took. If one is lost before any was in its place, all are: nobody saw them."""
    placed = {file for file in files if (layout.folder(file[0]) / file[1]).exists()}
    lost = {file for file in files if file not in placed and not staged(layout, call, file[0]).exists()}
    return set(files) if lost and not placed else lost


def staged(layout: AppendLayout, call: str, table: str) -> Path:
    """Where a call keeps the file of a table until it is named."""
    return layout.staging / f"{call}-{table}"


def _place(index: Index, layout: AppendLayout, call: str, table: str, name: str) -> int | None:
    """Move a file to its place; gives the time of its folder, or None if that has changed otherwise, too."""
    target = layout.folder(table) / name
    untouched = layout.changed_at(table) == index.seen(table)
    if not target.parent.is_dir():
        target.parent.mkdir()
        fsync_path(layout.root)
    with contextlib.suppress(FileNotFoundError):  # it was moved by the process that died
        staged(layout, call, table).rename(target)
    changed_at = layout.mark(table)
    return changed_at if untouched else None


def adopt(
    index: Index,
    layout: AppendLayout,
    identity: Identity,
    unreadable: Unreadable,
    *,
    types: TypeChange,
    look: Callable[[str], int | None],
) -> None:
    """Take up files that came without the index; miss those that went; forget copies that did.

    Args:
        index: of the folders.
        layout: where they are.
        identity: of the rows.
        unreadable: what to do about damaged files.
        types: what to do about columns of another type.
        look: gives the time of a table's folder, before the files in it are listed.

    Raises:
        AppendedFileUnreadable: a new file cannot be read, or does not fit its table; see `Unreadable`.
    """
    _forget_lost_copies(index, layout)
    for table in {*layout.table_folders(), *index.tables_with_files()}:
        changed_at = layout.changed_at(table)
        if index.seen(table) == changed_at and changed_at is not None:
            continue
        changed_at = look(table)
        present = set(layout.parquet_files(table)) if changed_at is not None else set()
        known = index.names(table)
        with index.transaction():
            _miss(index, layout, table, known - present)
            paths = [layout.folder(table) / name for name in sorted(present - known)]
            # A skipped file is looked at again by whoever comes next, and refused by whoever did not ask to skip it.
            index.see(table, changed_at if _are_taken_up(index, identity, unreadable, types, paths) else None)


def _miss(index: Index, layout: AppendLayout, table: str, names: Collection[str]) -> None:
    if names:
        files = ", ".join(sorted(names)[:_NAMED])
        logger.warning("%s: %d files of %s are gone: %s.", layout.root, len(names), table, files)
        index.lose(table, names, time.time())


def _forget_lost_copies(index: Index, layout: AppendLayout) -> None:
    """Copies are derived, and anybody may throw them away."""
    lost = index.copies() - layout.copies()
    if lost:
        logger.warning("%s lacks %d copies: the files are read until others are made.", layout.compacted, len(lost))
        with index.transaction():
            index.lose_copies(lost)


def _are_taken_up(
    index: Index, identity: Identity, unreadable: Unreadable, types: TypeChange, paths: Iterable[Path]
) -> bool:
    """Take up files; whether all of them could be."""
    all_read = True
    for path in paths:
        try:
            _take_up(index, identity, types, path)
        except AppendedFileUnreadable as error:
            if unreadable is Unreadable.REFUSE:
                raise
            logger.warning("Skipped: %s", error)
            all_read = False
    return all_read


def _take_up(index: Index, identity: Identity, types: TypeChange, path: Path) -> None:
    table = path.parent.name
    found, proof = look_into(path, identity.columns(table)), Proof.of(path)
    if index.proof_of(table, path.name) not in {None, proof}:
        raise AppendedFileUnreadable(str(path), f"it was lost, and what is there now differs: {ALTERED}")
    try:
        added = new_columns(table, index.columns(table), found.columns, types)
    except (ColumnTypeChanged, NameRefused) as error:
        raise AppendedFileUnreadable(str(path), str(error)) from error
    index.add_columns(table, added)
    identities = [one for row in identity.of(table, found.keys) for one in row]
    stamp = stamp_of(path.name) if is_regular(path.name) else None
    index.add(NewFile(table, path.name, stamp, found.rows, identities, proof), None)
    through = index.through(table)
    if stamp is None or (through is not None and stamp <= through):
        index.change_views()  # they list such a file by its name
