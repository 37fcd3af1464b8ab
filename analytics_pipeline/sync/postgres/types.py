"""Types: which Arrow type the store keeps for a Postgres type, and the SQL that brings a value there unharmed.

Belongs here: the rules, one a type, and why. The same as a table for users: docs/types.md.
Does not: asking Postgres which type a column has (`describe`), or moving rows (`readers`).

Both drivers get only what both decode right; everything else travels as text that Postgres itself printed. ADBC wraps
infinities and far years, flattens nested arrays, and gives some types as opaque bytes, all without an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from analytics_pipeline.sync.postgres.describe import SourceColumn, TypeKind
from analytics_pipeline.sync.postgres.failures import ARRAY_GUARD
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
    """

    name: str
    source_type: str
    arrow_type: pa.DataType
    expression: str
    cursor_expression: str
    cursor_wire_type: pa.DataType
    value: str = ""
    hash_template: str = ""

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


# A nondeterministic collation would call different texts equal.
_TEXT_HASH = 'hashtextextended(({v}::text) COLLATE "C", {seed})'
# 0 and -0 are equal, yet not the same.
_FLOAT_HASH = f"CASE WHEN {{v}} = 0 THEN {_TEXT_HASH} ELSE hash{{float}}extended({{v}}, {{seed}}) END"
# So are 1.0 and 1.00. PostgreSQL's own hash leaves out the sign, and is the same for NaN and the infinities.
_NUMERIC_HASH = (
    f"CASE WHEN scale({{v}}) IS NULL THEN {_TEXT_HASH} "
    "ELSE hash_numeric_extended({v}, {seed}) # hashint4extended(scale({v}) * 2 + ({v} < 0)::int4, {seed}) END"
)
# PostgreSQL folds 64-bit integers and times to 32 bits before it hashes them. As the seed, all 64 count.
_BIGINT_HASH = "hashint4extended({seed}, {v})"
_BYTES_HASH = "CASE WHEN {v} IS NOT NULL THEN hash_record_extended(ROW({send}({v})), {seed}) END"
# For types whose own function has no name before PostgreSQL 18. A row of NULL is not NULL.
_RECORD_HASH = "CASE WHEN {v} IS NOT NULL THEN hash_record_extended(ROW({v}), {seed}) END"


def _native(arrow: pa.DataType, hashed: str) -> _Form:
    return _Form(arrow, "{v}", arrow, "{v}", hashed)


def _text(sql: str = "{v}::text", arrow: pa.DataType | None = None, hashed: str = _TEXT_HASH) -> _Form:
    return _Form(arrow or pa.string(), sql, pa.string(), sql, hashed)


def _guarded(arrow: pa.DataType, wire: pa.DataType, condition: str, number: str, hashed: str) -> _Form:
    """A form whose values outside a range become NULL; the cursor tier gets numbers, for Python has no such dates."""
    return _Form(
        arrow, f"CASE WHEN {condition} THEN {{v}} END", wire, f"CASE WHEN {condition} THEN {number} END", hashed
    )


_MICROSECONDS = "(EXTRACT(epoch FROM {v}) * 1000000)::int8"

RULES: dict[str, _Form] = {
    "bool": _native(pa.bool_(), "hashint4extended({v}::int4, {seed})"),
    "int2": _native(pa.int16(), "hashint2extended({v}, {seed})"),
    "int4": _native(pa.int32(), "hashint4extended({v}, {seed})"),
    "int8": _native(pa.int64(), _BIGINT_HASH),
    "float4": _native(pa.float32(), _FLOAT_HASH.replace("{float}", "float4")),
    "float8": _native(pa.float64(), _FLOAT_HASH.replace("{float}", "float8")),
    "text": _native(pa.string(), _TEXT_HASH),
    "varchar": _native(pa.string(), _TEXT_HASH),
    "name": _text(),
    "bytea": _native(pa.binary(), _RECORD_HASH),
    "uuid": _text(hashed="uuid_hash_extended({v}, {seed})"),
    "oid": _Form(pa.int64(), "{v}::int8", pa.int64(), "{v}::int8", "hashoidextended({v}, {seed})"),
    "date": _guarded(pa.date32(), pa.int32(), "isfinite({v})", "{v} - date '1970-01-01'", _RECORD_HASH),
    "timestamp": _guarded(
        pa.timestamp("us"),
        pa.int64(),
        f"{{v}} > '-infinity' AND {{v}} <= '{LAST_MICROSECOND}'",
        _MICROSECONDS,
        _BYTES_HASH.replace("{send}", "timestamp_send"),
    ),
    "timestamptz": _guarded(
        pa.timestamp("us", "UTC"),
        pa.int64(),
        f"{{v}} > '-infinity' AND {{v}} <= '{LAST_MICROSECOND}+00'",
        _MICROSECONDS,
        _BYTES_HASH.replace("{send}", "timestamptz_send"),
    ),
    "time": _Form(pa.time64("us"), "{v}", pa.int64(), _MICROSECONDS, _BYTES_HASH.replace("{send}", "time_send")),
    # DuckDB casts '-1 days 02:00:00' to an interval, but not '+2 days'.
    "interval": _text("replace({v}::text, '+', '')"),
    "money": _text("{v}::numeric::text", _MONEY),
}
"""Built-in types with a rule of their own, by pg_type.typname; numeric, arrays and composites are built below."""


_HASHES_OF_18 = {
    "bytea": "hashbyteaextended({v}, {seed})",
    "date": "hashdateextended({v}, {seed})",
    "time": "hashbyteaextended(time_send({v}), {seed})",
    "timestamp": "hashbyteaextended(timestamp_send({v}), {seed})",
    "timestamptz": "hashbyteaextended(timestamptz_send({v}), {seed})",
}
"""What PostgreSQL 18 gave a name, at half the cost. So an upgrade to it reads everything once more."""


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
    )


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
        return _text("to_json({v})::text")
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
    return _text("NULLIF({v}, 'NaN')::text", pa.decimal128(digits, scale), _NUMERIC_HASH)


def _array(element: SourceColumn) -> _Form:
    inner = _text() if element.element else _scalar(element)
    return _Form(
        arrow=pa.list_(inner.arrow),
        sql=_guarded_list(_elementwise(inner.sql)),
        cursor_wire=pa.list_(inner.cursor_wire),
        cursor_sql=_guarded_list(_elementwise(inner.cursor_sql)),
        hashed=_TEXT_HASH,
    )


def _elementwise(sql: str) -> str:
    value = "({v})[:]"  # a slice starts at 1: ADBC refuses other lower bounds
    if sql == "{v}":
        return value
    if sql in ("{v}::text", "{v}::int8"):
        return f"{value}{sql.removeprefix('{v}')}[]"
    # Not in FROM: there, unnest takes composites apart into their columns.
    unnested = f"(SELECT unnest({value}) AS v, generate_subscripts({value}, 1) AS i) AS u"
    each = sql.replace("{v}", "u.v")
    return f"CASE WHEN {value} IS NOT NULL THEN ARRAY(SELECT {each} FROM {unnested} ORDER BY u.i) END"


def _guarded_list(sql: str) -> str:
    """A list of lists cannot be told from its flattening: stop the read and name the column.

    array_dims makes the message depend on the row, or the planner would evaluate the failing cast at once.
    """
    stop = "({guard} || left(array_dims({v}), 0))::bool"
    return f"CASE WHEN CASE WHEN array_ndims({{v}}) > 1 THEN {stop} ELSE true END THEN {sql} END"
