"""Shut-in SQL: one SELECT over the store's tables and views, with no way to a file, a network or a setting.

Belongs here: what may be asked, the sealed DuckDB session it runs in, its time limit.
Does not: what the tables hold, or how they got there.

Two fences, each enough for most attempts: the query's syntax tree may hold nothing but SELECTs and harmless table
functions (DuckDB 2.0 calls `WITH x AS (COPY … TO …) …` a SELECT, so its statement type does not suffice), and the
session may open nothing but the data files of its version.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import duckdb
import polars as pl
import pyarrow as pa

from analytics_pipeline.errors import QueryFailed, QueryRefused, QueryTimedOut, StaleReader
from analytics_pipeline.store.manifest import Manifest
from analytics_pipeline.store.schema import literal

Parameter: TypeAlias = "bool | int | float | str | bytes | datetime | date | Decimal | None"
Parameters: TypeAlias = "Sequence[Parameter] | Mapping[str, Parameter] | None"

DEFAULT_TIMEOUT = 60.0
DEFAULT_MEMORY = "2GB"

_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_tables",
        "duckdb_views",
        "generate_series",
        "json_each",
        "json_tree",
        "range",
        "repeat",
        "unnest",
    }
)


class SqlSession:
    """A sealed DuckDB instance on one version of the store; every query takes a cursor of its own.

    Args:
        catalog: the catalog file of the version.
        manifest: the version; its data files are all that the session can open.
        root: the store's root.
        memory_limit: for all queries of the session together, as DuckDB spells it.
    """

    def __init__(self, catalog: Path, manifest: Manifest, root: Path, *, memory_limit: str = DEFAULT_MEMORY) -> None:
        self.version = manifest.version
        spill = tempfile.mkdtemp(prefix="analytics-query-")
        self._remove_spill = weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        self._connection = duckdb.connect(config={"python_enable_replacements": "false"})
        files = ", ".join(literal(str(root / file.path)) for file in manifest.live_files)
        for statement in (
            f"ATTACH {literal(str(catalog))} AS store (READ_ONLY)",
            "SET GLOBAL TimeZone = 'UTC'",
            f"SET memory_limit = {literal(memory_limit)}",
            f"SET temp_directory = {literal(spill)}",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            f"SET allowed_paths = [{files}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(statement)

    def close(self) -> None:
        """Close the instance; running queries of other threads fail."""
        self._connection.close()
        self._remove_spill()

    def query(self, sql: str, params: Parameters, timeout: float) -> pl.DataFrame:
        """The rows of one SELECT.

        Raises:
            QueryRefused: it is anything else than one SELECT over the store.
            QueryFailed: DuckDB could not run it.
            QueryTimedOut: it ran longer than `timeout` seconds.
            StaleReader: its version was swept while it ran.
        """
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")  # not inherited by a cursor
            check_select(cursor, sql)
            with _time_limit(cursor, timeout):
                return _run(cursor, sql, params)


def _run(cursor: duckdb.DuckDBPyConnection, sql: str, params: Parameters) -> pl.DataFrame:
    try:
        table = cursor.sql(sql, params=params).to_arrow_table()  # execute() would copy every row once more
    except duckdb.InterruptException:
        raise
    except duckdb.IOException as error:
        if "No such file" in str(error):
            raise StaleReader from error
        raise QueryFailed(str(error)) from error
    except duckdb.PermissionException as error:
        raise QueryRefused(str(error).splitlines()[0]) from error
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error
    for field in table.schema:
        if pa.types.is_interval(field.type):
            raise QueryFailed(
                f"Column {field.name} is an INTERVAL, which a data frame cannot hold: cast it to VARCHAR."
            )
    return pl.DataFrame(table)


@contextmanager
def _time_limit(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException:
        raise QueryTimedOut(seconds) from None
    finally:
        timer.cancel()
        timer.join()  # an interrupt that comes late would hit the cursor's next query


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse everything but one SELECT over tables, views and harmless table functions.

    Raises:
        QueryRefused: names what stands in the way.
        QueryFailed: DuckDB's parser does not understand it.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error
    if len(statements) != 1:
        raise QueryRefused(f"{len(statements)} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefused(f"a {statements[0].type.name} statement")
    row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [statements[0].query]).fetchall()[0]
    tree = json.loads(row[0])
    if tree["error"]:
        raise QueryRefused(f"its syntax tree cannot be checked ({tree.get('error_message')})")
    for node in _nodes(tree):
        _check_node(node)


def _nodes(tree: object) -> Iterator[Mapping[str, object]]:
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _check_node(node: Mapping[str, object]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise QueryRefused(f"a {kind.removesuffix('_QUERY_NODE').removesuffix('_NODE')} inside the query")
    if kind == "TABLE_FUNCTION":
        function = node.get("function")
        name = str(function.get("function_name")).lower() if isinstance(function, dict) else "?"
        if name not in _TABLE_FUNCTIONS:
            raise QueryRefused(f"the table function {name}()")
    if kind == "BASE_TABLE" and ("/" in str(node.get("table_name")) or "://" in str(node.get("table_name"))):
        raise QueryRefused(f"the file {node['table_name']} as a table")
