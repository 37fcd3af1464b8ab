"""The way from logged rows to the tables, without importing any of what it takes before it is gone.

Belongs here: where the lakehouse lies, the late import. Does not: the tables (`tables`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from analytics_pipeline.errors.experiments import LakehouseUnusable
from analytics_pipeline.experiments.rows import Row


def lakehouse(root: str | Path | None) -> Path:
    """The folder of a lakehouse, absolute: a later change of the working directory does not move it.

    Raises:
        LakehouseUnusable: no folder can be called so.
        SettingsError: no root is given, and the home cannot be found.
    """
    if root is not None:
        try:
            return absolute(root)
        except ValueError as error:
            raise LakehouseUnusable(repr(str(root)), str(error)) from error
    from analytics_pipeline.settings import find_home  # noqa: PLC0415 - imports pydantic, as long as all the rest

    return find_home().experiments


def absolute(path: str | Path) -> Path:
    """A path that no later change of the working directory moves.

    Raises:
        ValueError: there cannot be such a path, or no Parquet file below it.
    """
    try:
        found = Path(path).expanduser().resolve()
    except (RuntimeError, OSError) as error:  # of a user who is not there; links in a circle
        raise ValueError(str(error).rstrip(".")) from error
    str(found).encode()  # DuckDB opens no other
    if "\\" in str(found):
        raise ValueError("DuckDB takes a backslash for a slash; choose another folder")
    return found


def prepare() -> None:
    """Import what writing takes: while Python exits, much of it cannot be imported any more."""
    importlib.import_module("analytics_pipeline.experiments.tables")


def append_rows(root: str | Path | None, rows: Mapping[str, Sequence[Row]]) -> None:
    """Append rows by table, all or none.

    Raises:
        StoreError: see `AppendTables.append`.
    """
    from analytics_pipeline.experiments.tables import append  # noqa: PLC0415 - imports Arrow, Polars and DuckDB

    append(lakehouse(root), rows)
