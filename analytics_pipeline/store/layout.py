"""Where everything of a store lies, and the file-system promises that it needs.

Belongs here: paths, fsync, the check of a new root. Does not: the content of any file.
"""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from analytics_pipeline.errors import FilesystemUnfit, NameRefused, StoreNotFound, StoreReadDenied, StoreUnwritable
from analytics_pipeline.store.locks import try_lock

_MANIFEST = re.compile(r"\d{9,}\.parquet")


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

    def appended(self, schema: str) -> Path:
        """The folder of append-only tables whose views are in a schema of the catalog."""
        return self.root / schema

    @property
    def staging(self) -> Path:
        """One folder a sync at work."""
        return self.root / "staging"

    @property
    def damaged(self) -> Path:
        """Files that did not hold what was written, kept for a person to look at."""
        return self.root / "damaged"

    @property
    def commit_lock(self) -> Path:
        """Held by the one process that commits or sweeps."""
        return self.root / ".commit.lock"

    @property
    def restore_lock(self) -> Path:
        """Held by a restore alone, and by all together that hold the lock of a dataset."""
        return self.root / ".restore.lock"

    def manifest_of(self, version: int) -> Path:
        """The manifest of a version."""
        return self.manifests / f"{version:09d}.parquet"

    def catalog_of(self, version: int) -> Path:
        """The catalog of a version."""
        return self.catalogs / f"{version:09d}.duckdb"

    def catalog_state(self, version: int) -> tuple[int, int] | None:
        """What changes when the catalog of a version is made anew; None where there is none."""
        try:
            found = self.catalog_of(version).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def size_of(self, path: str) -> int | None:
        """Bytes of a data file, by its path relative to the root; None where there is none."""
        try:
            return os.stat(f"{self.root}/{path}").st_size  # noqa: PTH116 — pathlib takes longer than the kernel
        except FileNotFoundError:
            return None

    def newest_version(self) -> int:
        """The current version; 0 for an empty store.

        Raises:
            StoreNotFound: the store was removed or moved away.
            StoreReadDenied: this user may not look into it.
        """
        try:
            names = [path.name for path in self.manifests.iterdir()]
        except FileNotFoundError:
            raise StoreNotFound(str(self.root)) from None
        except PermissionError:
            raise StoreReadDenied(str(self.manifests)) from None
        return max((int(name[:-8]) for name in names if _MANIFEST.fullmatch(name)), default=0)

    def published_version(self) -> int:
        """The version that the link to the catalog names, which is moved after a manifest is written; 0 without one."""
        try:
            return int(self.catalog.readlink().stem)
        except (OSError, ValueError):
            return 0

    def create(self) -> None:
        """Make the folders, after a check that the file system keeps the promises the store rests on.

        Raises:
            FilesystemUnfit: it has no hard links, locks or fsync; names which.
            NameRefused: its path is none that DuckDB can open.
            StoreUnwritable: this user may not write there.
        """
        if odd := next((sign for sign in "?\\" if sign in str(self.root)), None):
            raise NameRefused(str(self.root), f"DuckDB opens no file whose path holds a {odd}; choose another folder")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            _check_filesystem(self.root)
            self.restore_folders()
            self.manifests.mkdir(exist_ok=True)  # the last one: it is what tells a store from a folder
        except PermissionError as error:
            raise StoreUnwritable(str(self.root)) from error
        fsync_path(self.root)
        fsync_path(self.root.parent)

    def restore_folders(self) -> None:
        """Make those folders again that a copy of the store may lack, because they were empty."""
        for folder in (self.tables, self.staging, self.catalogs):
            folder.mkdir(exist_ok=True)


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
    try:
        _check_locks(root, probe)
        try:
            os.link(probe, other)
        except OSError:
            raise FilesystemUnfit(str(root), "hard links") from None
        try:
            fsync_path(root)
        except OSError:
            raise FilesystemUnfit(str(root), "fsync of folders") from None
    finally:
        probe.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def _check_locks(root: Path, probe: Path) -> None:
    try:
        first, second = try_lock(probe), try_lock(probe)
    except OSError:
        raise FilesystemUnfit(str(root), "file locks (flock)") from None
    for lock in (first, second):
        if lock is not None:
            lock.release()
    if first is None or second is not None:
        raise FilesystemUnfit(str(root), "file locks (flock)")
