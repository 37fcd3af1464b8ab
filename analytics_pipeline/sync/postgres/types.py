"""Types: which Arrow type the store keeps for a Postgres type, and the SQL that brings a value there unharmed.

Belongs here: the rules, one a type, and why. The same as a table for users: docs/types.md.
Does not: asking Postgres which type a column has (`describe`), or moving rows (`readers`).

The session's settings are the role's own (time zone, styles), so that the query gives what it gives everywhere. Dates,
times, intervals, bytes and numbers are read and hashed by SQL that no setting changes. What is printed inside other
types (a range of timestamps, the JSON of a composite) follows the settings, and is hashed as it is printed.

Both drivers get only what both decode right; everything else travels as text that Postgres itself printed. ADBC wraps
infinities and far years, flattens nested arrays, and gives some types as opaque bytes, all without an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pyarrow as pa

from analytics_pipeline.sync.postgres.describe import SourceColumn, TypeKind
from analytics_pipeline.sync.postgres.failures import ARRAY_GUARD
from analytics_pipeline.sync.postgres.intervals import INTERVAL_TEXT
from analytics_pipeline.sync.postgres.sql import column as q_column
from analytics_pipeline.sync.postgres.sql import quote_literal

LAST_MICROSECOND = "294247-01-10 04:00:54.775806"
"""The last timestamp of int64 microseconds since 1970; DuckDB keeps the very last number for its infinity."""

_PLACEHOLDER = re.compile(r"\{v\}|\{guard\}")
_NAMED_HASHES = 18
_VARHDRSZ = 4
_WIDEST_DECIMAL = 38
_MONEY = pa.decimal128(23, 4)


@dataclass(frozen=True)
class ColumnRule:
    """How one output column is read, stored and hashed. Further computed columns are just further rules.

    Args:
        name: output column.
        source_type: as format_type() spells it, e.g. numeric(10,2).
        arrow_type: what the store keeps: Parquet writes it, DuckDB and Polars read it.
        expression: SQL over alias q for the ADBC tiers.
        cursor_expression: SQL over alias q for the cursor tier; gives the same stored values.
        cursor_wire_type: the Arrow type to build from the cursor's Python values, before the same cast.
        value: SQL over alias q for the value as Postgres has it.
        hash_template: SQL for its 64-bit hash, in which {v} is the value and {seed} an integer; equal hashes mean
            identical values, not just equal ones. NULL for NULL.
        identity: what stands for the expression in a spec hash, where an older spelling gave the same values.
        loss: which values the store does not keep as they are, in words for people.
    """

    name: str
    source_type: str
    arrow_type: pa.DataType
    expression: str
    cursor_expression: str
    cursor_wire_type: pa.DataType
    value: str = ""
    hash_template: str = ""
    identity: str = ""
    loss: str = ""

    def hashed(self, seed: int) -> str:
        """SQL over alias q for the value's hash."""
        return _fill(self.hash_template.replace("{seed}", str(seed)), self.value, self.name)


@dataclass(frozen=True)
class _Form:
    """A rule before it is bound to a column: SQL templates in which {v} stands for the value."""

    arrow: pa.DataType
    sql: str
    cursor_wire: pa.DataType
    cursor_sql: str
    hashed: str
    identity: str = ""


def hash_of_text(sql: str) -> str:
    """A nondeterministic collation would call different texts equal."""
    return f'pg_catalog.hashtextextended(({sql}) COLLATE pg_catalog."C", {{seed}})'


_TEXT = "{v}::pg_catalog.text"
_TEXT_HASH = hash_of_text(_TEXT)
# 0 and -0 are equal, yet not the same.
_FLOAT_HASH = (
    f"CASE WHEN {{v}} OPERATOR(pg_catalog.=) 0 THEN {_TEXT_HASH} "
    "ELSE pg_catalog.hash{float}extended({v}, {seed}) END"
)
# So are 1.0 and 1.00. PostgreSQL's own hash leaves out the sign, and is the same for NaN and the infinities.
_NUMERIC_HASH = (
    f"CASE WHEN pg_catalog.scale({{v}}) IS NULL THEN {_TEXT_HASH} "
    "ELSE pg_catalog.hash_numeric_extended({v}, {seed}) OPERATOR(pg_catalog.#) "
    "pg_catalog.hashint4extended(pg_catalog.scale({v}) OPERATOR(pg_catalog.*) 2 "
    "OPERATOR(pg_catalog.+) ({v} OPERATOR(pg_catalog.<) 0)::pg_catalog.int4, {seed}) END"
)
# PostgreSQL folds 64-bit integers and times to 32 bits before it hashes them. As the seed, all 64 count.
_BIGINT_HASH = "pg_catalog.hashint4extended({seed}, {v})"
_BYTES_HASH = "CASE WHEN {v} IS NOT NULL THEN pg_catalog.hash_record_extended(ROW(pg_catalog.{send}({v})), {seed}) END"
# For types whose own function has no name before PostgreSQL 18. A row of NULL is not NULL.
_RECORD_HASH = "CASE WHEN {v} IS NOT NULL THEN pg_catalog.hash_record_extended(ROW({v}), {seed}) END"


