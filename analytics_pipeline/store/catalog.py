"""The catalog: a DuckDB file of views, derived from a manifest, that any DuckDB or SQL tool can open.

Belongs here: the SQL of the views and of the store's own tables, building the file, pointing `catalog.duckdb` at it.
Does not: deciding what is published (`manifest`, `commit`). The file can be thrown away at any time.
"""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa

from analytics_pipeline.errors import ViewsRefused
from analytics_pipeline.store.append.published import create_append_views
from analytics_pipeline.store.layout import Layout, fsync_path
from analytics_pipeline.store.manifest import JoinView, Manifest, Table
from analytics_pipeline.store.partition import DataFile, uncovered_files
from analytics_pipeline.store.schema import Column, Columns, failing_sql, file_literal, identifier, literal

logger = logging.getLogger(__name__)

STORAGE_VERSION = "v1.5.0"
"""So that the DuckDB shell people have can open the catalog, also when a later DuckDB writes it."""

_READ_ONLY_MODE = 0o444

_PARTITIONS_SQL = """
CREATE TABLE target._store_partitions AS
SELECT * FROM (SELECT
    NULL::VARCHAR AS table_name, NULL::VARCHAR AS partition_key, NULL::TIMESTAMPTZ AS lower_bound,
    NULL::TIMESTAMPTZ AS upper_bound, NULL::BIGINT AS row_count, NULL::BIGINT AS bytes, NULL::INTEGER AS files,
    NULL::VARCHAR AS fingerprint, NULL::VARCHAR AS sync_id, NULL::TIMESTAMPTZ AS synced_at
) WHERE false
"""


