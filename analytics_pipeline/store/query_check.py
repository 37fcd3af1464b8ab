"""What may be asked of the shut-in SQL interface: one SELECT, judged by its syntax tree.

Belongs here: the check of a query's syntax tree. Does not: which functions and system views there are for it
(`sql_functions`), running it, or the sealed session it runs in (`reader`).

A statement's type does not suffice: DuckDB 2.0 calls `WITH x AS (COPY … TO …) …` a SELECT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import duckdb

from analytics_pipeline.errors import QueryFailed, QueryRefused
from analytics_pipeline.store.sql_functions import (
    SHOWN,
    TABLE_FUNCTIONS,
    is_allowed_function,
    is_allowed_relation,
    nodes_of,
)

_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
STORE_INFO = "_store_info"
"""Has the store's path. Its plain name is one of a view without it; see `reader`."""

_FILE_LIKE = re.compile(r"[/\\.:*?\[]")
"""DuckDB takes a table name that holds one of these for a file, where it finds no such table."""


def checked_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The query that may be run: one SELECT over tables, views and harmless functions; nothing else is let through.

    Raises:
        QueryRefused: names what stands in the way.
        QueryFailed: DuckDB's parser does not understand it.
    """
    query = _only_statement(connection, sql)
    for node in nodes_of(_syntax_tree(connection, query)):
        _check_node(node)
    return query  # not `sql`: what was checked is what runs


def _only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    if "\0" in sql or (not sql.isascii() and sql.encode(errors="ignore").decode() != sql):
        raise QueryFailed("The query holds a NUL or half a character.")
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error
    if len(statements) != 1:
        raise QueryRefused(f"{len(statements)} statements")
    if (kind := _kind_of(statements[0])) != "SELECT":
        raise QueryRefused(f"a {kind} statement")
    return str(statements[0].query)


def _kind_of(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # DuckDB has statements, such as UPDATE EXTENSIONS, for which its Python package has no name
        return "maintenance"


def _syntax_tree(connection: duckdb.DuckDBPyConnection, query: str) -> object:
    try:
        row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0]
        tree = json.loads(row[0])
    except (duckdb.Error, ValueError, RecursionError) as error:
        raise QueryRefused(f"its syntax tree cannot be checked ({error})") from error
    if tree["error"] or not tree["statements"]:
        raise QueryRefused(f"its syntax tree cannot be checked ({tree.get('error_message', 'it is empty')})")
    return tree["statements"]


def _check_node(node: Mapping[str, object]) -> None:
    kind = _text(node.get("type"))  # of a constant it is no text, but the type's own node
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise QueryRefused(f"a {kind.removesuffix('_QUERY_NODE').removesuffix('_NODE')} inside the query")
    if kind == "TABLE_FUNCTION":
        function = node.get("function")
        name = _text(function.get("function_name")).lower() if isinstance(function, dict) else "?"
        if name not in TABLE_FUNCTIONS:
            raise QueryRefused(f"the table function {name}()")
    elif "function_name" in node and not is_allowed_function(_text(node["function_name"])):
        raise QueryRefused(f"the function {node['function_name']}()")
    if kind in {"BASE_TABLE", "SHOW_REF"}:
        _check_relation(node)
    if kind == "SHOW_REF" and not node.get("query") and node.get("show_type") != "SHOW_FROM":
        shown = _text(node.get("table_name")).strip('"')
        if shown not in SHOWN:
            raise QueryRefused(f"SHOW {shown}, which may be a setting (a table's columns: DESCRIBE {shown})")


def _check_relation(node: Mapping[str, object]) -> None:
    table, schema = _text(node.get("table_name")), _text(node.get("schema_name"))
    if _FILE_LIKE.search(table):
        raise QueryRefused(f"the file {table} as a table")
    if not is_allowed_relation(schema, table.strip('"')):
        raise QueryRefused(f"the table {table}")
    if table.lower() == STORE_INFO and (schema or _text(node.get("catalog_name"))):
        raise QueryRefused(f"the table {STORE_INFO} by another name than its plain one")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