def _native(arrow: pa.DataType, hashed: str) -> _Form:
    return _Form(arrow, "{v}", arrow, "{v}", hashed)


def _text(sql: str = _TEXT, arrow: pa.DataType | None = None, hashed: str | None = None) -> _Form:
    """A form that travels as text, and is hashed as exactly that text unless a hash of the value says as much."""
    return _Form(arrow or pa.string(), sql, pa.string(), sql, hashed or hash_of_text(sql))


def _guarded(arrow: pa.DataType, wire: pa.DataType, condition: str, number: str, hashed: str) -> _Form:
    """A form whose values outside a range become NULL; the cursor tier gets numbers, for Python has no such dates."""
    return _Form(
        arrow, f"CASE WHEN {condition} THEN {{v}} END", wire, f"CASE WHEN {condition} THEN {number} END", hashed
    )


_MICROSECONDS = "(EXTRACT(epoch FROM {v}) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8"
_IN_RANGE = "{v} OPERATOR(pg_catalog.>) '-infinity' AND {v} OPERATOR(pg_catalog.<=) "

RULES: dict[str, _Form] = {
    "bool": _native(pa.bool_(), "pg_catalog.hashint4extended({v}::pg_catalog.int4, {seed})"),
    "int2": _native(pa.int16(), "pg_catalog.hashint2extended({v}, {seed})"),
    "int4": _native(pa.int32(), "pg_catalog.hashint4extended({v}, {seed})"),
    "int8": _native(pa.int64(), _BIGINT_HASH),
    "float4": _native(pa.float32(), _FLOAT_HASH.replace("{float}", "float4")),
    "float8": _native(pa.float64(), _FLOAT_HASH.replace("{float}", "float8")),
    "text": _native(pa.string(), _TEXT_HASH),
    "varchar": _native(pa.string(), _TEXT_HASH),
    "name": _text(),
    "bytea": _native(pa.binary(), _RECORD_HASH),
    "uuid": _text(hashed="pg_catalog.uuid_hash_extended({v}, {seed})"),
    "oid": _Form(
        pa.int64(),
        "{v}::pg_catalog.int8",
        pa.int64(),
        "{v}::pg_catalog.int8",
        "pg_catalog.hashoidextended({v}, {seed})",
    ),
    "date": _guarded(
        pa.date32(),
        pa.int32(),
        "pg_catalog.isfinite({v})",
        "{v} OPERATOR(pg_catalog.-) pg_catalog.date '1970-01-01'",
        _RECORD_HASH,
    ),
    "timestamp": _guarded(
        pa.timestamp("us"),
        pa.int64(),
        f"{_IN_RANGE}'{LAST_MICROSECOND}'",
        _MICROSECONDS,
        _BYTES_HASH.replace("{send}", "timestamp_send"),
    ),
    "timestamptz": _guarded(
        pa.timestamp("us", "UTC"),
        pa.int64(),
        f"{_IN_RANGE}'{LAST_MICROSECOND}+00'",
        _MICROSECONDS,
        _BYTES_HASH.replace("{send}", "timestamptz_send"),
    ),
    "time": _Form(pa.time64("us"), "{v}", pa.int64(), _MICROSECONDS, _BYTES_HASH.replace("{send}", "time_send")),
    "interval": _text(INTERVAL_TEXT),
    "money": _text("{v}::pg_catalog.numeric::pg_catalog.text", _MONEY),
}
"""Built-in types with a rule of their own, by pg_type.typname; numeric, arrays and composites are built below."""


_HASHES_OF_18 = {
    "bytea": "pg_catalog.hashbyteaextended({v}, {seed})",
    "date": "pg_catalog.hashdateextended({v}, {seed})",
    "time": "pg_catalog.hashbyteaextended(pg_catalog.time_send({v}), {seed})",
    "timestamp": "pg_catalog.hashbyteaextended(pg_catalog.timestamp_send({v}), {seed})",
    "timestamptz": "pg_catalog.hashbyteaextended(pg_catalog.timestamptz_send({v}), {seed})",
}
"""What PostgreSQL 18 gave a name, at half the cost. So an upgrade to it reads everything once more."""

_PRINTED_BY_SETTINGS = {"float4", "float8", "bytea", "date", "time", "timestamp", "timestamptz"}
"""Types of elements that the store keeps as they are, and that an array prints as the session's settings say."""


def rule_for(column: SourceColumn) -> ColumnRule:
    """The rule for one described column; every type has one, at the least its text."""
    value = q_column(column.name)
    form = _array(column.element) if column.element else _scalar(column)
    return ColumnRule(
        name=column.name,
        source_type=column.spelled,
        arrow_type=form.arrow,
        expression=_fill(form.sql, value, column.name),
        cursor_expression=_fill(form.cursor_sql, value, column.name),
        cursor_wire_type=form.cursor_wire,
        value=value,
        hash_template=_hash_of(column, form),
        identity=_fill(form.identity, value, column.name),
        loss=_loss_of(column.element or column),
    )


