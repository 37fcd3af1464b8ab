"""Files: where the Parquet files of a backend are, and how new rows come there.

Belongs here: the protocol that a folder and an object store have in common, the folder. Does not: records
(`parquet`), object stores (`object_store`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from analytics_pipeline.errors import StoreConfigInvalid
from analytics_pipeline.store.append.tables import AppendTables


class Stored(NamedTuple):
    """New rows of a table, in one file.

    Args:
        table: they belong to.
        uri: of the file; None where every row was known, and none was made.
        rows: that were new.
    """

    table: str
    uri: str | None
    rows: pa.Table


class Files(Protocol):
    """A place of Parquet files."""

    @property
    def uri(self) -> str:
        """The place, without credentials."""
        ...

    def append(self, batches: Mapping[str, pa.Table]) -> Iterator[Stored]:
        """Store the rows that are not there yet; the tables come into sight in their order."""
        ...

    def current(self) -> AppendTables:
        """The tables to read, with everything that is there now."""
        ...

    def uri_of(self, path: Path) -> str:
        """Where a file of `current` is for everybody."""
        ...


class FolderFiles:
    """A folder.

    Args:
        tables: in it.
    """

    def __init__(self, tables: AppendTables) -> None:
        self._tables = tables

    @property
    def uri(self) -> str:
        """Its path."""
        return str(self._tables.layout.root)

    def append(self, batches: Mapping[str, pa.Table]) -> Iterator[Stored]:
        """All new rows, or none; see `AppendTables.append`.

        Raises:
            StoreConfigInvalid: the folder is a file.
        """
        for table, (path, rows) in self.current().append(batches).items():
            yield Stored(table, None if path is None else str(path), rows)

    def current(self) -> AppendTables:
        """The tables themselves.

        Raises:
            StoreConfigInvalid: the folder is a file.
        """
        if self._tables.layout.root.is_file():
            raise StoreConfigInvalid(f"{self.uri} is a file: name a folder")
        return self._tables

    def uri_of(self, path: Path) -> str:
        """Its path."""
        return str(path)
