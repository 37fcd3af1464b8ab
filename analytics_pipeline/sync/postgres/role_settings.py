"""Settings: those of a role that can change what a query gives, as the session has them.

Belongs here: which they are, asking for them, which of their values make a table another one. Does not: setting any
(`session`).
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

SETTINGS_OF_VALUES = frozenset(
    {
        "TimeZone",
        "DateStyle",
        "IntervalStyle",
        "extra_float_digits",
        "bytea_output",
        "xmlbinary",
        "xmloption",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "search_path",
        "default_text_search_config",
        "timezone_abbreviations",
        "standard_conforming_strings",
        "transform_null_equals",
        "array_nulls",
        "quote_all_identifiers",
    }
)
"""Settings by which an expression of a query, or a function or view that it uses, may give another value."""

_SHOWN = ", ".join(f"pg_catalog.current_setting('{name}')" for name in sorted(SETTINGS_OF_VALUES))
SETTINGS_SQL = f"pg_catalog.concat_ws('|', {_SHOWN})"
"""SQL for all of them in one text, for the question whether anything changed."""

_USUAL: Mapping[str, frozenset[str]] = {
    "TimeZone": frozenset({"UTC", "Etc/UTC", "GMT"}),
    "DateStyle": frozenset({"ISO, YMD", "ISO, MDY"}),
    "IntervalStyle": frozenset({"postgres"}),
    "extra_float_digits": frozenset({"1"}),
    "bytea_output": frozenset({"hex"}),
    "xmlbinary": frozenset({"base64"}),
}
"""Settings that a spec hash holds, and the values that leave it as it always was."""


def unusual_settings(connection: psycopg.Connection) -> tuple[str, ...]:
    """The session's settings that print or read values otherwise than most servers do, as `name=value`.

    A change of one reads a table again. The others change values, too, but a checksum sees these by themselves.

    Raises:
        psycopg.Error: the source did not answer.
    """
    asked = ", ".join(f"pg_catalog.current_setting('{name}')" for name in _USUAL)
    row = connection.execute(f"SELECT {asked}".encode()).fetchone()
    assert row is not None, "a question without a table has one row"
    return tuple(
        f"{name}={value}" for (name, usual), value in zip(_USUAL.items(), row, strict=True) if value not in usual
    )
