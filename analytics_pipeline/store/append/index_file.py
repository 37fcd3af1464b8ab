"""The SQLite file of an index: made, opened for the one who writes and for all who read.

Belongs here: its tables, its connections, the signs that it cannot be believed. Does not: what is asked of it
(`index`), or when it is made anew (`access`).

The index knows the inode of its own file: that of a copied store may have been copied while somebody wrote it, and is
made anew from the Parquet files.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from analytics_pipeline.forks import close_before_fork, leave_to_parent, without_fork
from analytics_pipeline.store.append.index import Index

T = TypeVar("T")

FORMAT = 2
_PATIENCE = 60.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ)
"""The last one where somebody took the log away while the index was open."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, name TEXT NOT NULL, stamp INTEGER, rows INTEGER NOT NULL,
    call TEXT, copy INTEGER, UNIQUE (table_name, name)
);
CREATE INDEX IF NOT EXISTS tail_of_a_table ON files (table_name, name) WHERE copy IS NULL;
CREATE INDEX IF NOT EXISTS newest_of_a_table ON files (table_name, stamp);
CREATE INDEX IF NOT EXISTS pending_files ON files (call) WHERE call IS NOT NULL;
CREATE TABLE IF NOT EXISTS identities (
    table_name TEXT NOT NULL, identity TEXT NOT NULL, file INTEGER NOT NULL,
    PRIMARY KEY (table_name, identity, file)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identities_of_a_file ON identities (file);
CREATE TABLE IF NOT EXISTS columns (
    table_name TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (table_name, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS copies (
    id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, name TEXT NOT NULL, rows INTEGER NOT NULL, retired_at REAL
);
CREATE TABLE IF NOT EXISTS folders (table_name TEXT PRIMARY KEY, changed_at INTEGER, through INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (inode INTEGER, views INTEGER NOT NULL, published INTEGER NOT NULL);
"""
_ADDITIONS = """
CREATE TABLE IF NOT EXISTS lost (
    table_name TEXT NOT NULL, name TEXT NOT NULL, rows INTEGER NOT NULL, since REAL NOT NULL,
    identities INTEGER NOT NULL, PRIMARY KEY (table_name, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost_identities (
    table_name TEXT NOT NULL, identity TEXT NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY (table_name, identity, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lost_identities_of_all_tables ON lost_identities (identity);
CREATE TABLE IF NOT EXISTS digests (
    table_name TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL, digest TEXT NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (table_name, name)
) WITHOUT ROWID;
"""
"""Tables that an index of format 2 got later: whoever writes next adds them to one that lacks them."""


class IndexUnfit(sqlite3.DatabaseError):
    """An index of another format, or of another folder."""


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether an error means that the index must be made anew."""
    return isinstance(error, IndexUnfit) or getattr(error, "sqlite_errorcode", None) in _DAMAGED


class IndexFile:
    """The index at a path. Its connection is kept from one write to the next, for opening costs more than a write.

    Only for who holds the write lock.

    Args:
        path: of the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._close: weakref.finalize[..., IndexFile] | None = None
        self._connection: sqlite3.Connection | None = None
        self._of: tuple[int, tuple[int, int] | None] | None = None
        close_before_fork(self, IndexFile.close)

    @contextmanager
    def opened(self) -> Iterator[Index]:
        """The index, made where there is none.

        Raises:
            IndexUnfit: it is of another format, or a copy.
            sqlite3.DatabaseError: it is damaged, or cannot be written.
        """
        with without_fork():
            try:
                yield Index(self._kept())
            except sqlite3.Error:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._close is not None:
            self._close()
        self._connection, self._of = None, None

    def remove(self) -> None:
        """Remove the index: it is made anew by the next one who opens it."""
        self.close()
        for path in (self._path, _log_of(self._path), self._path.with_name(f"{self._path.name}-shm")):
            path.unlink(missing_ok=True)

    def _kept(self) -> sqlite3.Connection:
        if self._connection is None or self._of != (os.getpid(), _inodes(self._path)):
            self.close()
            self._connection = _connected(self._path)
            self._close = weakref.finalize(self, _close_in, os.getpid(), self._connection)
            self._of = (os.getpid(), _inodes(self._path))
        return self._connection


def _close_in(process: int, connection: sqlite3.Connection) -> None:
    if process == os.getpid():
        connection.close()
    else:
        leave_to_parent(connection)  # a fork could not wait for the end of its use


def _inodes(path: Path) -> tuple[int, int] | None:
    """What tells whether somebody has put another file, or another log, in the place of those that are open."""
    try:
        return path.stat().st_ino, _log_of(path).stat().st_ino
    except FileNotFoundError:
        return None


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        # A write-ahead log, so that readers never wait.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if _is_empty(connection):
            _create(connection, path.stat().st_ino)
        _check(connection, path)
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'digests'").fetchone() is None:
            connection.executescript(f"BEGIN; {_ADDITIONS} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def _create(connection: sqlite3.Connection, inode: int) -> None:
    connection.executescript(
        f"BEGIN; {_SCHEMA} {_ADDITIONS} INSERT INTO about VALUES ({inode}, 0, 0); "
        f"PRAGMA user_version = {FORMAT}; COMMIT;"
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != FORMAT:
        raise IndexUnfit(f"it has the format {found} instead of {FORMAT}")
    if connection.execute("SELECT inode FROM about").fetchone() != (path.stat().st_ino,):
        raise IndexUnfit("it is a copy")


def copy_index(source: Path, target: Path) -> None:
    """Copy an index to a file that is not there yet. Nobody writes it meanwhile.

    Raises:
        sqlite3.DatabaseError: it is damaged, or the copy cannot be written.
    """
    with without_fork(), closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)
        there.execute("UPDATE about SET inode = ?", [target.stat().st_ino])
        there.commit()


def index_in_memory() -> sqlite3.Connection:
    """An index that nobody else sees, for a folder in which this user may not write."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _create(connection, 0)
    return connection


def read_index(path: Path, ask: Callable[[Index], T]) -> T:
    """What somebody wants to know of the index at a path: of one state, whatever others commit.

    Raises:
        IndexUnfit: it is of another format, or a copy.
        sqlite3.DatabaseError: there is none, or it cannot be read.
    """
    try:
        return _asked(path, "mode=ro", ask)
    except sqlite3.OperationalError:
        # Without a log, SQLite would make one, which this user may not. Then the file is all there is.
        before = _state(path)
        if before is None:
            raise
        answer = _asked(path, "mode=ro&immutable=1", ask)
        if _state(path) != before:
            raise
        return answer


def _asked(path: Path, options: str, ask: Callable[[Index], T]) -> T:
    uri = f"{path.as_uri()}?{options}"
    with (
        without_fork(),
        closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)) as connection,
    ):
        connection.execute("BEGIN")
        _check(connection, path)
        return ask(Index(connection))


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file without a log is written; None where it has a log, or where there is no file."""
    if _log_of(path).exists() or not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
