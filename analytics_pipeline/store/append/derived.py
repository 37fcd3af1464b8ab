"""Views that the owner of append-only tables brings along, in a file beside them.

Belongs here: that file. Does not: what the views mean (their owner), or where they are created (`published`).

The raw tables are then called `experiments_raw.runs`, say, and the views `experiments.runs`: each SELECT names the one
it reads.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.schema import Column, Columns, checked_table_name

_TYPE = re.compile(r"[A-Z][A-Z0-9 ]*(\(\d+,\d+\))?(\[\])?")


@dataclass(frozen=True)
class DerivedViews:
    """What stands in the file.

    Args:
        tables: columns that a raw table has in any case, even while there are no rows of it.
        views: SELECTs over the raw tables, and over views that stand before them.
        settings: of the owner; the store does not look at them.
    """

    tables: Mapping[str, Columns] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)
    settings: object = None


def read_derived(path: Path) -> DerivedViews | None:
    """The views of a file; None where there is none.

    Raises:
        ValueError: it does not hold such views.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
        tables = {
            checked_table_name(table): tuple(Column(str(name), _type(type_)) for name, type_ in columns)
            for table, columns in found["tables"].items()
        }
        views = {checked_table_name(name): str(select) for name, select in found["views"].items()}
        return DerivedViews(tables, views, found.get("settings"))
    except Exception as error:
        raise ValueError(f"{path} does not hold views: {error!r}") from error


def write_derived(path: Path, derived: DerivedViews) -> None:
    """Write a file of views, whole.

    Raises:
        OSError: the disk refused.
    """
    content = {"tables": derived.tables, "views": derived.views, "settings": derived.settings}
    draft = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex}")
    try:
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
        fsync_path(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    fsync_path(path.parent)


def _type(name: object) -> str:
    if not isinstance(name, str) or not _TYPE.fullmatch(name):
        raise ValueError(f"{name!r} is no type")
    return name