def build_catalog(manifest: Manifest, layout: Layout, target: Path) -> None:
    """Write the catalog of a manifest to a new file, whole and read-only.

    Args:
        manifest: what the views list; its files must be in place.
        layout: the store whose files the views name by absolute path.
        target: a path where nothing is yet.

    Raises:
        ViewsRefused: see `create_views`.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH {literal(str(target))} AS target (STORAGE_VERSION '{STORAGE_VERSION}')")
        connection.execute("BEGIN")
        create_views(connection, manifest, layout, "target.")
        _write_store_tables(connection, manifest, layout)
        connection.execute("COMMIT")
        create_append_views(connection, layout, "target.")  # one that fails would abort the transaction
        connection.execute("DETACH target")
    target.chmod(_READ_ONLY_MODE)
    fsync_path(target)


def create_views(connection: duckdb.DuckDBPyConnection, manifest: Manifest, layout: Layout, prefix: str = "") -> None:
    """Create the views of all tables and joins. A join waits until both of its tables have been published.

    The view of a table that has lost a file says so to whoever asks it; the other views are as always.

    Raises:
        ViewsRefused: a view asks for a column that is not there, or has the name of a table.
    """
    try:
        for table in manifest.tables.values():
            connection.execute(f"CREATE VIEW {prefix}{identifier(table.name)} AS {_view_sql(table, layout)}")
        for view in manifest.views.values():
            if view.left in manifest.tables and view.right in manifest.tables:
                select = join_sql(view, manifest.tables[view.left], manifest.tables[view.right])
                connection.execute(f"CREATE VIEW {prefix}{identifier(view.name)} AS {select}")
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        raise ViewsRefused(str(error).split("\n\n")[0]) from error


def _view_sql(table: Table, layout: Layout) -> str:
    lost = next((file.path for file in table.files if layout.size_of(file.path) != file.bytes), None)
    if lost is None:
        return table_sql(table, layout)
    reason = f"{table.name} has lost {layout.root}/{lost}, or a part of it. Refresh its dataset."
    logger.warning(reason)
    return failing_sql(table.columns, reason)


def _write_store_tables(connection: duckdb.DuckDBPyConnection, manifest: Manifest, layout: Layout) -> None:
    connection.execute(
        "CREATE TABLE target._store_info AS SELECT ?::BIGINT AS version, ?::TIMESTAMPTZ AS committed_at, ? AS root",
        [manifest.version, manifest.committed_at, str(layout.root)],
    )
    connection.execute(
        "CREATE TABLE target._store_metadata (table_name VARCHAR, metadata JSON, updated_at TIMESTAMPTZ)"
    )
    for name, metadata in manifest.metadata.items():
        if name not in manifest.tables and name not in manifest.views:
            continue  # kept for the next commit, no concern of readers
        connection.execute(
            "INSERT INTO target._store_metadata VALUES (?, ?, ?)",
            [name, json.dumps(metadata.value, allow_nan=False), metadata.updated_at],
        )
    connection.execute(_PARTITIONS_SQL)
    rows = [
        {
            "table_name": table.name,
            "partition_key": partition.key,
            "lower_bound": partition.lower,
            "upper_bound": partition.upper,
            "row_count": partition.rows,
            "bytes": partition.bytes,
            "files": len(partition.files),
            "fingerprint": partition.fingerprint,
            "sync_id": partition.sync_id,
            "synced_at": partition.synced_at,
        }
        for table in manifest.tables.values()
        for partition in table.partitions.values()
    ]
    if rows:
        connection.register("partition_rows", pa.Table.from_pylist(rows))
        connection.execute("INSERT INTO target._store_partitions BY NAME SELECT * FROM partition_rows")


def table_sql(table: Table, layout: Layout) -> str:
    """The SELECT behind a table's view: its files listed one by one, grouped by the columns they were written with.

    Of a file that is shared with partitions which `table` lacks, only the rows of those that it has.
    """
    partial = uncovered_files(table.partitions.values())
    groups: dict[Columns, list[str]] = {}
    for file in table.files:
        if file.path not in partial:
            groups.setdefault(file.columns, []).append(_path(file, layout))
    selects = [_file_sql(table.columns, written, ", ".join(paths)) for written, paths in groups.items()]
    selects.extend(
        # DuckDB keeps the order of a file's rows; its row numbers would clash with a column of their name.
        f"({_file_sql(table.columns, run.columns, _path(run, layout))} LIMIT {run.rows} OFFSET {run.begin})"
        for runs in partial.values()
        for _, run in runs
    )
    if not selects:
        nothing = ", ".join(f"NULL::{type_} AS {identifier(name)}" for name, type_ in table.columns)
        return f"SELECT {nothing} WHERE false"
    return "\nUNION ALL\n".join(selects)


def _file_sql(wanted: Columns, written: Columns, paths: str) -> str:
    # A folder named `city=Oslo` above the store would overwrite the column `city`, if DuckDB were to guess.
    return f"SELECT {_projection(wanted, written)} FROM read_parquet([{paths}], hive_partitioning = false)"


def _projection(wanted: Columns, written: Columns) -> str:
    found = {column.name.lower(): column for column in written}
    return ", ".join(_as_published(column, found.get(column.name.lower())) for column in wanted)


def _as_published(wanted: Column, written: Column | None) -> str:
    name = identifier(wanted.name)
    if written is None:
        return f"NULL::{wanted.type} AS {name}"
    if written == wanted:
        return name
    return f"{identifier(written.name)}::{wanted.type} AS {name}"


def _path(file: DataFile, layout: Layout) -> str:
    return file_literal(f"{layout.root}/{file.path}")


def join_sql(view: JoinView, left: Table, right: Table) -> str:
    """The SELECT behind a join view. Where a key has several rows on the right, its partner is the newest."""
    taken = {column.name.lower() for column in left.columns}
    selected = [f"l.{identifier(column.name)}" for column in left.columns]
    for column in right.columns:
        if column.name.lower() == view.key.lower():
            continue
        name = column.name if column.name.lower() not in taken else f"{view.prefix}_{column.name}"
        while name.lower() in taken:
            name = f"{view.prefix}_{name}"
        taken.add(name.lower())
        selected.append(f"r.{identifier(column.name)} AS {identifier(name)}")
    key = identifier(view.key)
    source = identifier(view.right) if view.newest_by is None else _newest_sql(view, right, view.newest_by)
    kind = "LEFT JOIN" if view.kind == "left" else "JOIN"
    return f"SELECT {', '.join(selected)} FROM {identifier(view.left)} AS l {kind} {source} AS r ON l.{key} = r.{key}"


def _newest_sql(view: JoinView, right: Table, newest_by: str) -> str:
    """The right table with one row for each key: only those of keys with several rows are put in order."""
    source, key = identifier(view.right), identifier(view.key)
    doubled = f"(SELECT {key} FROM {source} WHERE {key} IS NOT NULL GROUP BY {key} HAVING count(*) > 1)"
    given = {view.key.lower(), newest_by.lower()}
    others = "".join(f", {identifier(column.name)}" for column in right.columns if column.name.lower() not in given)
    order = f"PARTITION BY {key} ORDER BY {identifier(newest_by)} DESC NULLS LAST{others}"
    return (
        f"(SELECT * FROM {source} WHERE {key} NOT IN {doubled} UNION ALL "
        f"SELECT * FROM {source} WHERE {key} IN {doubled} QUALIFY row_number() OVER ({order}) = 1)"
    )


def attach_catalog(connection: duckdb.DuckDBPyConnection, catalog: Path, version: int, layout: Layout) -> bool:
    """Attach a catalog read-only as `store`, if it is the one of this version and folder.

    It may be missing, damaged, copied with its store, or locked by somebody who opened it read-write.
    """
    try:
        connection.execute(f"ATTACH {literal(str(catalog))} AS store (READ_ONLY)")
    except duckdb.Error:
        return False
    try:
        found = connection.execute("SELECT version, root FROM store._store_info").fetchall()
    except duckdb.Error:
        found = []
    if found == [(version, str(layout.root))]:
        return True
    connection.execute("DETACH store")
    return False


def publish_catalog(layout: Layout, version: int) -> None:
    """Point `catalog.duckdb` at the catalog of a version, in one step for all readers.

    DuckDB opens the file that the link names, so a write-ahead log of a foreign read-write opener stands beside that
    version's file. It is removed: DuckDB would refuse to replay it over a catalog that was built anew.
    """
    pointer = layout.staging / f".catalog-{uuid.uuid4().hex}"
    pointer.symlink_to(Path("catalogs") / layout.catalog_of(version).name)
    pointer.replace(layout.catalog)
    for log in (layout.catalog.with_name("catalog.duckdb.wal"), *layout.catalogs.glob("*.wal")):
        log.unlink(missing_ok=True)
    fsync_path(layout.root)
