"""The commit: how one version of the store becomes the next, all of it or nothing, whatever dies meanwhile.

Belongs here: the order of moves, fsyncs and links that makes a version durable before it is visible; the sweep that
undoes what a dead process left. Does not: what a version consists of (`manifest`), or the views (`catalog`).

The order matters: data files are forced to the disk before the manifest names them; the manifest is claimed by a hard
link, which fails where another process claimed that version; the catalog comes last and can be lost at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from analytics_pipeline.errors import DataFileMissing
from analytics_pipeline.store.catalog import build_catalog, publish_catalog
from analytics_pipeline.store.layout import Layout, fsync_path
from analytics_pipeline.store.locks import locked
from analytics_pipeline.store.manifest import Change, DataFile, Manifest, read_manifest, write_manifest
from analytics_pipeline.store.stage import Stage, sweep_stages

LOCK_TIMEOUT = 120.0
"""Seconds to wait for the commit lock. It is held for milliseconds, and never while a source is read."""

KEEP_VERSIONS = 20
"""Manifests and catalogs kept: for readers on their way to an older one, and for a person who looks back."""


@dataclass(frozen=True)
class Swept:
    """What a sweep removed: names of dead stages, paths of expired and of unlisted files."""

    stages: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()


def load_manifest(layout: Layout) -> Manifest:
    """The current state; the empty one where nothing was committed yet."""
    version = layout.newest_version()
    return read_manifest(layout.manifest_of(version)) if version else Manifest()


def commit(layout: Layout, stage: Stage, change: Change) -> Manifest:
    """Make a change the next version of the store.

    The change is applied to the state as it is under the lock, so that of two committers neither undoes the other.

    Args:
        layout: the store.
        stage: holds the change's new files.
        change: tables and views, all or nothing.

    Raises:
        DataFileMissing: a listed file is not there in its full size.
        StoreBusy: another process kept the commit lock.
        StoreError: see `Manifest.after`.
    """
    with locked(layout.commit_lock, timeout=LOCK_TIMEOUT):
        current = load_manifest(layout)
        following = current.after(change, datetime.now(UTC))
        _take_files(layout, stage, change)
        _check_files(layout, following)
        _claim(layout, following)
        _publish(layout, following)
    return following


def refresh_catalog(layout: Layout) -> Manifest:
    """Rebuild the catalog from the newest manifest: after a crash before it was written, a loss, or a move."""
    with locked(layout.commit_lock, timeout=LOCK_TIMEOUT):
        current = load_manifest(layout)
        _publish(layout, current)
    return current


def sweep(layout: Layout, grace: timedelta) -> Swept:
    """Remove dead stages, retired files whose grace has passed, and files that no version lists.

    Files are moved into `tables/` only under the lock that is held here, so an unlisted one belongs to nobody alive.
    """
    with locked(layout.commit_lock, timeout=LOCK_TIMEOUT):
        stages = sweep_stages(layout)
        current = load_manifest(layout)
        now = datetime.now(UTC)
        expired = tuple(item.path for item in current.retired if item.retired_at + grace <= now)
        if expired:
            current = current.without_retired(expired, now)
            _claim(layout, current)
            _publish(layout, current)
        listed = {file.path for file in current.live_files} | {item.path for item in current.retired}
        orphans = []
        for path in layout.tables.rglob("*.parquet"):
            relative = str(path.relative_to(layout.root))
            if relative not in listed:
                path.unlink()
                orphans.append(relative)
    unlisted = tuple(sorted(set(orphans) - set(expired)))
    return Swept(tuple(stages), expired, unlisted)


def _take_files(layout: Layout, stage: Stage, change: Change) -> None:
    folders: set[Path] = set()
    for file in change.files:
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
    for folder in folders:
        fsync_path(folder)
    if folders:
        fsync_path(layout.tables)


def _check_files(layout: Layout, manifest: Manifest) -> None:
    for file in manifest.live_files:
        found = _size(layout, file)
        if found != file.bytes:
            raise DataFileMissing(str(layout.root / file.path), file.bytes, found)


def _size(layout: Layout, file: DataFile) -> int | None:
    try:
        return (layout.root / file.path).stat().st_size
    except FileNotFoundError:
        return None


def _claim(layout: Layout, manifest: Manifest) -> None:
    """Make a version durable, then visible. From here on it is the state of the store."""
    draft = layout.staging / f".manifest-{os.getpid()}-{manifest.version}"
    try:
        write_manifest(manifest, draft)
        fsync_path(draft)
        os.link(draft, layout.manifest_of(manifest.version))
    finally:
        draft.unlink(missing_ok=True)
    fsync_path(layout.manifests)


def _publish(layout: Layout, manifest: Manifest) -> None:
    """Build and show the catalog of a version, and forget versions of long ago."""
    draft = layout.staging / f".catalog-{os.getpid()}-{manifest.version}.duckdb"
    draft.unlink(missing_ok=True)
    build_catalog(manifest, layout, draft)
    draft.replace(layout.catalog_of(manifest.version))
    publish_catalog(layout, manifest.version)
    oldest_kept = manifest.version - KEEP_VERSIONS
    _prune(layout.manifests, lambda version: version <= oldest_kept)
    _prune(layout.catalogs, lambda version: version <= oldest_kept or version > manifest.version)


def _prune(folder: Path, outdated: Callable[[int], bool]) -> None:
    for path in folder.iterdir():
        if path.stem.isdigit() and outdated(int(path.stem)):
            path.unlink(missing_ok=True)
