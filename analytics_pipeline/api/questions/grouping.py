"""Groups: by what an answer may be cut up.

Belongs here: the check of a group, its name, numbers that JSON can hold. Does not: what is computed of a group.
"""

from __future__ import annotations

import math

from analytics_pipeline.api.parameters import GROUPS
from analytics_pipeline.api.table import Columns
from analytics_pipeline.errors import GroupByInvalid

UNKNOWN = "unknown"
"""The group of rows without a value, or without the column."""


def checked_group(group_by: str | None) -> str | None:
    """The name, if answers may be grouped by it.

    Raises:
        GroupByInvalid: they may not.
    """
    if group_by is not None and group_by not in GROUPS:
        raise GroupByInvalid(group_by, GROUPS)
    return group_by


def group_sql(columns: Columns, name: str) -> str:
    """SQL of a row's group."""
    return f"coalesce({columns.text(name)}, '{UNKNOWN}')"


def json_number(value: object) -> float | None:
    """A number, if JSON can hold it."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def zero_if_none(value: object) -> float:
    """A number that JSON can hold; 0 for none."""
    return json_number(value) or 0.0
