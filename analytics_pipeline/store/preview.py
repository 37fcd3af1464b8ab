"""Preview: the store as it would be after a change, for what must be known before the commit.

Belongs here: the next version's changed tables over published and staged files, in a DuckDB of this process alone.
Does not: what is asked of it (checks and metadata belong to whoever makes the change).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import duckdb

from analytics_pipeline.store.catalog import create_views
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Change, Manifest, Table
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.store.stage import Stage


class Preview:
    """Trusted SQL over the next version; lives until `open_preview` ends."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        """All rows of a query."""
        return self._connection.execute(sql).fetchall()


@contextmanager
def open_preview(layout: Layout, stage: Stage, current: Manifest, change: Change) -> Iterator[Preview]:
    """The tables of `change` as its commit would leave them if nobody else committed before.

    Raises:
        StoreError: the change cannot be applied; see `Manifest.after` and `create_views`.
    """
    following = current.after(change, datetime.now(UTC))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        changed = [following.tables[table.name] for table in change.tables]
        tables = {table.name: _with_staged_paths(table, layout, stage, change) for table in changed}
        create_views(connection, replace(following, tables=tables, views={}), layout)
        yield Preview(connection)


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
