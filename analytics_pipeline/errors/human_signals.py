"""Errors of derived cases: a dataset has not what they are made of.

Belongs here: what `analytics_pipeline.human_signals` refuses. Does not: reading the dataset (`sync`, `source`).
"""

from __future__ import annotations

from collections.abc import Iterable

from analytics_pipeline.errors.sync import SyncError


class CaseColumnsMissing(SyncError):
    """Cases were asked for of rows that lack the columns for them."""

    def __init__(self, where: str, missing: Iterable[str], found: Iterable[str]) -> None:
        super().__init__(
            f"{where}: cases need the column {' and '.join(missing)}, which is not there. "
            f"The columns are: {', '.join(found) or 'none'}. Select or rename it in the queries, or under `columns` "
            f"in the defs.yaml, or drop `cases: true` there."
        )
