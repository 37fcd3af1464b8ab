"""Copies of append-only tables: for a backup, and back.

Belongs here: one state of such a folder, whole, while others write. Does not: where the copy goes (`store.backup`).
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from analytics_pipeline.store.append.index_file import copy_index
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.locks import exclusive

logger = logging.getLogger(__name__)


def copy_tables(source: AppendLayout, target: AppendLayout) -> None:
    """Copy the tables as they are at one moment, with their index; the target is a folder that is not there yet.

    Writers wait while the index is copied, and no longer: a file that it names never changes and never goes.

    Raises:
        OSError: the disk refused.
    """
    target.create()
    with exclusive(source.lock, logger.debug):
        files = _files(source)
        if source.index.exists():
            _copy_index(source, target)
    for path in files:
        copy = target.root / path.relative_to(source.root)
        if not copy.parent.is_dir():
            copy.parent.mkdir(parents=True)
        shutil.copyfile(path, copy)
        fsync_path(copy)
    for folder in {path.parent for path in files}:
        fsync_path(target.root / folder.relative_to(source.root))
    if target.index.exists():
        fsync_path(target.index)
    fsync_path(target.root)


def _copy_index(source: AppendLayout, target: AppendLayout) -> None:
    try:
        copy_index(source.index, target.index)
    except sqlite3.DatabaseError as error:
        logger.warning("%s has no index, which is made anew when it is used: %s", target.root, error)
        target.index.unlink(missing_ok=True)


def _files(layout: AppendLayout) -> Sequence[Path]:
    """The raw files, the copies of them, what a killed call left to be finished, and the views that come with them."""
    found = [layout.folder(table) / name for table in layout.table_folders() for name in layout.parquet_files(table)]
    for folder in (layout.compacted, layout.staging):
        found += [path for path in folder.rglob("*") if path.is_file()]
    return [*found, layout.views] if layout.views.is_file() else found
