"""Where everything of a folder of append-only tables lies.

Belongs here: paths and names. Does not: the content of any file.

The folder of a table holds nothing but its Parquet files; what is derived has a hidden name and another ending, so
that no reader of `**/*.parquet` sees a row twice.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.schema import TABLE_NAME

_ENDING = ".parquet"


@dataclass(frozen=True)
class AppendLayout:
    """The folders and files below a root.

    Args:
        root: absolute, symlinks resolved.
    """

    root: Path

    @property
    def index(self) -> Path:
        """The SQLite file that knows all others."""
        return self.root / ".index.sqlite"

    @property
    def views(self) -> Path:
        """The views that the owner of the tables brings along: see `derived`."""
        return self.root / ".views.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that writes."""
        return self.root / ".write.lock"

    @property
    def staging(self) -> Path:
        """Files of calls that have not ended."""
        return self.root / ".staging"

    @property
    def compacted(self) -> Path:
        """Copies of many small files in one."""
        return self.root / ".compacted"

    @property
    def damaged(self) -> Path:
        """Files that did not hold what was written, kept for a person to look at."""
        return self.root / ".damaged"

    def folder(self, table: str) -> Path:
        """The Parquet files of a table."""
        return self.root / table

    def create(self) -> None:
        """Make the folders that are not there yet."""
        if not self.staging.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            self.staging.mkdir(exist_ok=True)
            fsync_path(self.root)

    def table_folders(self) -> Iterator[str]:
        """Names of all folders that may be tables."""
        if self.root.is_dir():
            for path in sorted(self.root.iterdir()):
                if TABLE_NAME.fullmatch(path.name) and path.is_dir():
                    yield path.name

    def parquet_files(self, table: str) -> Iterator[str]:
        """Names of a table's files, those of other programs included; pipes and folders of such names are none."""
        with os.scandir(self.folder(table)) as entries:  # ten times as fast as a Path each
            for entry in entries:
                if entry.name.endswith(_ENDING) and not entry.name.startswith(".") and entry.is_file():
                    yield entry.name

    def copies(self) -> set[str]:
        """Names of the copies that are there."""
        try:
            return set(os.listdir(self.compacted))  # noqa: PTH208 - each write asks
        except FileNotFoundError:
            return set()

    def changed_at(self, table: str) -> int | None:
        """When a file was last added to a table's folder or taken from it, in nanoseconds; None without a folder."""
        try:
            return self.folder(table).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def mark(self, table: str) -> int | None:
        """As `changed_at`, but any later change is told from this one.

        Before Linux 6.13 a folder's time has steps of some milliseconds, and a file that another program adds within
        the same step would not be seen. So the time is set to one between two steps, where this user may.
        """
        with contextlib.suppress(OSError):
            now = time.time_ns()
            os.utime(self.folder(table), ns=(now, now))
        return self.changed_at(table)


def new_name(now_ms: int, newest: int | None) -> str:
    """A file name that no other file has, and that sorts after those before it even where the clock was set back.

    Args:
        now_ms: milliseconds since 1970.
        newest: of the table's newest file.
    """
    stamp = now_ms if newest is None else max(now_ms, newest + 1)
    return f"{stamp:013d}_{uuid.uuid4().hex[:8]}{_ENDING}"
