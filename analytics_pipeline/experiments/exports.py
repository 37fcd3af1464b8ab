"""Exports: the leaderboard and the best runs' trends as JSON, and a page that draws them.

Belongs here: which rows, strict JSON, files put in place whole. Does not: the page (`page`), the views (`views`).
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl

from analytics_pipeline.errors import ExportFailed, ExportRefused
from analytics_pipeline.experiments.database import has_lakehouse
from analytics_pipeline.experiments.page import page
from analytics_pipeline.experiments.reading import frame, opened
from analytics_pipeline.experiments.views import LEADERBOARD
from analytics_pipeline.experiments.writing import absolute, lakehouse
from analytics_pipeline.settings import find_home
from analytics_pipeline.store.layout import fsync_path

TREND_METRICS = ("val_f1", "val_loss")
TOP_RUNS = 5
_ROWS_OF_THE_PAGE = 1_000
_EXACT_IN_A_BROWSER = 2**53

_TRENDS = """\
SELECT run_id, epoch, metric, value
FROM metrics
WHERE list_contains(?::VARCHAR[], run_id) AND list_contains(?::VARCHAR[], metric)
ORDER BY run_id, epoch, metric"""

Records = list[dict[str, object]]


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        folder: where.
        runs: in the leaderboard.
        points: of the trends.
    """

    folder: Path
    runs: int
    points: int


def export(
    root: str | Path | None = None,
    folder: str | Path | None = None,
    *,
    metrics: str | Sequence[str] = TREND_METRICS,
    top: int = TOP_RUNS,
) -> Exported:
    """Write `leaderboard.json`, `metric_trends.json` and `index.html`, all of one moment; each is replaced whole.

    Args:
        root: of the lakehouse; that of this home by default.
        folder: for the files, made where it is missing; by default `exports` in the home, or beside the root.
        metrics: of the trends; one or several.
        top: so many of the best runs have trends.

    Raises:
        ExportRefused: `top` is below zero, or the root has no lakehouse.
        ExportFailed: the disk refused a file.
        StoreError: see `AppendTables.snapshot`.
    """
    if top < 0:
        raise ExportRefused("top", top, "a number of runs, from 0")
    lake, target = lakehouse(root), _folder(root, folder)
    if root is not None and not has_lakehouse(lake):
        raise ExportRefused("root", str(lake), "the folder of a lakehouse: nothing was ever logged there")
    with opened(lake, (LEADERBOARD, "metrics")) as connection:
        board = frame(connection, "SELECT * FROM leaderboard")
        best = board["run_id"].head(min(top, board.height)).to_list()
        trends = frame(connection, _TRENDS, [best, [metrics] if isinstance(metrics, str) else list(metrics)])
    _write_all(target, _files(board, _records(board), _records(trends)))
    return Exported(target, board.height, trends.height)


def _folder(root: str | Path | None, folder: str | Path | None) -> Path:
    if folder is None:
        return find_home().exports if root is None else lakehouse(root).parent / "exports"
    try:
        return absolute(folder)
    except ValueError as error:
        raise ExportFailed(repr(str(folder)), str(error)) from error


def _files(board: pl.DataFrame, runs: Records, trends: Records) -> Mapping[str, str]:
    shown = runs[:_ROWS_OF_THE_PAGE]
    big = [name for name in board.columns if any(_is_big(run[name]) for run in shown)]
    data = {
        "columns": board.columns,
        "big": big,
        "runs": [run | {name: _digits(run[name]) for name in big} for run in shown],
        "total": len(runs),
        "trends": trends,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {"leaderboard.json": _json(runs), "metric_trends.json": _json(trends), "index.html": page(data)}


def _is_big(value: object) -> bool:
    """Whether it is a whole number that a browser's numbers would round."""
    return isinstance(value, int) and abs(value) > _EXACT_IN_A_BROWSER


def _digits(value: object) -> str | None:
    return None if value is None else str(value)


def _records(rows: pl.DataFrame) -> Records:
    """Rows as JSON knows them: it has neither NaN nor infinity, and no times."""
    return [{name: _plain(value) for name, value in row.items()} for row in rows.iter_rows(named=True)]


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | list | dict) else str(value)


def _json(records: Records) -> str:
    return json.dumps(records, allow_nan=False, ensure_ascii=False, indent=2) + "\n"


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    drafts: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            draft = folder / f".{name}.{os.getpid()}-{uuid.uuid4().hex}"
            drafts[draft] = folder / name
            draft.write_text(content, encoding="utf-8")
            fsync_path(draft)
        for draft, target in drafts.items():
            draft.replace(target)
        fsync_path(folder)
    except OSError as error:
        raise ExportFailed(str(folder), str(error)) from error
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
