"""The index of append-only tables: which files there are, whose rows they hold, which of them are still being written.

Belongs here: the SQLite file, its tables and every statement on them. Does not: the Parquet files (`tables`), or when
the index is made anew (`recovery`).

One transaction names all files of a call with all that they hold; a second one says that they are in their place.
Between the two they are *pending*: whoever holds the write lock next puts them in their place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from analytics_pipeline.store.schema import Column, Columns

FORMAT = 1
_PATIENCE = 60.0
_IN_ONE_QUERY = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, name TEXT NOT NULL, stamp INTEGER, rows INTEGER NOT NULL,
    call TEXT, copy INTEGER, UNIQUE (table_name, name)
);
CREATE INDEX IF NOT EXISTS tail_of_a_table ON files (table_name, name) WHERE copy IS NULL;
CREATE INDEX IF NOT EXISTS newest_of_a_table ON files (table_name, stamp);
CREATE INDEX IF NOT EXISTS pending_files ON files (call) WHERE call IS NOT NULL;
CREATE TABLE IF NOT EXISTS identities (
    table_name TEXT NOT NULL, identity TEXT NOT NULL, file INTEGER NOT NULL, PRIMARY KEY (table_name, identity)
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
"""


@dataclass(frozen=True)
class NewFile:
    """A file that a call adds.

    Args:
        table: it belongs to.
        name: in the table's folder.
        stamp: its time in milliseconds, if the name has the usual form.
        rows: in it.
        identities: that its rows take.
    """

    table: str
    name: str
    stamp: int | None
    rows: int
    identities: Sequence[str]


@dataclass(frozen=True)
class TableFiles:
    """What a table consists of at one moment: compacted copies, and the files that are in none of them.

    Args:
        columns: of the table, in the order of their first appearance.
        copies: names in the folder of compacted copies.
        tail: names of files in the table's own folder.
        through: every file with a stamp up to this is in a copy, or in the tail by name; None before the first copy.
        rows: of all these files.
    """

    columns: Columns
    copies: Sequence[str]
    tail: Sequence[str]
    through: int | None
    rows: int


