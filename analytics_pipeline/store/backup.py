"""Backups: one version of a store copied to a store of its own, and such a copy published again.

Belongs here: copying files durably, whole or not at all; what may be a backup's place or source.
Does not: the commit of what is restored (`commit`).
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.errors import BackupFailed, BackupRefused, CommitFailed, DataFileDamaged, DataFileMissing
from analytics_pipeline.store.append.copying import copy_tables
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.published import append_folders
from analytics_pipeline.store.commit import LOCK_TIMEOUT, commit_state, load_manifest, load_or_retire, refresh_catalog
from analytics_pipeline.store.digest import problem_of
from analytics_pipeline.store.layout import Layout, fsync_path
from analytics_pipeline.store.locks import exclusive
from analytics_pipeline.store.manifest import Manifest, Table
from analytics_pipeline.store.manifest_file import write_manifest
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.store.stage import Stage, open_stage


@dataclass(frozen=True)
class Restored:
    """What a restore published.

    Args:
        manifest: the store's state afterwards.
        gone: tables and views that it had and the backup has not; none where it could not be read.
    """

    manifest: Manifest
    gone: tuple[str, ...]


def back_up(layout: Layout, target: Path) -> Manifest:
    """Copy the current version to a new store, while syncs and readers go on.

    Args:
        layout: the store.
        target: a folder that is not there or empty; it appears when all is in it and on the disk.

    Returns:
        The version that was copied.

    Raises:
        BackupRefused: `target` cannot be a backup's place.
        BackupFailed: its disk refused the copy; nothing is left there.
        DataFileMissing, DataFileDamaged: a file of the store does not hold what was written.
        FilesystemUnfit, StoreUnwritable: `target` cannot hold a store, or this user cannot make a stage in this one.
    """
    target = target.expanduser().resolve()
    _check_target(layout, target)
    draft = Layout(target.with_name(f".{target.name}-{uuid.uuid4().hex}"))
    try:
        draft.create()
        with open_stage(layout, f"backup-{uuid.uuid4().hex}", lock_timeout=LOCK_TIMEOUT) as stage:
            manifest = _pinned(layout, stage)
            _copy_store(stage, manifest, draft)
        _copy_appended(layout, draft)
        draft.root.rename(target)
        fsync_path(target.parent)
    except OSError as error:
        raise BackupFailed(str(target), str(error)) from error
    finally:
        shutil.rmtree(draft.root, ignore_errors=True)
    refresh_catalog(Layout(target))
    return manifest


def _check_target(layout: Layout, target: Path) -> None:
    if target.is_relative_to(layout.root):
        raise BackupRefused(str(target), "lies in the store itself")
    if target.is_mount():
        raise BackupRefused(str(target), "is where a disk begins; name a folder below it")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupRefused(str(target), "is there and not empty")


def _pinned(layout: Layout, stage: Stage) -> Manifest:
    """The current version, its files linked into a stage, where no sweep takes them while they are copied."""
    while True:
        manifest = load_manifest(layout)
        try:
            for file in manifest.live_files:
                _link(layout, stage, file)
        except DataFileMissing:
            if load_manifest(layout).version == manifest.version:
                raise
        else:
            return manifest


def _link(layout: Layout, stage: Stage, file: DataFile) -> None:
    found = layout.size_of(file.path)
    if found != file.bytes:
        raise DataFileMissing(f"{layout.root}/{file.path}", file.bytes, found)
    link = stage.folder / Path(file.path).name
    if not link.exists():
        try:
            os.link(layout.root / file.path, link)
        except FileNotFoundError:
            raise DataFileMissing(f"{layout.root}/{file.path}", file.bytes, None) from None


def _copy_store(stage: Stage, manifest: Manifest, target: Layout) -> None:
    for table in manifest.tables:
        (target.tables / table).mkdir()
    for file in manifest.live_files:
        _copy_file(stage.folder / Path(file.path).name, target.root / file.path, file)
    if manifest.version:
        path = target.manifest_of(manifest.version)
        write_manifest(replace(manifest, retired=()), path)
        fsync_path(path)
    for folder in (*target.tables.iterdir(), target.tables, target.manifests, target.root):
        fsync_path(folder)


def _copy_appended(source: Layout, target: Layout) -> Sequence[str]:
    """Copy the folders of append-only tables that the target has not; gives the names of those that it has."""
    kept = []
    for folder in append_folders(source):
        copy = AppendLayout(target.appended(folder.name))
        if copy.root.exists():
            kept.append(folder.name)
            continue
        draft = AppendLayout(target.staging / f".{folder.name}-{uuid.uuid4().hex}")
        copy_tables(AppendLayout(folder), draft)
        draft.root.rename(copy.root)
        fsync_path(target.root)
    return kept


def _copy_file(source: Path, target: Path, file: DataFile) -> None:
    """Copy a file and read the copy back: one that is not what was written must not pass as a backup.

    Raises:
        DataFileDamaged: the source itself does not hold what was written.
    """
    shutil.copyfile(source, target)
    fsync_path(target)
    problem = problem_of(target, file.bytes, file.digest)
    if problem is not None:
        at_source = problem_of(source, file.bytes, file.digest)
        if at_source is not None:
            raise DataFileDamaged(file.path, at_source)
        raise OSError(f"{target}: {problem}")


def restore(layout: Layout, source: Path, log: Callable[[str], None]) -> Restored:
    """Publish a backup's whole state as the next version: readers see the state before, then all of it.

    Nobody works on a dataset while it is published, or that would be brought up to date from another state than the
    one it was compared with. The files are copied under new names. Those of the state before stay for the grace period,
    also where that state cannot be read.

    Args:
        layout: the store.
        source: a backup, or any other store; it is only read.
        log: told if this waits for a sync.

    Raises:
        BackupRefused: `source` is no store, an empty one, this store, or one of its files is damaged.
        StoreError: see `commit`.
    """
    backup = Layout(source.expanduser().resolve())
    if backup.root == layout.root:
        raise BackupRefused(str(backup.root), "is the store itself")
    if not backup.manifests.is_dir() or not backup.newest_version():
        raise BackupRefused(str(backup.root), "is no store in which anything was published")
    state = load_manifest(backup)
    with open_stage(layout, f"restore-{uuid.uuid4().hex}", lock_timeout=LOCK_TIMEOUT) as stage:
        try:
            tables = {name: _copied(backup, stage, table) for name, table in state.tables.items()}
        except OSError as error:
            raise CommitFailed(str(layout.root), str(error)) from error
        with exclusive(layout.restore_lock, log):
            before = load_or_retire(layout)
            for name in _copy_appended(backup, layout):
                log(f"The tables of {name} are left as they are: nothing is ever taken from them.")
            manifest = commit_state(layout, stage, replace(state, tables=tables))
    names = {*before.tables, *before.views} - {*state.tables, *state.views}
    return Restored(manifest, tuple(sorted(names)))


def _copied(backup: Layout, stage: Stage, table: Table) -> Table:
    """A table whose files are copied into a stage, under names that no store has seen."""
    paths: dict[str, str] = {}
    for file in table.files:
        _check_backup_file(backup, file)
        stem = Path(file.path).stem.rpartition("-")[0]
        name = f"{stem}-{uuid.uuid4().hex}.parquet"
        try:
            _copy_file(backup.root / file.path, stage.folder / name, file)
        except DataFileDamaged:
            raise BackupRefused(str(backup.root), f"is damaged: {file.path} does not hold what was written") from None
        paths[file.path] = f"tables/{table.name}/{name}"
    return _renamed(table, paths)


def _check_backup_file(backup: Layout, file: DataFile) -> None:
    found = backup.size_of(file.path)
    if found != file.bytes:
        state = "is missing" if found is None else f"has {found} of {file.bytes} bytes"
        raise BackupRefused(str(backup.root), f"is damaged: {file.path} {state}")
    try:
        rows = pq.read_metadata(backup.root / file.path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise BackupRefused(str(backup.root), f"is damaged: {file.path} cannot be read ({error})") from error
    if rows != file.file_rows:
        raise BackupRefused(str(backup.root), f"is damaged: {file.path} has {rows} of {file.file_rows} rows")


def _renamed(table: Table, paths: Mapping[str, str]) -> Table:
    partitions = {
        key: replace(partition, files=tuple(replace(file, path=paths[file.path]) for file in partition.files))
        for key, partition in table.partitions.items()
    }
    return replace(table, partitions=partitions)
