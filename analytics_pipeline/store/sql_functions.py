"""Which functions and system relations a sandboxed query may use, by what DuckDB's own catalog says of them.

Belongs here: the rule for each function, table function and system view of the installed DuckDB. Does not: walking a
query's syntax tree (`query_check`).

A function that only computes from its arguments cannot show anything of the machine, and DuckDB's catalog says which do
(`stability`). What it marks otherwise, or wrongly, is named here. A macro is judged by its definition.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache

import duckdb

TABLE_FUNCTIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_tables",
        "generate_series",
        "json_each",
        "json_tree",
        "range",
        "repeat",
        "unnest",
    }
)
"""Allowed in FROM. Not `duckdb_views`: the SQL of a view has the paths of its files."""

SYSTEM_RELATIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_tables",
        "information_schema.columns",
        "information_schema.schemata",
        "information_schema.tables",
    }
)
"""Views of DuckDB's own that may be read. The others show paths, settings or other people's queries."""

SHOWN = frozenset({"__show_tables_expanded", "databases", "schemas", "tables"})
"""What SHOW may list. Any other name would be a setting from DuckDB 2.0 on."""

_PURE = frozenset({"CONSISTENT", "CONSISTENT_WITHIN_QUERY"})
_ALLOWED = frozenset(
    {
        "error",
        "gen_random_uuid",
        "random",
        "setseed",
        "sleep_ms",
        "uuid",
        "uuidv4",
        "uuidv7",
        "vector_type",
    }
)
"""Not pure, but without anything of the machine."""

_REFUSED = frozenset(
    {
        "current_setting",  # paths and settings of this process
        "getenv",
        "getvariable",
        "json_serialize_plan",  # plans any SQL in its text, which nobody has checked
        "nextval",
        "set_config",
        "setval",
        "version",
        "write_log",
    }
)
"""Of the process, though one version of DuckDB or another marks them as pure, or does not list them."""


@lru_cache(maxsize=1000)
def is_allowed_function(name: str) -> bool:
    """Whether a scalar, aggregate or window function, or a macro, may be called; unknown ones fail in DuckDB anyway."""
    return _is_allowed(name.lower(), frozenset())


def is_allowed_relation(schema: str, name: str) -> bool:
    """Whether a table or view may be read: everything that is not DuckDB's own, and `SYSTEM_RELATIONS`.

    Args:
        schema: as the query has it, maybe empty.
        name: of the relation.
    """
    schema, name = schema.lower(), name.lower()
    if schema in {"information_schema", "pg_catalog"}:
        return f"{schema}.{name}" in SYSTEM_RELATIONS
    return name in SYSTEM_RELATIONS or name not in _system_names()


def nodes_of(tree: object) -> Iterator[Mapping[str, object]]:
    """All nodes of a syntax tree, as `json_serialize_sql` gives it."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _is_allowed(name: str, within: frozenset[str]) -> bool:
    if name in _REFUSED:
        return False
    if name in _ALLOWED or name in within or name not in _catalog():
        return True
    stabilities, definitions = _catalog()[name]
    return stabilities <= _PURE and all(_is_pure(definition, within | {name}) for definition in definitions)


def _is_pure(definition: str, within: frozenset[str]) -> bool:
    """Whether a macro's SQL reads no table and calls allowed functions alone."""
    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT {definition}"]).fetchall()[0]
    tree = json.loads(row[0])
    if tree["error"]:
        return False
    for node in nodes_of(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind in {"BASE_TABLE", "TABLE_FUNCTION", "SHOW_REF"}:
            return False
        function = node.get("function_name")
        if isinstance(function, str) and not _is_allowed(function.lower(), within):
            return False
    return True


@lru_cache(maxsize=1)
def _catalog() -> Mapping[str, tuple[frozenset[str], tuple[str, ...]]]:
    """The functions of this DuckDB by their lower names: stability of their overloads, definitions of their macros."""
    sql = """
        SELECT lower(function_name), list(DISTINCT stability) FILTER (function_type <> 'macro'),
            list(DISTINCT macro_definition) FILTER (function_type = 'macro')
        FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'window', 'macro') GROUP BY ALL
    """
    with duckdb.connect() as connection:
        rows = connection.execute(sql).fetchall()
    return {name: (frozenset(stabilities or ()), tuple(definitions or ())) for name, stabilities, definitions in rows}


@lru_cache(maxsize=1)
def _system_names() -> frozenset[str]:
    """Names of DuckDB's own views outside of `information_schema`: a bare name finds them."""
    sql = "SELECT lower(view_name) FROM duckdb_views() WHERE internal AND schema_name <> 'information_schema'"
    with duckdb.connect() as connection:
        return frozenset(name for (name,) in connection.execute(sql).fetchall())
