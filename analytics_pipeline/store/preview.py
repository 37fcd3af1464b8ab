"""Preview: the store as it would be after a change, for what must be known before the commit.

Belongs here: the next version's tables and views over published and staged files, in a DuckDB of this process alone.
Does not: what is asked of it (checks and metadata belong to whoever makes the change).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import polars as pl

from analytics_pipeline.store.catalog import create_views, join_sql, table_sql
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Change, JoinView, Manifest, Table
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.store.schema import Column, identifier
from analytics_pipeline.store.stage import Stage

PART = "|part"
"""Column that tells the groups of partitions apart; no source column is likely to have its name."""

MATCHED = "|matched"
"""Column of a join: true where the row of the left table has a partner, else NULL."""


class Preview:
    """Trusted SQL over the next version; lives until `open_preview` ends.

    Args:
        published: the version before the change.
        following: the version that its commit would make.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, layout: Layout, published: Manifest, following: Manifest
    ) -> None:
        self._connection = connection
        self._layout = layout
        self.published = published
        self.following = following

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        """All rows of a query, or none of a statement that makes something in this preview."""
        return self._connection.execute(sql).fetchall()

    def frame(self, sql: str) -> pl.DataFrame:
        """The rows of a query as columns, for whoever works on many."""
        answer: pl.DataFrame = self._connection.sql(sql).pl()
        return answer

    def partitions_sql(self, table: Table, groups: Mapping[int, Collection[str]]) -> str:
        """A SELECT of some partitions' rows, with the number of their group in `PART`.

        Args:
            table: of `published` or `following`.
            groups: keys of partitions, by number.
        """
        return "\nUNION ALL\n".join(
            f"SELECT {number} AS {identifier(PART)}, * FROM ({self._rows_sql(table, keys)})"
            for number, keys in (groups or {0: ()}).items()
        )

    def _rows_sql(self, table: Table, keys: Collection[str]) -> str:
        partitions = {key: table.partitions[key] for key in keys if key in table.partitions}
        return table_sql(replace(table, partitions=partitions), self._layout)

    def joined_sql(self, view: JoinView, groups: Mapping[int, Collection[str]]) -> str:
        """A SELECT of a view's columns for some partitions of its left table, with `PART` and `MATCHED`.

        Rows without a partner are there whatever the view's kind.
        """
        left, right = self.following.tables[view.left], self.following.tables[view.right]
        parts, partners = f"|{left.name}", f"|{right.name}"
        self.rows(f"CREATE OR REPLACE VIEW {identifier(parts)} AS {self.partitions_sql(left, groups)}")
        self.rows(
            f"CREATE OR REPLACE VIEW {identifier(partners)} AS "
            f"SELECT *, true AS {identifier(MATCHED)} FROM {identifier(right.name)}"
        )
        return join_sql(
            replace(view, left=parts, right=partners, kind="left"),
            replace(left, columns=(*left.columns, Column(PART, "INTEGER"))),
            replace(right, columns=(*right.columns, Column(MATCHED, "BOOLEAN"))),
        )

    def columns(self, sql: str) -> tuple[Column, ...]:
        """Names and types of a query's columns, or of a table's or view's by its name in quotes."""
        return tuple(Column(str(row[0]), str(row[1])) for row in self.rows(f"DESCRIBE {sql}"))

    def is_whole(self, table: Table, keys: Collection[str]) -> bool:
        """Whether all files of some partitions are there in their full size."""
        root = self._layout.root
        files = [file for key in keys if key in table.partitions for file in table.partitions[key].files]
        return all((root / file.path).exists() and (root / file.path).stat().st_size == file.bytes for file in files)


@contextmanager
def open_preview(layout: Layout, stage: Stage, current: Manifest, change: Change) -> Iterator[Preview]:
    """The tables of `change`, its views and their tables, as its commit would leave them if nobody else committed.

    A table of a view that the change leaves alone is the published one.

    Raises:
        StoreError: the change cannot be applied; see `Manifest.after` and `create_views`.
    """
    following = current.after(change, datetime.now(UTC))
    needed = {table.name for table in change.tables} | {
        name for view in change.views for name in (view.left, view.right)
    }
    tables = {
        name: _with_staged_paths(table, layout, stage, change)
        for name, table in following.tables.items()
        if name in needed
    }
    views = {view.name: view for view in change.views}
    following = replace(following, tables=tables, views=views)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        create_views(connection, following, layout)
        yield Preview(connection, layout, current, following)


def _with_staged_paths(table: Table, layout: Layout, stage: Stage, change: Change) -> Table:
    new = {file.path for file in change.files}

    def located(file: DataFile) -> DataFile:
        staged = stage.folder / file.path.rsplit("/", 1)[-1]
        is_staged = file.path in new and staged.exists()
        return replace(file, path=str(staged.relative_to(layout.root))) if is_staged else file

    partitions = {
        key: replace(partition, files=tuple(located(file) for file in partition.files))
        for key, partition in table.partitions.items()
    }
    return replace(table, partitions=partitions)