def _loss_of(column: SourceColumn) -> str:
    if not column.builtin or column.element is not None:
        return ""
    if column.typname == "numeric":
        return "numeric becomes the nearest double" if column.typmod == -1 else "NaN becomes NULL"
    return "infinity becomes NULL" if column.typname in {"date", "timestamp", "timestamptz"} else ""


def _hash_of(column: SourceColumn, form: _Form) -> str:
    if column.server < _NAMED_HASHES or not column.builtin:
        return form.hashed
    return _HASHES_OF_18.get(column.typname, form.hashed)


def _fill(template: str, value: str, name: str) -> str:
    """Put a value, and the name that an error is to tell, into a template, in one pass: either may hold braces."""
    filled = {"{v}": value, "{guard}": quote_literal(ARRAY_GUARD + name)}
    return _PLACEHOLDER.sub(lambda found: filled[found[0]], template)


def _scalar(column: SourceColumn) -> _Form:
    if column.kind is TypeKind.COMPOSITE or (column.kind is TypeKind.PSEUDO and column.typname == "record"):
        return _text("pg_catalog.to_json({v})::pg_catalog.text")
    if not column.builtin:
        return _text()
    if column.typname == "numeric":
        return _numeric(column.typmod)
    return RULES.get(column.typname, _text())


def _numeric(typmod: int) -> _Form:
    """DECIMAL where it was declared, DOUBLE where not; text is the fastest way there, and lossless."""
    if typmod == -1:
        return _text(arrow=pa.float64(), hashed=_NUMERIC_HASH)
    precision, scale = (typmod - _VARHDRSZ) >> 16 & 0xFFFF, ((typmod - _VARHDRSZ & 0x7FF) ^ 1024) - 1024
    # numeric(3,-2) holds up to 99900, numeric(2,4) up to 0.0099; stores want 0 <= scale <= precision.
    digits, scale = max(precision + max(-scale, 0), scale), max(scale, 0)
    if digits > _WIDEST_DECIMAL:
        return _text(hashed=_NUMERIC_HASH)
    sql = "CASE WHEN {v} OPERATOR(pg_catalog.<>) 'NaN' THEN {v}::pg_catalog.text END"
    form = _text(sql, pa.decimal128(digits, scale), _NUMERIC_HASH)
    return replace(form, identity="NULLIF({v}, 'NaN')::text")


def _array(element: SourceColumn) -> _Form:
    inner = _text() if element.element else _scalar(element)
    sql = _guarded_list(_elementwise(inner.sql))
    return _Form(
        arrow=pa.list_(inner.arrow),
        sql=sql,
        cursor_wire=pa.list_(inner.cursor_wire),
        cursor_sql=_guarded_list(_elementwise(inner.cursor_sql)),
        hashed=_list_hash(element, inner, sql),
    )


def _list_hash(element: SourceColumn, inner: _Form, sql: str) -> str:
    """By the array's text where that says all and no setting changes it, by what is stored or sent otherwise."""
    if element.builtin and element.typname in _PRINTED_BY_SETTINGS:
        if element.server < _NAMED_HASHES:
            return _BYTES_HASH.replace("{send}", "array_send")
        return "pg_catalog.hashbyteaextended(pg_catalog.array_send({v}), {seed})"
    return hash_of_text(f"{sql}::pg_catalog.text") if inner.arrow == pa.string() and inner.sql != "{v}" else _TEXT_HASH


def _elementwise(sql: str) -> str:
    value = "({v})[:]"  # a slice starts at 1: ADBC refuses other lower bounds
    if sql == "{v}":
        return value
    if sql in (_TEXT, "{v}::pg_catalog.int8"):
        return f"{value}{sql.removeprefix('{v}')}[]"
    # Not in FROM: there, unnest takes composites apart into their columns.
    unnested = f"(SELECT pg_catalog.unnest({value}) AS v, pg_catalog.generate_subscripts({value}, 1) AS i) AS u"
    each = sql.replace("{v}", "u.v")
    return f"CASE WHEN {value} IS NOT NULL THEN ARRAY(SELECT {each} FROM {unnested} ORDER BY u.i) END"


def _guarded_list(sql: str) -> str:
    """A list of lists cannot be told from its flattening: stop the read and name the column.

    array_dims makes the message depend on the row, or the planner would evaluate the failing cast at once.
    """
    stop = "({guard} OPERATOR(pg_catalog.||) pg_catalog.left(pg_catalog.array_dims({v}), 0))::pg_catalog.bool"
    is_deep = "pg_catalog.array_ndims({v}) OPERATOR(pg_catalog.>) 1"
    return f"CASE WHEN CASE WHEN {is_deep} THEN {stop} ELSE true END THEN {sql} END"
