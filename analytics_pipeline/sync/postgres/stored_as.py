"""Stored as: the rule of a column that a dataset gives another type than the default one.

Belongs here: which types of Postgres can become which of the store, by SQL that loses nothing unseen: a value that does
not fit stops the read and names its column. Does not: the default types (`types`), the words of YAML (`stored_types`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import psycopg
import pyarrow as pa

from analytics_pipeline.sync.postgres.describe import SourceColumn
from analytics_pipeline.sync.postgres.failures import VALUE_GUARD
from analytics_pipeline.sync.postgres.sql import column as q_column
from analytics_pipeline.sync.postgres.sql import quote_literal, subselect
from analytics_pipeline.sync.postgres.types import LAST_MICROSECOND, ColumnRule, hash_of_text, rule_for
from analytics_pipeline.sync.stored_types import StoredType

_INTEGERS = frozenset({"int2", "int4", "int8"})
_EXACT = _INTEGERS | {"numeric"}
_TIMES = frozenset({"date", "timestamp", "timestamptz"})
_TAKEN: dict[str, frozenset[str]] = {
    "double": _EXACT | {"float4", "float8"},
    "decimal": _EXACT,
    "bigint": _EXACT,
    "date": frozenset({"date"}),
    "timestamp": _TIMES,
    "timestamptz": frozenset({"timestamptz"}),
}
_SAMPLE = 10_000


def rule_as(column: SourceColumn, wanted: StoredType) -> ColumnRule | None:
    """The rule of a column under a type of the dataset's choice; None where its type cannot become that."""
    if wanted.name in {"text", "json"}:
        sql = "{v}::pg_catalog.text" if wanted.name == "text" else "pg_catalog.to_json({v})::pg_catalog.text"
        return _with(rule_for(column), pa.string(), sql, hashed=hash_of_text(sql))
    if not column.builtin or column.element is not None or column.typname not in _TAKEN[wanted.name]:
        return None
    default = rule_for(column)
    if wanted.name == "double":
        if column.typname == "numeric":
            return _with(default, pa.float64(), "{v}::pg_catalog.text", wire=pa.string(), loss=default.loss)
        return _with(default, pa.float64(), "{v}::pg_catalog.float8")
    if wanted.name in {"decimal", "bigint"}:
        return _number(default, wanted)
    return _time(default, column, wanted)


def _number(default: ColumnRule, wanted: StoredType) -> ColumnRule:
    number = "{v}::pg_catalog.numeric"
    whole = f"pg_catalog.trunc({number}, {wanted.scale}) OPERATOR(pg_catalog.=) {number}"
    if wanted.name == "bigint":
        fits = f"{whole} AND {number} OPERATOR(pg_catalog.>=) {-(2**63)} AND {number} OPERATOR(pg_catalog.<) {2**63}"
        return _guarded(default, wanted, fits, _Stored(pa.int64(), "{v}::pg_catalog.int8", pa.int64()))
    limit = 10 ** (wanted.precision - wanted.scale)
    fits = f"{whole} AND pg_catalog.abs({number}) OPERATOR(pg_catalog.<) {limit}"
    text = f"{{v}}::pg_catalog.numeric({wanted.precision},{wanted.scale})::pg_catalog.text"
    return _guarded(default, wanted, fits, _Stored(pa.decimal128(wanted.precision, wanted.scale), text, pa.string()))


def _time(default: ColumnRule, column: SourceColumn, wanted: StoredType) -> ColumnRule:
    if wanted.name == "date":
        days = "{v} OPERATOR(pg_catalog.-) pg_catalog.date '1970-01-01'"
        return _guarded(default, wanted, "pg_catalog.isfinite({v})", _Stored(pa.date32(), "{v}", pa.int32(), days))
    last = {"date": "294247-01-09", "timestamp": LAST_MICROSECOND, "timestamptz": f"{LAST_MICROSECOND}+00"}
    fits = (
        "{v} OPERATOR(pg_catalog.>) '-infinity' AND "
        f"{{v}} OPERATOR(pg_catalog.<=) {quote_literal(last[column.typname])}"
    )
    sql, arrow = "{v}", pa.timestamp("us", "UTC" if wanted.name == "timestamptz" else None)
    if column.typname == "date":
        sql = "{v}::pg_catalog.timestamp"
    elif column.typname == "timestamptz" and wanted.name == "timestamp":
        sql = "pg_catalog.timezone('UTC', {v})"
    microseconds = f"(EXTRACT(epoch FROM {sql}) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8"
    return _guarded(default, wanted, fits, _Stored(arrow, sql, pa.int64(), microseconds))


class _Stored(NamedTuple):
    """The type in the store, SQL that gives it, what the cursor tier gets by the same or by other SQL."""

    arrow: pa.DataType
    sql: str
    wire: pa.DataType
    cursor_sql: str | None = None


def _guarded(default: ColumnRule, wanted: StoredType, fits: str, stored: _Stored) -> ColumnRule:
    """Stop at a value that does not fit; the message depends on the row, or the planner would evaluate it at once."""
    guard = quote_literal(f"{VALUE_GUARD}{wanted}: {default.name}")
    stop = f"({guard} OPERATOR(pg_catalog.||) pg_catalog.left({{v}}::pg_catalog.text, 0))::pg_catalog.bool"
    only = f"CASE WHEN CASE WHEN NOT ({fits}) THEN {stop} ELSE true END THEN "
    cursor = f"{only}{stored.cursor_sql or stored.sql} END"
    return _with(default, stored.arrow, f"{only}{stored.sql} END", wire=stored.wire, cursor=cursor)


def _with(
    default: ColumnRule,
    arrow: pa.DataType,
    sql: str,
    *,
    wire: pa.DataType | None = None,
    cursor: str | None = None,
    hashed: str | None = None,
    loss: str = "",
) -> ColumnRule:
    return replace(
        default,
        arrow_type=arrow,
        expression=sql.replace("{v}", default.value),
        cursor_expression=(cursor or sql).replace("{v}", default.value),
        cursor_wire_type=wire or arrow,
        hash_template=hashed or default.hash_template,
        identity="",
        loss=loss,
    )


def deep_arrays(connection: psycopg.Connection, query: str, columns: list[SourceColumn]) -> frozenset[str]:
    """Those array columns of a query that hold an array of several dimensions in one of its first rows.

    Raises:
        psycopg.Error: the source refused the query.
    """
    if not columns:
        return frozenset()
    is_deep = "pg_catalog.bool_or(pg_catalog.array_ndims({v}) OPERATOR(pg_catalog.>) 1)"
    asked = ", ".join(is_deep.replace("{v}", q_column(column.name)) for column in columns)
    names = ", ".join(q_column(column.name) for column in columns)
    rows = f"SELECT {names} FROM {subselect(query)} LIMIT {_SAMPLE}"
    row = connection.execute(f"SELECT {asked} FROM ({rows}\n) AS q".encode()).fetchone()
    assert row is not None, "an aggregate gives one row"
    return frozenset(column.name for column, deep in zip(columns, row, strict=True) if deep)


def losses(table: str, rules: list[ColumnRule]) -> str | None:
    """A sentence about what the store's types do not keep of some columns; None where they keep all."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        if rule.loss:
            found.setdefault(rule.loss, []).append(rule.name)
    if not found:
        return None
    told = "; ".join(f"{loss}: {', '.join(names)}" for loss, names in found.items())
    return f"{table} does not keep every value of these columns ({told}); `types` may give them another type."
