"""Reads a published column as moments in time, whatever its type.

Belongs here: the SQL of a moment, and the sentence that says why a column has none. Does not: what is asked about the
moments (`api`, `plots`), or which unit an integer column has (`sync.spec`).
"""

from __future__ import annotations

from analytics_pipeline.store.schema import Column, identifier

TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE")
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")

TICKS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds in one unit of an integer column that counts from 1970 in UTC."""

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Microseconds since 1970 of the first moment of year 1 and the last of year 9999: what calendars of programs hold."""


def microseconds(column: Column) -> str:
    """SQL of a column of times as microseconds since 1970; NULL for infinity."""
    return f"epoch_us({identifier(column.name)}{'::TIMESTAMP' if column.type == 'DATE' else ''})"


def moment(column: Column | None, epoch: str | None) -> str | None:
    """SQL of a column as a TIMESTAMP in UTC, NULL for infinity; None where the column holds no moments.

    Args:
        column: of a published table; None for a column that does not exist.
        epoch: a key of `TICKS` where an integer column counts time; None where it does not.
    """
    if column is None:
        return None
    if column.type in TIMES:
        return f"make_timestamp({microseconds(column)})"  # a cast would go through calendars, many times slower
    if epoch is None or column.type not in INTEGERS:
        return None
    name, ticks = identifier(column.name), TICKS[epoch]
    within = f"{name} BETWEEN {_FIRST // ticks + 1} AND {_LAST // ticks}"
    return f"make_timestamp(CASE WHEN {within} THEN {name}::BIGINT * {ticks} END)"


def day(column: Column | None, epoch: str | None) -> str | None:
    """SQL of the day of a column's moments in UTC, NULL outside of years 1 to 9999; None as `moment`."""
    sql = moment(column, epoch)
    return sql and f"(CASE WHEN epoch_us({sql}) BETWEEN {_FIRST} AND {_LAST} THEN {sql} END)::DATE"


def why_no_moments(name: str, column: Column | None, epoch: str | None) -> str | None:
    """The reason why a column has no moments, and what would help; None where it has."""
    if moment(column, epoch) is not None:
        return None
    if column is None:
        return f"there is no column `{name}`"
    if column.type in INTEGERS:
        return (
            f"`{name}` is {column.type}, and no `epoch` gives its unit. Cast it in the dataset's query, such as with "
            f"to_timestamp(…), or make it the incremental_column and set `epoch`"
        )
    return (
        f"`{name}` is {column.type}, which is not a date or a timestamp. Cast it in the dataset's query, such as with "
        f"::timestamptz"
    )