class Index:
    """A connection to the index for the length of one call; not shared between threads or processes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, for a `with` block."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state for a `with` block, whatever others commit."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def known(self, table: str, identities: Iterable[str]) -> set[str]:
        """Those of some identities that the table has."""
        wanted = list(identities)
        found: set[str] = set()
        for begin in range(0, len(wanted), _IN_ONE_QUERY):
            part = wanted[begin : begin + _IN_ONE_QUERY]
            marks = ",".join("?" * len(part))
            sql = f"SELECT identity FROM identities WHERE table_name = ? AND identity IN ({marks})"
            found.update(row[0] for row in self._db.execute(sql, [table, *part]))
        return found

    def file_of(self, table: str, identity: str) -> str | None:
        """Name of the file that holds an identity's rows."""
        row = self._db.execute(
            "SELECT name FROM identities JOIN files ON files.id = identities.file "
            "WHERE identities.table_name = ? AND identity = ? AND call IS NULL",
            [table, identity],
        ).fetchone()
        return row[0] if row else None

    def tables(self) -> Sequence[str]:
        """Tables that have a file, sorted."""
        return [
            row[0] for row in self._db.execute("SELECT DISTINCT table_name FROM files WHERE call IS NULL ORDER BY 1")
        ]

    def columns(self, table: str) -> Columns:
        """The columns of a table; none for one without files."""
        rows = self._db.execute("SELECT name, type FROM columns WHERE table_name = ? ORDER BY position", [table])
        return tuple(Column(*row) for row in rows)

    def newest_stamp(self, table: str) -> int | None:
        """The greatest stamp of a table's files."""
        found: int | None = self._db.execute("SELECT max(stamp) FROM files WHERE table_name = ?", [table]).fetchone()[0]
        return found

    def add(self, file: NewFile, call: str | None) -> None:
        """Name a file with what it holds; pending while it has a call."""
        row = self._db.execute(
            "INSERT INTO files (table_name, name, stamp, rows, call) VALUES (?, ?, ?, ?, ?) RETURNING id",
            [file.table, file.name, file.stamp, file.rows, call],
        ).fetchone()
        self._db.executemany(
            "INSERT OR IGNORE INTO identities VALUES (?, ?, ?)",
            ((file.table, identity, row[0]) for identity in file.identities),
        )

    def add_columns(self, table: str, columns: Iterable[Column]) -> None:
        """Append columns that the table does not have."""
        begin = self._db.execute("SELECT count(*) FROM columns WHERE table_name = ?", [table]).fetchone()[0]
        self._db.executemany(
            "INSERT INTO columns VALUES (?, ?, ?, ?)",
            ((table, begin + number, column.name, column.type) for number, column in enumerate(columns)),
        )

    def pending(self) -> Sequence[tuple[str, str, str]]:
        """Call, table and name of all files that are not said to be in their place, in the order they were named."""
        return self._db.execute(
            "SELECT call, table_name, name FROM files WHERE call IS NOT NULL ORDER BY id"
        ).fetchall()

    def settle(self, call: str) -> None:
        """A call's files are in their place."""
        self._db.execute("UPDATE files SET call = NULL WHERE call = ?", [call])

    def forget(self, table: str, names: Iterable[str]) -> None:
        """Files are gone: so are their identities, and the copies that hold their rows."""
        for name in names:
            row = self._db.execute(
                "SELECT id, copy FROM files WHERE table_name = ? AND name = ?", [table, name]
            ).fetchone()
            if row is None:
                continue
            self._db.execute("DELETE FROM identities WHERE file = ?", [row[0]])
            self._db.execute("DELETE FROM files WHERE id = ?", [row[0]])
            if row[1] is not None:
                self._db.execute("UPDATE files SET copy = NULL WHERE copy = ?", [row[1]])
                self._db.execute("UPDATE copies SET retired_at = 0 WHERE id = ?", [row[1]])

    def names(self, table: str) -> set[str]:
        """Names of all files of a table."""
        return {row[0] for row in self._db.execute("SELECT name FROM files WHERE table_name = ?", [table])}

    def seen(self, table: str) -> int | None:
        """When the table's folder had last changed as the index was brought up to it."""
        row = self._db.execute("SELECT changed_at FROM folders WHERE table_name = ?", [table]).fetchone()
        return row[0] if row else None

    def see(self, table: str, changed_at: int | None) -> None:
        """The index knows all files of a folder that changed last then; None: it must look again."""
        self._db.execute(
            "INSERT INTO folders (table_name, changed_at) VALUES (?, ?) "
            "ON CONFLICT (table_name) DO UPDATE SET changed_at = excluded.changed_at",
            [table, changed_at],
        )

    def live(self, table: str) -> TableFiles:
        """What a table consists of; files of calls that have not ended are left out."""
        copies = self._db.execute(
            "SELECT name, rows FROM copies WHERE table_name = ? AND retired_at IS NULL ORDER BY id", [table]
        ).fetchall()
        tail = self._db.execute(
            "SELECT name, rows FROM files WHERE table_name = ? AND copy IS NULL AND call IS NULL ORDER BY name", [table]
        ).fetchall()
        row = self._db.execute("SELECT through FROM folders WHERE table_name = ?", [table]).fetchone()
        return TableFiles(
            self.columns(table),
            [name for name, _ in copies],
            [name for name, _ in tail],
            row[0] if row else None,
            sum(rows for _, rows in (*copies, *tail)),
        )

    def live_tables(self) -> Mapping[str, TableFiles]:
        """What each table consists of; see `live`."""
        return {table: self.live(table) for table in self.tables()}

    def tail_length(self, table: str) -> int:
        """How many files are in no copy."""
        sql = "SELECT count(*) FROM files WHERE table_name = ? AND copy IS NULL"
        return int(self._db.execute(sql, [table]).fetchone()[0])

    def newest_copies(self, table: str) -> Sequence[tuple[int, str, int]]:
        """Number, name and rows of a table's copies, the newest first."""
        sql = "SELECT id, name, rows FROM copies WHERE table_name = ? AND retired_at IS NULL ORDER BY id DESC"
        return self._db.execute(sql, [table]).fetchall()

    def add_copy(
        self, table: str, name: str, rows: int, *, tail: Iterable[str], merged: Iterable[int], now: float
    ) -> None:
        """A copy holds the rows of some files and of some older copies, which it replaces."""
        row = self._db.execute(
            "INSERT INTO copies (table_name, name, rows) VALUES (?, ?, ?) RETURNING id", [table, name, rows]
        ).fetchone()
        for old in merged:
            self._db.execute("UPDATE files SET copy = ? WHERE copy = ?", [row[0], old])
            self._db.execute("UPDATE copies SET retired_at = ? WHERE id = ?", [now, old])
        self._db.executemany(
            "UPDATE files SET copy = ? WHERE table_name = ? AND name = ?", ((row[0], table, file) for file in tail)
        )
        self._db.execute(
            "UPDATE folders SET through = (SELECT max(stamp) FROM files WHERE table_name = ? AND copy IS NOT NULL) "
            "WHERE table_name = ?",
            [table, table],
        )

    def listed_copies(self, retired_after: float) -> set[str]:
        """Names of copies that are current, or were retired after a moment; the older ones are forgotten."""
        self._db.execute("DELETE FROM copies WHERE retired_at <= ?", [retired_after])
        return {row[0] for row in self._db.execute("SELECT name FROM copies")}

    def counts(self) -> Mapping[str, int]:
        """Rows of each table."""
        return dict(
            self._db.execute("SELECT table_name, sum(rows) FROM files WHERE call IS NULL GROUP BY 1 ORDER BY 1")
        )


@contextmanager
def open_index(path: Path) -> Iterator[Index]:
    """The index at a path, made where there is none.

    Raises:
        sqlite3.DatabaseError: it is damaged, or cannot be written.
    """
    with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
        # A write-ahead log, so that readers never wait; forced to the disk at each commit, for it names what is there.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        yield Index(connection)


@contextmanager
def open_index_in_memory() -> Iterator[Index]:
    """An index that nobody else sees, for a folder in which this user may not write."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        yield Index(connection)


@contextmanager
def open_index_to_read(path: Path) -> Iterator[Index]:
    """The index at a path as it is.

    Raises:
        sqlite3.DatabaseError: there is none, or it cannot be read.
    """
    with closing(
        sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_PATIENCE, isolation_level=None)
    ) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            raise sqlite3.DatabaseError(f"{path} has another format")
        yield Index(connection)
