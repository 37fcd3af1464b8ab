"""Intervals: their text in IntervalStyle postgres without plus signs, whatever style the session has.

Belongs here: the SQL template. Does not: other types (`types`).

DuckDB casts '-1 days 02:00:00' to an interval, but not '+2 days'. PostgreSQL's own output function follows the
session's IntervalStyle, which belongs to the user's query. So the text is put together from the fields.
"""

from __future__ import annotations


def _field(name: str, unit: str) -> str:
    value = f"EXTRACT({name} FROM {{v}})"
    plural = f"CASE WHEN {value} OPERATOR(pg_catalog.=) 1 THEN '' ELSE 's' END"
    return (
        f"CASE WHEN {value} OPERATOR(pg_catalog.<>) 0 "
        f"THEN pg_catalog.concat({value}::pg_catalog.text, ' {unit}', {plural}) END"
    )


def _padded(name: str, pattern: str) -> str:
    return f"pg_catalog.to_char(pg_catalog.abs(EXTRACT({name} FROM {{v}})), '{pattern}')"


_IS_NEGATIVE = " OR ".join(
    f"EXTRACT({name} FROM {{v}}) OPERATOR(pg_catalog.<) 0" for name in ("hour", "minute", "second")
)
_SECONDS = f"pg_catalog.rtrim({_padded('second', 'FM00.999999')}, '.')"
_TIME = (
    f"pg_catalog.concat(CASE WHEN {_IS_NEGATIVE} THEN '-' END, "
    f"{_padded('hour', 'FM999999999900')}, ':', {_padded('minute', 'FM00')}, ':', {_SECONDS})"
)
_HAS_TIME = " OR ".join(
    f"EXTRACT({name} FROM {{v}}) OPERATOR(pg_catalog.<>) 0" for name in ("hour", "minute", "second")
)
_HAS_DAYS = " OR ".join(f"EXTRACT({name} FROM {{v}}) OPERATOR(pg_catalog.<>) 0" for name in ("year", "month", "day"))

INTERVAL_TEXT = (
    "CASE WHEN pg_catalog.isfinite({v}) THEN pg_catalog.concat_ws(' ', "
    f"{_field('year', 'year')}, {_field('month', 'mon')}, {_field('day', 'day')}, "
    f"CASE WHEN {_HAS_TIME} OR NOT ({_HAS_DAYS}) THEN {_TIME} END) "
    "ELSE {v}::pg_catalog.text END"
)
"""SQL for the text of {v}; NULL for NULL."""
