"""The commit: how one version of the store becomes the next, all of it or nothing, whatever dies meanwhile.

Belongs here: the order of moves, fsyncs and links that makes a version durable before it is visible. Does not: what a
version consists of (`manifest`), the views (`catalog`), what dead processes left (`sweep`).

The order matters: data files are forced to the disk before the manifest names them; the catalog is built before the
manifest is claimed, so that no version exists whose views cannot be built, nor one that a reader finds without its
catalog; the manifest is claimed by a hard link, which fails where another process claimed that version;
`catalog.duckdb` is pointed at it last, and can be lost at any time.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from analytics_pipeline.errors import (
    CommitFailed,
    CommitUnconfirmed,
    DataFileMissing,
    ManifestUnreadable,
    StoreUnwritable,
    VersionTaken,
)
from analytics_pipeline.store.catalog import build_catalog, publish_catalog
from analytics_pipeline.store.layout import Layout, fsync_path
from analytics_pipeline.store.locks import locked
from analytics_pipeline.store.manifest import Change, Manifest, Retired, Table
from analytics_pipeline.store.manifest_file import read_manifest, write_manifest
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.store.stage import Stage

logger = logging.getLogger(__name__)

LOCK_TIMEOUT = 120.0
"""Seconds to wait for the commit lock. It is held for milliseconds, and never while a source is read."""

KEEP_VERSIONS = 20
"""Manifests and catalogs kept: for readers on their way to an older one, and for a person who looks back."""


def load_manifest(layout: Layout) -> Manifest:
    """The current state; the empty one where nothing was committed yet.

    Raises:
        ManifestUnreadable, StoreFormatUnknown: see `read_manifest`.
    """
    while version := layout.newest_version():
        if _is_lost_after(layout, version):
            raise ManifestUnreadable(str(layout.manifest_of(layout.published_version())), "it is gone")
        try:
            return read_manifest(layout.manifest_of(version))
        except FileNotFoundError:
            if layout.newest_version() == version:
                raise ManifestUnreadable(str(layout.manifest_of(version)), "it is a link to nothing") from None
            # Otherwise many commits have passed since the folder was listed: this one was pruned.
    if _is_lost_after(layout, 0):
        raise ManifestUnreadable(str(layout.manifest_of(layout.published_version())), "it is gone")
    return Manifest()


def _is_lost_after(layout: Layout, version: int) -> bool:
    """Whether the catalog shows a later version than the newest manifest, so that a manifest was deleted."""
    published = layout.published_version()
    return published > version and layout.newest_version() == version


def recover_manifest(layout: Layout, log: Callable[[str], None]) -> bool:
    """Go back to the newest manifest that can be read, where the newest one is damaged or gone; whether it was.

    Only for who then compares every table with its source: until then readers would see an older state.

    Args:
        layout: the store.
        log: gets a line that names the manifest and the version that takes its place.

    Raises:
        StoreFormatUnknown: see `read_manifest`.
        StoreBusy, StoreUnwritable: see `held`.
        CommitFailed, CommitUnconfirmed: see `commit`.
    """
    try:
        load_manifest(layout)
    except ManifestUnreadable:
        pass
    else:
        return False
    with held(layout):
        try:
            load_manifest(layout)
        except ManifestUnreadable as error:
            damaged = error
        else:
            return False
        newest = max(layout.newest_version(), layout.published_version())
        earlier = _newest_readable(layout, newest)
        log(f"{damaged} Going back to version {earlier.version}: what has changed since is read again.")
        retired = {item.path: item for item in _all_retired(layout)}
        for file in earlier.live_files:
            retired.pop(file.path, None)
        following = replace(earlier, version=newest + 1, committed_at=datetime.now(UTC), retired=(*retired.values(),))
        advance(layout, following)
    return True


def _newest_readable(layout: Layout, newest: int) -> Manifest:
    for version in range(newest, 0, -1):
        with suppress(ManifestUnreadable, FileNotFoundError):
            return read_manifest(layout.manifest_of(version))
    return Manifest()


def load_or_retire(layout: Layout) -> Manifest:
    """The current state; where its manifest is damaged, one that lists nothing and has retired all files on the disk.

    Raises:
        StoreFormatUnknown: see `read_manifest`.
    """
    try:
        return load_manifest(layout)
    except ManifestUnreadable:
        newest = max(layout.newest_version(), layout.published_version())
        return Manifest(newest, datetime.now(UTC), retired=tuple(_all_retired(layout)))


def _all_retired(layout: Layout) -> Iterator[Retired]:
    """Every data file on the disk, as retired now."""
    now = datetime.now(UTC)
    for path in sorted(layout.tables.rglob("*.parquet")):
        yield Retired(str(path.relative_to(layout.root)), path.stat().st_size, now)


def commit(layout: Layout, stage: Stage, change: Change) -> Manifest:
    """Make a change the next version of the store.

    The change is applied to the state as it is under the lock, so that of two committers neither undoes the other.

    Args:
        layout: the store.
        stage: holds the change's new files.
        change: tables and views, all or nothing.

    Raises:
        DataFileMissing: a file of a changed table is not there in its full size.
        CommitFailed: the disk refused to write; nothing has changed.
        CommitUnconfirmed: the version is published, but the disk did not say that it would survive a power cut.
        StoreBusy, StoreUnwritable: the commit lock cannot be had.
        StoreError: see `Manifest.after` and `build_catalog`.
    """
    return _publish(layout, stage, lambda current: current.after(change, datetime.now(UTC)))


def commit_state(layout: Layout, stage: Stage, state: Manifest) -> Manifest:
    """Make another state the next version, whatever was published before, and whether or not that can be read.

    Args:
        layout: the store.
        stage: holds all files of `state`.
        state: its tables, views and metadata.

    Raises:
        StoreError: see `commit`.
    """
    return _publish(layout, stage, lambda current: current.replaced_by(state, datetime.now(UTC)), load_or_retire)


def _publish(
    layout: Layout,
    stage: Stage,
    step: Callable[[Manifest], Manifest],
    load: Callable[[Layout], Manifest] = load_manifest,
) -> Manifest:
    with held(layout):
        current = load(layout)
        following = step(current)
        changed = [table for name, table in following.tables.items() if table is not current.tables.get(name)]
        taken: list[tuple[Path, Path]] = []
        try:
            with _failure_named(layout):
                _take_files(layout, stage, _new_files(current, changed), taken)
                _check_files(layout, changed)
            advance(layout, following)
        except BaseException:
            if layout.newest_version() == current.version:
                for staged, target in taken:
                    target.rename(staged)  # goes with its stage, or is committed again
            raise
    return following


def refresh_catalog(layout: Layout) -> Manifest:
    """Rebuild the catalog from the newest manifest: after a crash before it was written, a loss, or a move."""
    with held(layout):
        current = load_manifest(layout)
        _place_catalog(layout, current)
        publish_catalog(layout, current.version)
    return current


def _new_files(current: Manifest, changed: Iterable[Table]) -> Iterator[DataFile]:
    known = {file.path for file in current.live_files}
    return (file for table in changed for file in table.files if file.path not in known)


def _take_files(layout: Layout, stage: Stage, files: Iterable[DataFile], taken: list[tuple[Path, Path]]) -> None:
    """Move files from their stage to their table, noting each move; retired ones are in their place."""
    folders: set[Path] = set()
    for file in files:
        target = layout.root / file.path
        if target.parent not in folders:
            target.parent.mkdir(exist_ok=True)
            folders.add(target.parent)
        staged = stage.folder / target.name
        try:
            staged.rename(target)
        except FileNotFoundError:
            if not target.exists():
                raise DataFileMissing(str(staged), file.bytes, None) from None
        else:
            taken.append((staged, target))
    for folder in folders:
        fsync_path(folder)
    if folders:
        fsync_path(layout.tables)


@contextmanager
def held(layout: Layout) -> Iterator[None]:
    """Hold the commit lock. Its file may be open to a user who may not change the folders around it.

    Raises:
        StoreBusy: another process kept it.
        StoreUnwritable: this user may not write the store.
    """
    with locked(layout.commit_lock, timeout=LOCK_TIMEOUT):
        if not os.access(layout.staging, os.W_OK):
            raise StoreUnwritable(str(layout.root))
        yield


def _check_files(layout: Layout, tables: Iterable[Table]) -> None:
    """Of the tables that a commit changes: a lost file of another one must not keep this one from being refreshed."""
    for file in (file for table in tables for file in table.files):
        found = layout.size_of(file.path)
        if found != file.bytes:
            raise DataFileMissing(f"{layout.root}/{file.path}", file.bytes, found)


@contextmanager
def _failure_named(layout: Layout) -> Iterator[None]:
    """Around the steps after which a failure has changed nothing yet."""
    try:
        yield
    except (OSError, duckdb.IOException) as error:
        raise CommitFailed(str(layout.root), str(error).split("\n")[0]) from error


def advance(layout: Layout, manifest: Manifest) -> None:
    """Publish a version whose files are in place; the commit lock is held.

    Raises:
        CommitFailed, CommitUnconfirmed, VersionTaken, ViewsRefused: see `commit`.
    """
    with _failure_named(layout):
        _place_catalog(layout, manifest)
        _claim(layout, manifest)
    try:
        fsync_path(layout.manifests)
    except OSError as error:
        raise CommitUnconfirmed(str(layout.root), manifest.version, str(error)) from error
    try:
        publish_catalog(layout, manifest.version)
        prune(layout, manifest.version)
    except OSError as error:  # whoever opens the store next repairs it
        logger.warning("Version %d is published, but catalog.duckdb may be behind it: %s", manifest.version, error)


def _place_catalog(layout: Layout, manifest: Manifest) -> None:
    draft = layout.staging / f".catalog-{uuid.uuid4().hex}.duckdb"
    layout.catalogs.mkdir(exist_ok=True)  # it may be thrown away at any time
    try:
        build_catalog(manifest, layout, draft)
        draft.replace(layout.catalog_of(manifest.version))
    finally:
        draft.unlink(missing_ok=True)
        draft.with_name(draft.name + ".wal").unlink(missing_ok=True)


def _claim(layout: Layout, manifest: Manifest) -> None:
    """Make a version visible, its file durable. From here on it is the state of the store."""
    draft = layout.staging / f".manifest-{uuid.uuid4().hex}"
    try:
        write_manifest(manifest, draft)
        fsync_path(draft)
        os.link(draft, layout.manifest_of(manifest.version))
    except FileExistsError:
        raise VersionTaken(manifest.version, str(layout.root)) from None
    finally:
        draft.unlink(missing_ok=True)


def prune(layout: Layout, current: int) -> None:
    """Forget versions of long ago. A catalog of a version that was never claimed is replaced by that version's own."""
    for folder in (layout.manifests, layout.catalogs):
        for path in folder.iterdir():
            if path.stem.isdecimal() and int(path.stem) <= current - KEEP_VERSIONS:
                path.unlink(missing_ok=True)
