"""Errors of append-only tables.

Belongs here: what `analytics_pipeline.store.append` refuses or cannot do. Does not: what a record must look like
(`capabilities`).
"""

from __future__ import annotations

from analytics_pipeline.errors.store import StoreError


class AppendedFileUnreadable(StoreError):
    """A Parquet file in the folder of a table cannot be read."""

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        super().__init__(
            f"{path} cannot be read as rows of its table: {detail}. Nothing was changed. Restore or remove the file; "
            f"or open the tables with unreadable='skip' to go on without its rows."
        )


class ColumnTypeChanged(StoreError, TypeError):
    """Rows come with another type for a column that the table has."""

    def __init__(self, table: str, column: str, old: str, new: str) -> None:
        super().__init__(
            f"Column {column} of table {table} has the type {old}; the new rows have {new}. Nothing was written. "
            f"Give the field another name, or write to another table: types do not change."
        )


class AppendFailed(StoreError):
    """The disk refused a file of a call."""

    def __init__(self, root: str, detail: str) -> None:
        super().__init__(f"{root}: the rows were not stored: {detail}. Nothing was changed; write them again.")


class AppendedFilesLost(StoreError):
    """A table has lost files that its index knows.

    Args:
        words: the table, the files, and the ways out.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)


class TablesNotFound(StoreError):
    """A folder of append-only tables that is read does not exist."""

    def __init__(self, root: str) -> None:
        self.root = root
        super().__init__(f"{root} does not exist, so it holds no table. Check the path; the first write makes it.")
