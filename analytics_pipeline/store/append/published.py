"""Append-only tables in the published catalog: one schema of views for each folder of them that lies in the store.

Belongs here: creating those views. Does not: their SQL (`views`), or when a catalog is made (`commit`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import duckdb

from analytics_pipeline.store.append.index import Index
from analytics_pipeline.store.append.index_file import read_index
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.views import every_file_sql, published_sql
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.schema import identifier

logger = logging.getLogger(__name__)

SCHEMAS = ("capabilities",)
"""Folders of a store that hold append-only tables, and the schemas of their views."""


def append_folders(layout: Layout) -> list[Path]:
    """The folders of append-only tables in a store that are there."""
    return [folder for schema in SCHEMAS if (folder := layout.appended(schema)).is_dir()]


def create_append_views(connection: duckdb.DuckDBPyConnection, layout: Layout, prefix: str = "") -> None:
    """Create a view of each append-only table; one that cannot be is left out with a warning, and never stops a commit.

    Args:
        connection: where the views go.
        layout: the store.
        prefix: of the database, with a dot.
    """
    for folder in append_folders(layout):
        own, schema = AppendLayout(folder), f"{prefix}{identifier(folder.name)}"
        connection.execute(f"CREATE SCHEMA {schema}")
        for table, select in _selects(own).items():
            try:
                connection.execute(f"CREATE VIEW {schema}.{identifier(table)} AS {select}")
            except duckdb.Error as error:
                logger.warning("%s.%s is not in the catalog: %s", folder.name, table, str(error).split("\n")[0])


def _selects(layout: AppendLayout) -> Mapping[str, str]:
    try:
        tables = read_index(layout.index, Index.live_tables)
    except sqlite3.DatabaseError as error:
        logger.warning("The views of %s read every file: its index cannot be used (%s).", layout.root, error)
        return {table: every_file_sql(layout, table) for table in layout.table_folders()}
    return {table: published_sql(files, layout, table) for table, files in tables.items()}
