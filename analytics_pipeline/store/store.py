"""The published store as its users see it: open, stage, commit, query, sweep.

Belongs here: the facade over the modules beside it, and the cache of the session that reads the newest version.
Does not: how any of it works.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl

from analytics_pipeline.boundary import at_boundary, environment_errors
from analytics_pipeline.errors import (
    DataFileMissing,
    ManifestUnreadable,
    PartitionsMoved,
    StaleReader,
    StoreNotFound,
    StoreUnwritable,
)
from analytics_pipeline.forks import leave_to_parent, renew_in_child
from analytics_pipeline.store import commit as commits
from analytics_pipeline.store.backup import Restored, back_up, restore
from analytics_pipeline.store.catalog import attach_catalog
from analytics_pipeline.store.compaction import CompactedTable, compact
from analytics_pipeline.store.digest import FileCheck, damaged_files, set_aside
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.locks import exclusive, shared
from analytics_pipeline.store.manifest import Change, Manifest
from analytics_pipeline.store.merge_plan import CompactionRules
from analytics_pipeline.store.partition import DataFile, distinct_files
from analytics_pipeline.store.preview import Preview, open_preview
from analytics_pipeline.store.reader import Reading, SqlSession
from analytics_pipeline.store.schema import checked_table_name
from analytics_pipeline.store.sealed import DEFAULT_MEMORY, DEFAULT_TIMEOUT, Parameters
from analytics_pipeline.store.split import completed
from analytics_pipeline.store.stage import ResumableStage, Stage, open_resumable_stage, open_stage
from analytics_pipeline.store.sweep import Swept, sweep

logger = logging.getLogger(__name__)

DEFAULT_GRACE = timedelta(hours=1)
_RULES = CompactionRules()
_SPLIT_ATTEMPTS = 10
"""Each further one takes a compaction or another writer of the same table that was faster."""


class Store:
    """A published store: any number of processes may write and read it at once.

    Make one with `create_store` or `open_store`. Safe to share between threads.

    Args:
        layout: where it lies.
        grace: how long a replaced file stays for readers of earlier versions.
        memory_limit: for SQL queries of this process, as DuckDB spells it.
    """

    def __init__(self, layout: Layout, *, grace: timedelta = DEFAULT_GRACE, memory_limit: str = DEFAULT_MEMORY) -> None:
        self.layout = layout
        self._grace = grace
        self._memory_limit = memory_limit
        self._manifest = Manifest()
        self._session: SqlSession | None = None
        self._users: dict[SqlSession, int] = {}
        self._guard = threading.Lock()
        renew_in_child(self, Store._renew)

    def _renew(self) -> None:
        """In a forked child: nobody there releases the parent's lock, and DuckDB needs the parent's threads."""
        self._guard = threading.Lock()
        leave_to_parent((self._session, *self._users))
        self._session, self._users = None, {}

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self.layout.root

    def manifest(self) -> Manifest:
        """The current state."""
        version = self.layout.newest_version()
        with self._guard:
            if self._manifest.version != version or version == 0:  # all manifests may be lost
                self._manifest = commits.load_manifest(self.layout)
            return self._manifest

    def stage(self, sync_id: str) -> AbstractContextManager[Stage]:
        """A staging folder for one sync; see `open_stage`."""
        return open_stage(self.layout, sync_id, lock_timeout=commits.LOCK_TIMEOUT)

    def resumable_stage(self, name: str) -> AbstractContextManager[ResumableStage]:
        """A stage that outlives its process and is taken up by the next one; see `ResumableStage`."""
        return open_resumable_stage(self.layout, name, lock_timeout=commits.LOCK_TIMEOUT)

    @contextmanager
    def exclusive(self, name: str, log: Callable[[str], None]) -> Iterator[None]:
        """Hold a lock of this store for a `with` block, however long another process has it; says that it waits.

        Meanwhile nobody restores a backup.
        """
        own = self.layout.root / f".dataset-{checked_table_name(name)}.lock"
        with exclusive(own, log), shared(self.layout.restore_lock, log):
            yield

    def commit(self, stage: Stage, change: Change) -> Manifest:
        """Make a change the next version, all or nothing; see `commit.commit`.

        Where other partitions share a file with replaced ones, their rows are written anew before, without a lock.
        """
        own = {table.name: table.expected.keys() for table in change.tables}
        for _ in range(_SPLIT_ATTEMPTS - 1):
            try:
                return commits.commit(self.layout, stage, completed(self.layout, stage, self.manifest(), change))
            except PartitionsMoved as error:
                if not own[error.table].isdisjoint(error.keys):
                    raise
        return commits.commit(self.layout, stage, completed(self.layout, stage, self.manifest(), change))

    def preview(self, stage: Stage, change: Change) -> AbstractContextManager[Preview]:
        """The store as a commit of the change would make it; see `preview.open_preview`."""
        current = self.manifest()
        return open_preview(self.layout, stage, current, completed(self.layout, stage, current, change))

    def damaged_partitions(self, table: str) -> frozenset[str]:
        """Partitions of a table with a data file that is lost, or not as long as it was written."""
        published = self.manifest().tables.get(table)
        partitions = published.partitions.values() if published else ()
        damaged = {file.path for file in distinct_files(partitions) if self._is_damaged(file)}
        return frozenset(part.key for part in partitions if any(file.path in damaged for file in part.files))

    def set_aside_damage(self, tables: Iterable[str], log: Callable[[str], None] = logger.warning) -> FileCheck:
        """Read every file of some tables, compare it with what was written, and set aside what differs.

        Queries then name the file instead of reading it, and the next refresh reads its partitions again.

        Args:
            tables: their names; those that are not published are left out.
            log: gets a line for each damaged file.

        Raises:
            StoreReadDenied: this user may not read a file.
        """
        published = [table for name, table in self.manifest().tables.items() if name in set(tables)]
        files = {file.path: file for table in published for file in table.files}
        damaged = damaged_files(self.layout, files.values())
        if damaged:  # what a commit replaced meanwhile may have been swept
            listed = {file.path for file in self.manifest().live_files}
            damaged = {path: problem for path, problem in damaged.items() if path in listed}
        for path, problem in damaged.items():
            set_aside(self.layout, path)
            log(f"{self.root / path}: {problem}. Its partitions are read again.")
        unproven = frozenset(path for path, file in files.items() if file.digest is None)
        return FileCheck(frozenset(files), damaged, unproven)

    def _refuse_damage(self) -> None:
        """Name a lost file: nobody swept it, and reopening would not help."""
        for file in self.manifest().live_files:
            if self._is_damaged(file):
                raise DataFileMissing(str(self.root / file.path), file.bytes, self.layout.size_of(file.path))

    def _is_damaged(self, file: DataFile) -> bool:
        return self.layout.size_of(file.path) != file.bytes

    def recover(self, log: Callable[[str], None] = logger.warning) -> bool:
        """Go back to the newest readable version where the manifest is damaged; see `commit.recover_manifest`."""
        try:
            self.manifest()
        except ManifestUnreadable:
            return commits.recover_manifest(self.layout, log)
        return False

    def compact(self, rules: CompactionRules = _RULES) -> Sequence[CompactedTable]:
        """Merge small files of closed partitions; see `compaction.compact`."""
        return compact(self.layout, rules)

    def regenerate_catalog(self) -> Manifest:
        """Build the catalog of the newest version anew, and point `catalog.duckdb` at it."""
        return commits.refresh_catalog(self.layout)

    def backup(self, target: Path) -> Manifest:
        """Copy the current version to a store of its own; see `backup.back_up`."""
        return back_up(self.layout, target)

    def restore(self, source: Path, log: Callable[[str], None] = logger.info) -> Restored:
        """Publish the state of a backup in place of the current one; see `backup.restore`."""
        return restore(self.layout, source, log)

    def sweep(self) -> Swept:
        """Remove dead stages, files past their grace, and files that no version lists."""
        return sweep(self.layout, self._grace)

    def query(
        self, sql: str, params: Parameters = None, *, timeout: float = DEFAULT_TIMEOUT, untrusted: bool = False
    ) -> pl.DataFrame:
        """The rows of one SELECT over the newest version of the store.

        Args:
            sql: DuckDB's dialect; tables and views by their plain names.
            params: for `?` (a sequence) or `$name` (a mapping).
            timeout: seconds after which the query is interrupted.
            untrusted: whether it runs in another process, which is killed where it exceeds its time or memory.

        Raises:
            QueryRefused, QueryFailed, QueryTimedOut, ResultTooLarge, StaleReader: see `SqlSession.query`.
        """
        with self.reading() as reading:
            return reading.query(sql, params, timeout=timeout, untrusted=untrusted)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """The newest version for a `with` block: its state, and queries that all see it, whatever is committed.

        Raises:
            DataFileMissing: a query met a lost file, which reopening would not bring back.
        """
        with self._newest_session() as session:
            try:
                yield Reading(session)
            except StaleReader:
                if session.manifest.version == self.layout.newest_version():
                    self._refuse_damage()
                raise

    def close(self) -> None:
        """Let go of the cached session."""
        with self._guard:
            if self._session is not None and self._session not in self._users:
                self._session.close()
            self._session = None

    @contextmanager
    def _newest_session(self) -> Iterator[SqlSession]:
        manifest = self.manifest()
        with self._guard:
            if self._session is None or not self._session.shows(manifest.version, self.layout):
                outdated, self._session = self._session, self._new_session(manifest)
                if outdated is not None and outdated not in self._users:
                    outdated.close()
            session = self._session
            self._users[session] = self._users.get(session, 0) + 1
        try:
            yield session
        finally:
            with self._guard:
                self._users[session] -= 1
                if self._users[session] == 0:
                    del self._users[session]
                    if session is not self._session:
                        session.close()

    def _new_session(self, manifest: Manifest) -> SqlSession:
        with environment_errors(self.root):  # the catalog of readers may need room, too
            return SqlSession(self.layout, manifest, memory_limit=self._memory_limit)


@at_boundary
def create_store(root: Path, *, grace: timedelta = DEFAULT_GRACE) -> Store:
    """The store at a folder, made where there is none yet.

    Raises:
        FilesystemUnfit: the folder's file system cannot keep the store's promises.
        StoreUnwritable: this user may not write there.
        ManifestUnreadable: data files are there, but nothing that lists them.
    """
    layout = Layout(root.expanduser().resolve())
    if not layout.manifests.is_dir():
        if any(layout.tables.rglob("*.parquet")):  # a new store's first sweep would remove them
            raise ManifestUnreadable(str(layout.manifests), "the folder is gone, while data files are there")
        layout.create()
    return _opened(layout, grace)


@at_boundary
def open_store(root: Path, *, grace: timedelta = DEFAULT_GRACE) -> Store:
    """The store at a folder.

    Raises:
        StoreNotFound: there is none.
        StoreFormatUnknown: a later release wrote it.
    """
    layout = Layout(root.expanduser().resolve())
    if not layout.manifests.is_dir():
        raise StoreNotFound(str(layout.root))
    return _opened(layout, grace)


@at_boundary
def unopened_store(root: Path) -> Store:
    """The store at a folder as it lies there: nothing is repaired, so that what is damaged can be named.

    Raises:
        StoreNotFound: there is none.
    """
    layout = Layout(root.expanduser().resolve())
    if not layout.manifests.is_dir():
        raise StoreNotFound(str(layout.root))
    return Store(layout)


@at_boundary
def open_for_restore(root: Path) -> Store:
    """The store at a folder, to be restored: made where there is none yet, opened also where it cannot be read.

    Raises:
        FilesystemUnfit, StoreUnwritable: see `create_store`.
    """
    layout = Layout(root.expanduser().resolve())
    layout.create()
    return Store(layout)


def _opened(layout: Layout, grace: timedelta) -> Store:
    """A store whose catalog belongs to its newest manifest and its own folder: a crash or a copy may part them.

    On a store that this user cannot write it is left as it is; sessions then build one of their own.
    """
    # A damaged manifest is named by the first question; a refresh can go back to the one before.
    with contextlib.suppress(StoreUnwritable, PermissionError, ManifestUnreadable):
        layout.restore_folders()
        if not _is_published(layout):
            commits.refresh_catalog(layout)
    return Store(layout, grace=grace)


def _is_published(layout: Layout) -> bool:
    with duckdb.connect() as connection:
        return attach_catalog(connection, layout.catalog, layout.newest_version(), layout)
