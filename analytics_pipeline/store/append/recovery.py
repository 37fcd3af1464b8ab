"""Bringing the index in line with the folders: after a killed call, a foreign writer, a copy, a lost index.

Belongs here: what must be true before anybody reads or writes by the index. Does not: reading or writing.

All of it happens under the write lock, so what is half done belongs to nobody alive.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from analytics_pipeline.errors import AppendedFileUnreadable, ColumnTypeChanged, NameRefused
from analytics_pipeline.store.append.index import Index, NewFile
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.parquet import look_into, new_columns
from analytics_pipeline.store.append.views import is_regular, stamp_of
from analytics_pipeline.store.layout import fsync_path

logger = logging.getLogger(__name__)


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


def is_current(index: Index, layout: AppendLayout) -> bool:
    """Whether the index knows every file, and no call is half done."""
    folders = list(layout.table_folders())
    return (
        not index.pending()
        and all(index.seen(table) == layout.changed_at(table) for table in folders)
        and set(index.tables()) <= set(folders)
    )


def settle_calls(index: Index, layout: AppendLayout) -> None:
    """Finish the calls whose process died after it had named its files, and remove what others left."""
    for call in dict.fromkeys(call for call, _, _ in index.pending()):
        finish_call(index, layout, call)
    for leftover in layout.staging.iterdir():
        shutil.rmtree(leftover, ignore_errors=True)


def finish_call(index: Index, layout: AppendLayout, call: str) -> None:
    """Put a call's files in their place, in the order they were named, and say so."""
    files = [(table, name) for owner, table, name in index.pending() if owner == call]
    lost = [(table, name) for table, name in files if not _place(layout, call, table, name)]
    folders = dict.fromkeys(table for table, _ in files)
    for table in folders:
        fsync_path(layout.folder(table))
    with index.transaction():
        for table, name in lost:
            logger.warning("%s of a call that was killed is lost; its rows can be written again.", name)
            index.forget(table, [name])
        index.settle(call)
        for table in folders:
            index.see(table, layout.changed_at(table))
    shutil.rmtree(layout.staging / call, ignore_errors=True)


def staged(layout: AppendLayout, call: str, table: str) -> Path:
    """Where a call keeps the file of a table until it is named."""
    return layout.staging / call / table


def _place(layout: AppendLayout, call: str, table: str, name: str) -> bool:
    target = layout.folder(table) / name
    if not target.parent.is_dir():
        target.parent.mkdir()
        fsync_path(layout.root)
    try:
        staged(layout, call, table).rename(target)
    except FileNotFoundError:
        return target.exists()
    return True


def adopt(index: Index, layout: AppendLayout, identity: Identity, unreadable: Unreadable) -> None:
    """Take up files that came without the index, and forget those that went.

    Raises:
        AppendedFileUnreadable: a new file cannot be read, or does not fit its table; see `Unreadable`.
    """
    for table in {*layout.table_folders(), *index.tables()}:
        changed_at = layout.changed_at(table)
        if index.seen(table) == changed_at and changed_at is not None:
            continue
        present = set(layout.parquet_files(table)) if changed_at is not None else set()
        known = index.names(table)
        skipped = False
        with index.transaction():
            index.forget(table, known - present)
            for name in sorted(present - known):
                try:
                    _take_up(index, identity, layout.folder(table) / name)
                except AppendedFileUnreadable as error:
                    if unreadable is Unreadable.REFUSE:
                        raise
                    logger.warning("Skipped: %s", error)
                    skipped = True
            # A skipped file is looked at again by whoever comes next, and refused by whoever did not ask to skip it.
            index.see(table, None if skipped else changed_at)


def _take_up(index: Index, identity: Identity, path: Path) -> None:
    table = path.parent.name
    found = look_into(path, identity.columns(table))
    try:
        added = new_columns(table, index.columns(table), found.columns)
    except (ColumnTypeChanged, NameRefused) as error:
        raise AppendedFileUnreadable(str(path), str(error)) from error
    index.add_columns(table, added)
    identities = [one for row in identity.of(table, found.keys) for one in row]
    stamp = stamp_of(path.name) if is_regular(path.name) else None
    index.add(NewFile(table, path.name, stamp, found.rows, identities), None)
