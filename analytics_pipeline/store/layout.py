"""Where everything of a store lies, and the file-system promises that it needs.

Belongs here: paths, fsync, the check of a new root. Does not: the content of any file.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from analytics_pipeline.errors import FilesystemUnfit
from analytics_pipeline.store.locks import try_lock


@dataclass(frozen=True)
class Layout:
    """The folders and files below a store's root.

    Args:
        root: absolute, symlinks resolved: views name their files by it.
    """

    root: Path

    @property
    def catalog(self) -> Path:
        """What people open: a link to the newest catalog."""
        return self.root / "catalog.duckdb"

    @property
    def catalogs(self) -> Path:
        """One catalog a recent version."""
        return self.root / "catalogs"

    @property
    def manifests(self) -> Path:
        """One manifest a recent version."""
        return self.root / "manifest"

    @property
    def tables(self) -> Path:
        """The data files, one folder a table."""
        return self.root / "tables"

    @property
    def staging(self) -> Path:
        """One folder a sync at work."""
        return self.root / "staging"

    @property
    def commit_lock(self) -> Path:
        """Held by the one process that commits or sweeps."""
        return self.root / ".commit.lock"

    def manifest_of(self, version: int) -> Path:
        """The manifest of a version."""
        return self.manifests / f"{version:09d}.parquet"

    def catalog_of(self, version: int) -> Path:
        """The catalog of a version."""
        return self.catalogs / f"{version:09d}.duckdb"

    def newest_version(self) -> int:
        """The current version; 0 for an empty store."""
        return max((int(path.stem) for path in self.manifests.iterdir() if path.suffix == ".parquet"), default=0)

    def create(self) -> None:
        """Make the folders, after a check that the file system keeps the promises the store rests on.

        Raises:
            FilesystemUnfit: it has no hard links, locks or fsync; names which.
        """
        for folder in (self.manifests, self.tables, self.staging, self.catalogs):
            folder.mkdir(parents=True, exist_ok=True)
        _check_filesystem(self.root)


def fsync_path(path: Path) -> None:
    """Force a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_filesystem(root: Path) -> None:
    probe = root / f".probe-{uuid.uuid4().hex}"
    other = probe.with_suffix(".link")
    lock = try_lock(probe)
    try:
        second = try_lock(probe)
        if second is not None:
            second.release()
            raise FilesystemUnfit(str(root), "file locks (flock)")
        try:
            os.link(probe, other)
        except OSError:
            raise FilesystemUnfit(str(root), "hard links") from None
        try:
            fsync_path(root)
        except OSError:
            raise FilesystemUnfit(str(root), "fsync of folders") from None
    finally:
        if lock is not None:
            lock.release()
        probe.unlink(missing_ok=True)
        other.unlink(missing_ok=True)
