"""Append-only tables in the published catalog: one schema of views for each folder of them that lies in the store.

Belongs here: creating those views. Does not: their SQL (`views`), or when a catalog is made (`commit`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import duckdb

from analytics_pipeline.errors import QueryFailed, QueryRefused
from analytics_pipeline.store.append.derived import DerivedViews, read_derived
from analytics_pipeline.store.append.index import Index, TableFiles
from analytics_pipeline.store.append.index_file import read_index
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.views import SCHEMAS, every_file_sql, published_sql, with_columns
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.query_check import checked_select
from analytics_pipeline.store.schema import Columns, identifier

logger = logging.getLogger(__name__)


def append_folders(layout: Layout) -> list[Path]:
    """The folders of append-only tables in a store that are there."""
    return [folder for schema in SCHEMAS if (folder := layout.appended(schema)).is_dir()]


def raw_schema(schema: str) -> str:
    """The schema of the tables themselves, where their owner brings views along that have the plain one."""
    return f"{schema}_raw"


def create_append_views(connection: duckdb.DuckDBPyConnection, layout: Layout, prefix: str = "") -> None:
    """Create a view of each append-only table; one that cannot be is left out with a warning, and never stops a commit.

    Args:
        connection: where the views go.
        layout: the store.
        prefix: of the database, with a dot.
    """
    for folder in append_folders(layout):
        create_views_of(connection, AppendLayout(folder), prefix, folder.name, raw_schema(folder.name))


def create_views_of(
    connection: duckdb.DuckDBPyConnection, layout: AppendLayout, prefix: str, schema: str, raw: str
) -> Mapping[str, str]:
    """Create the views of one folder; gives those that cannot be, with the reason. See `create_append_views`.

    Args:
        connection: where the views go.
        layout: the folder.
        prefix: of the database, with a dot.
        schema: of the views.
        raw: schema of the tables themselves, where the folder has views of its own.
    """
    derived = _derived(layout)
    tables = _selects(layout, derived.tables if derived is not None else {})
    refused = _create_views(connection, f"{prefix}{identifier(raw if derived is not None else schema)}", tables)
    if derived is not None:
        views, unfit = _checked(connection, derived.views)
        refused = unfit | _create_views(connection, f"{prefix}{identifier(schema)}", views) | refused
    return refused


def _create_views(connection: duckdb.DuckDBPyConnection, schema: str, selects: Mapping[str, str]) -> dict[str, str]:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    refused = {}
    for name, select in selects.items():
        try:
            connection.execute(f"CREATE VIEW {schema}.{identifier(name)} AS {select}")
        except duckdb.Error as error:
            refused[name] = str(error).split("\n")[0]
            logger.warning("%s.%s is not in the catalog: %s", schema, name, refused[name])
    return refused


def _derived(layout: AppendLayout) -> DerivedViews | None:
    try:
        return read_derived(layout.views)
    except (ValueError, OSError) as error:
        logger.warning("%s is passed over: %s", layout.views, error)
        return None


def _checked(
    connection: duckdb.DuckDBPyConnection, views: Mapping[str, str]
) -> tuple[Mapping[str, str], dict[str, str]]:
    """Those that are one SELECT over tables and views, as any user of the store may ask it; the others' reasons."""
    checked, refused = {}, {}
    for name, select in views.items():
        try:
            checked[name] = checked_select(connection, select)
        except (QueryRefused, QueryFailed) as error:
            refused[name] = str(error)
            logger.warning("The view %s is not in the catalog: %s", name, error)
    return checked, refused


def _selects(layout: AppendLayout, declared: Mapping[str, Columns]) -> Mapping[str, str]:
    nothing = {
        table: published_sql(TableFiles(columns, (), (), None, 0), layout, table) for table, columns in declared.items()
    }
    try:
        tables = read_index(layout.index, Index.live_tables)
    except sqlite3.DatabaseError as error:
        logger.warning("The views of %s read every file: its index cannot be used (%s).", layout.root, error)
        return nothing | {table: every_file_sql(layout, table) for table in layout.table_folders()}
    return nothing | {
        table: published_sql(with_columns(_there(files, layout, table), declared.get(table, ())), layout, table)
        for table, files in tables.items()
    }


def _there(files: TableFiles, layout: AppendLayout, table: str) -> TableFiles:
    """A table without copies where one was thrown away that the index still lists: the files have all rows."""
    if all((layout.compacted / name).exists() for name in files.copies) or not layout.folder(table).is_dir():
        return files
    return replace(files, copies=(), tail=sorted(layout.parquet_files(table)), through=None)
