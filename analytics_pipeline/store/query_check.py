"""What may be asked of the shut-in SQL interface: one SELECT, judged by its syntax tree.

Belongs here: the lists of what a query may hold. Does not: running it, or the sealed session it runs in (`reader`).

A statement's type does not suffice: DuckDB 2.0 calls `WITH x AS (COPY … TO …) …` a SELECT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import duckdb

from analytics_pipeline.errors import QueryFailed, QueryRefused

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
_FUNCTIONS_REFUSED = frozenset(
    {
        "current_setting",  # paths and settings of this process
        "getenv",
        "getvariable",
        "json_serialize_plan",  # plans any SQL in its text, which this check does not see
        "nextval",
        "set_config",
        "setval",
        "write_log",
    }
)
_TABLES_REFUSED = frozenset({"duckdb_databases", "duckdb_logs", "pg_settings", "pragma_database_list"})
"""Views of DuckDB's own that show settings, paths or what others asked."""

_FILE_LIKE = re.compile(r"[/\\.:*?\[]")
"""DuckDB takes a table name that holds one of these for a file, where it finds no such table."""


def checked_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The query that may be run: one SELECT over tables, views and harmless functions; nothing else is let through.

    Raises:
        QueryRefused: names what stands in the way.
        QueryFailed: DuckDB's parser does not understand it.
    """
    query = _only_statement(connection, sql)
    for node in _nodes(_syntax_tree(connection, query)):
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
    if statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefused(f"a {statements[0].type.name} statement")
    return str(statements[0].query)


def _syntax_tree(connection: duckdb.DuckDBPyConnection, query: str) -> object:
    try:
        row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0]
        tree = json.loads(row[0])
    except (duckdb.Error, ValueError, RecursionError) as error:
        raise QueryRefused(f"its syntax tree cannot be checked ({error})") from error
    if tree["error"] or not tree["statements"]:
        raise QueryRefused(f"its syntax tree cannot be checked ({tree.get('error_message', 'it is empty')})")
    return tree["statements"]


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
    kind = _text(node.get("type"))  # of a constant it is no text, but the type's own node
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise QueryRefused(f"a {kind.removesuffix('_QUERY_NODE').removesuffix('_NODE')} inside the query")
    if kind == "TABLE_FUNCTION":
        function = node.get("function")
        name = _text(function.get("function_name")).lower() if isinstance(function, dict) else "?"
        if name not in _TABLE_FUNCTIONS:
            raise QueryRefused(f"the table function {name}()")
    elif _text(node.get("function_name")).lower() in _FUNCTIONS_REFUSED:
        raise QueryRefused(f"the function {node['function_name']}()")
    if kind in {"BASE_TABLE", "SHOW_REF"}:
        table = _text(node.get("table_name"))
        if _FILE_LIKE.search(table):
            raise QueryRefused(f"the file {table} as a table")
        if table.strip('"').lower() in _TABLES_REFUSED:
            raise QueryRefused(f"the table {table}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
