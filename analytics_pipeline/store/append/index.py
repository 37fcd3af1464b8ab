"""The index of append-only tables: which files there are, whose rows they hold, which of them are still being written.

Belongs here: every statement on its tables. Does not: the SQLite file (`index_file`), the Parquet files (`tables`), or
when the index is brought up to them (`recovery`).

One transaction names all files of a call with all that they hold; a second one says that they are in their place.
Between the two they are *pending*: whoever holds the write lock next puts them in their place.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analytics_pipeline.store.digest import file_digest
from analytics_pipeline.store.schema import Column, Columns

_IN_ONE_QUERY = 500


@dataclass(frozen=True)
class Proof:
    """What tells whether a file holds what was written: its size in bytes, and the digest of them."""

    bytes: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> Proof:
        """The proof of a file as it is.

        Raises:
            OSError: it cannot be read.
        """
        return cls(path.stat().st_size, file_digest(path))

    def seal(self, table: str, name: str) -> int:
        """A checksum over the proof itself: a damaged index must not pass for a damaged file."""
        return zlib.crc32(f"{table}/{name} {self.bytes} {self.digest}".encode())


@dataclass(frozen=True)
class NewFile:
    """A file that a call adds.

    Args:
        table: it belongs to.
        name: in the table's folder.
        stamp: its time in milliseconds, if the name has the usual form.
        rows: in it.
        identities: that its rows take.
        proof: its size and digest.
    """

    table: str
    name: str
    stamp: int | None
    rows: int
    identities: Sequence[str]
    proof: Proof


@dataclass(frozen=True)
class TableFiles:
    """What a table consists of at one moment: compacted copies, and the files that are in none of them.

    Args:
        columns: of the table, in the order of their first appearance.
        copies: names in the folder of compacted copies.
        tail: names of files in the table's own folder.
        through: every file with a stamp up to this is in a copy, or in the tail by name; None before the first copy.
        rows: of all these files.
        lost: names of files that the table had and that are gone or damaged, unless their rows came back.
    """

    columns: Columns
    copies: Sequence[str]
    tail: Sequence[str]
    through: int | None
    rows: int
    lost: Sequence[str] = ()


class Index:
    """A connection to the index for the length of one call; not shared between threads or processes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, for a `with` block; on the disk at its end."""
        self._db.execute("PRAGMA synchronous = FULL")
        with self._atomic():
            yield

    @contextmanager
    def passing_transaction(self) -> Iterator[None]:
        """All or nothing, for a `with` block; a power cut may undo it, which whoever comes next sees and does again."""
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._atomic():
            yield

    @contextmanager
    def _atomic(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # not after some failures of the disk
                self._db.execute("ROLLBACK")
            raise

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

    def file_of(self, identity: str, without: Collection[str]) -> tuple[str, str] | None:
        """Table and name of the oldest file that holds an identity's rows, in the first table that is not left out."""
        for table in self.tables():
            row = self._db.execute(
                "SELECT name FROM identities JOIN files ON files.id = identities.file "
                "WHERE identities.table_name = ? AND identity = ? AND call IS NULL ORDER BY file LIMIT 1",
                [table, identity],
            ).fetchone()
            if row and table not in without:
                return table, row[0]
        return None

    def tables(self) -> Sequence[str]:
        """Tables that have a file, or have lost one, sorted."""
        lost = (row[0] for row in self._db.execute("SELECT DISTINCT table_name FROM lost"))
        return sorted({*self.tables_with_files(), *lost})

    def tables_with_files(self) -> Sequence[str]:
        """Tables that have a file, sorted."""
        sql = (
            "SELECT table_name FROM folders WHERE EXISTS "
            "(SELECT 1 FROM files WHERE files.table_name = folders.table_name AND call IS NULL) ORDER BY 1"
        )
        return [row[0] for row in self._db.execute(sql)]

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
        if self._db.execute("SELECT 1 FROM files WHERE table_name = ? LIMIT 1", [file.table]).fetchone() is None:
            self.change_views()  # a table that lost all of its files had none
        row = self._db.execute(
            "INSERT INTO files (table_name, name, stamp, rows, call) VALUES (?, ?, ?, ?, ?) RETURNING id",
            [file.table, file.name, file.stamp, file.rows, call],
        ).fetchone()
        self._db.executemany(
            "INSERT OR IGNORE INTO identities VALUES (?, ?, ?)",
            ((file.table, identity, row[0]) for identity in dict.fromkeys(file.identities)),
        )
        self.prove(file.table, file.name, file.proof)
        if self.lost(file.table):
            self._recover(file)

    def prove(self, table: str, name: str, proof: Proof) -> None:
        """Record what a file, or a copy, was written with."""
        sql = "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)"
        self._db.execute(sql, [table, name, proof.bytes, proof.digest, proof.seal(table, name)])

    def proofs(self) -> Mapping[tuple[str, str], Proof | None]:
        """The proof of each file and copy in use by table and name; None for one of a release that recorded none.

        Raises:
            ValueError: a proof is not what was recorded: the index is damaged.
        """
        found: dict[tuple[str, str], Proof | None] = {}
        sql = (
            "SELECT table_name, name, bytes, digest, seal FROM (SELECT table_name, name FROM files WHERE call IS NULL "
            "UNION ALL SELECT table_name, name FROM copies WHERE retired_at IS NULL) "
            "LEFT JOIN digests USING (table_name, name) ORDER BY 1, 2"
        )
        for table, name, size, digest, seal in self._db.execute(sql):
            proof = None if digest is None else Proof(size, digest)
            if proof is not None and proof.seal(table, name) != seal:
                raise ValueError(f"its record of {table}/{name} is damaged")
            found[table, name] = proof
        return found

    def proof_of(self, table: str, name: str) -> Proof | None:
        """The proof of a file that is, or was, in a table; None where none was recorded."""
        sql = "SELECT bytes, digest FROM digests WHERE table_name = ? AND name = ?"
        row = self._db.execute(sql, [table, name]).fetchone()
        return Proof(*row) if row else None

    def _recover(self, file: NewFile) -> None:
        """A lost file counts no longer when it is back, or when all of its rows were written again."""
        self._db.execute("DELETE FROM lost_identities WHERE table_name = ? AND name = ?", [file.table, file.name])
        back = self._db.execute("DELETE FROM lost WHERE table_name = ? AND name = ?", [file.table, file.name]).rowcount
        self._db.executemany(
            "DELETE FROM lost_identities WHERE table_name = ? AND identity = ?",
            ((file.table, identity) for identity in dict.fromkeys(file.identities)),
        )
        again = self._db.execute(
            "DELETE FROM lost WHERE table_name = ? AND identities > 0 AND NOT EXISTS (SELECT 1 FROM lost_identities "
            "WHERE lost_identities.table_name = lost.table_name AND lost_identities.name = lost.name)",
            [file.table],
        ).rowcount
        if back or again:
            self.change_views()

    def lose(self, table: str, names: Iterable[str], now: float) -> None:
        """Files are gone that nobody said might go: their rows can be written again, and until then they are missed."""
        for name in names:
            self._db.execute(
                "INSERT OR IGNORE INTO lost_identities SELECT identities.table_name, identity, name FROM identities "
                "JOIN files ON files.id = identities.file WHERE files.table_name = ? AND name = ?",
                [table, name],
            )
            self._db.execute(
                "INSERT OR REPLACE INTO lost SELECT table_name, name, rows, ?, "
                "(SELECT count(*) FROM lost_identities WHERE table_name = ? AND name = ?) "
                "FROM files WHERE table_name = ? AND name = ?",
                [now, table, name, table, name],
            )
        self.forget(table, names, now)

    def lost(self, table: str) -> Sequence[str]:
        """Names of a table's lost files, the oldest first."""
        return [row[0] for row in self._db.execute("SELECT name FROM lost WHERE table_name = ? ORDER BY 1", [table])]

    def lost_file_of(self, identity: str) -> tuple[str, str] | None:
        """Table and name of a lost file that held an identity's rows."""
        sql = "SELECT table_name, name FROM lost_identities WHERE identity = ? ORDER BY 1, 2 LIMIT 1"
        found: tuple[str, str] | None = self._db.execute(sql, [identity]).fetchone()
        return found

    def losses(self) -> tuple[Sequence[Sequence[object]], Sequence[Sequence[object]]]:
        """All lost files and the identities that went with them, for an index that is made again."""
        files = self._db.execute("SELECT * FROM lost").fetchall()
        return files, self._db.execute("SELECT * FROM lost_identities").fetchall()

    def take_over(self, losses: tuple[Sequence[Sequence[object]], Sequence[Sequence[object]]]) -> None:
        """The losses that the index before this one knew."""
        files, identities = losses
        self._db.executemany("INSERT OR IGNORE INTO lost VALUES (?, ?, ?, ?, ?)", files)
        self._db.executemany("INSERT OR IGNORE INTO lost_identities VALUES (?, ?, ?)", identities)

    def facts(self) -> Sequence[tuple[object, ...]]:
        """What follows from the files alone: their rows and identities."""
        files = "SELECT table_name, name, rows FROM files WHERE call IS NULL ORDER BY 1, 2"
        identities = (
            "SELECT files.table_name, name, identity FROM files JOIN identities ON files.id = identities.file "
            "WHERE call IS NULL ORDER BY 1, 2, 3"
        )
        return [*self._db.execute(files), *self._db.execute(identities)]

    def accept_loss(self, table: str, names: Iterable[str]) -> None:
        """Lost files are missed no longer: what they held is gone for good, or was never wanted."""
        for name in names:
            self._db.execute("DELETE FROM lost WHERE table_name = ? AND name = ?", [table, name])
            self._db.execute("DELETE FROM lost_identities WHERE table_name = ? AND name = ?", [table, name])
            self._db.execute("DELETE FROM digests WHERE table_name = ? AND name = ?", [table, name])
        self.change_views()

    def add_columns(self, table: str, columns: Sequence[Column]) -> None:
        """Append columns that the table does not have, and change the type of those that it has."""
        if not columns:
            return
        self.change_views()
        newest = "SELECT coalesce(max(position), -1) FROM columns WHERE table_name = ?"
        begin = self._db.execute(newest, [table]).fetchone()[0] + 1
        self._db.executemany(
            "INSERT INTO columns VALUES (?, ?, ?, ?) ON CONFLICT (table_name, name) DO UPDATE SET type = excluded.type",
            ((table, begin + number, column.name, column.type) for number, column in enumerate(columns)),
        )

    def pending(self) -> Sequence[tuple[str, str, str]]:
        """Call, table and name of all files that are not said to be in their place, in the order they were named."""
        return self._db.execute(
            "SELECT call, table_name, name FROM files INDEXED BY pending_files WHERE call IS NOT NULL ORDER BY id"
        ).fetchall()

    def files_of(self, call: str) -> Sequence[tuple[str, str]]:
        """Table and name of a call's files, in the order they were named."""
        return self._db.execute("SELECT table_name, name FROM files WHERE call = ? ORDER BY id", [call]).fetchall()

    def settle(self, call: str) -> None:
        """A call's files are in their place."""
        self._db.execute("UPDATE files SET call = NULL WHERE call = ?", [call])

    def forget(self, table: str, names: Iterable[str], now: float) -> None:
        """Files are gone: so are their identities, and the copies that hold their rows are retired."""
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
                self._db.execute("UPDATE copies SET retired_at = ? WHERE id = ?", [now, row[1]])
            self.change_views()  # they may list the file by its name

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

    def doubt(self) -> None:
        """Look through all folders before the index is used again."""
        self._db.execute("UPDATE folders SET changed_at = NULL")

    def through(self, table: str) -> int | None:
        """Every file with a stamp up to this is in a copy, or was listed by name; None before the first copy."""
        row = self._db.execute("SELECT through FROM folders WHERE table_name = ?", [table]).fetchone()
        return row[0] if row else None

    def change_views(self) -> None:
        """The published views are no longer right."""
        self._db.execute("UPDATE about SET views = views + 1")

    def unpublished(self) -> int | None:
        """The number of the last change of views that nobody has published; None where there is none."""
        views, published = self._db.execute("SELECT views, published FROM about").fetchone()
        return views if views > published else None

    def publish(self, views: int) -> None:
        """The published views show everything up to a change of that number."""
        self._db.execute("UPDATE about SET published = max(published, ?)", [views])

    def live(self, table: str) -> TableFiles:
        """What a table consists of; files of calls that have not ended are left out."""
        copies = self._db.execute(
            "SELECT name, rows FROM copies WHERE table_name = ? AND retired_at IS NULL ORDER BY id", [table]
        ).fetchall()
        tail = self._db.execute(
            "SELECT name, rows FROM files WHERE table_name = ? AND copy IS NULL AND call IS NULL ORDER BY name", [table]
        ).fetchall()
        return TableFiles(
            self.columns(table),
            [name for name, _ in copies],
            [name for name, _ in tail],
            self.through(table),
            sum(rows for _, rows in (*copies, *tail)),
            self.lost(table),
        )

    def live_tables(self) -> Mapping[str, TableFiles]:
        """What each table consists of; see `live`."""
        return {table: self.live(table) for table in self.tables()}

    def tail_length(self, table: str) -> int:
        """How many files are in no copy."""
        sql = "SELECT count(*) FROM files INDEXED BY tail_of_a_table WHERE table_name = ? AND copy IS NULL"
        return int(self._db.execute(sql, [table]).fetchone()[0])

    def newest_copies(self, table: str) -> Sequence[tuple[int, str, int]]:
        """Number, name and rows of a table's copies, the newest first."""
        sql = "SELECT id, name, rows FROM copies WHERE table_name = ? AND retired_at IS NULL ORDER BY id DESC"
        return self._db.execute(sql, [table]).fetchall()

    def add_copy(
        self, table: str, name: str, rows: int, *, proof: Proof, tail: Iterable[str], merged: Iterable[int], now: float
    ) -> None:
        """A copy holds the rows of some files and of some older copies, which it replaces."""
        row = self._db.execute(
            "INSERT INTO copies (table_name, name, rows) VALUES (?, ?, ?) RETURNING id", [table, name, rows]
        ).fetchone()
        self.prove(table, name, proof)
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
        self.change_views()

    def copies(self) -> set[str]:
        """Names of the copies that stand for files now."""
        return {row[0] for row in self._db.execute("SELECT name FROM copies WHERE retired_at IS NULL")}

    def lose_copies(self, names: Iterable[str]) -> None:
        """Copies are gone: the files whose rows they held stand for themselves again."""
        for name in names:
            self._db.execute(
                "UPDATE files SET copy = NULL WHERE copy IN (SELECT id FROM copies WHERE name = ?)", [name]
            )
            self._db.execute("DELETE FROM copies WHERE name = ?", [name])
        self.change_views()

    def listed_copies(self, retired_after: float) -> set[str]:
        """Names of copies that are current, or were retired after a moment; the older ones are forgotten."""
        self._db.execute(
            "DELETE FROM digests WHERE name IN (SELECT name FROM copies WHERE retired_at <= ?)", [retired_after]
        )
        self._db.execute("DELETE FROM copies WHERE retired_at <= ?", [retired_after])
        return {row[0] for row in self._db.execute("SELECT name FROM copies")}
