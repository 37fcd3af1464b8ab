"""Import of a lakehouse of single files: `runs.parquet`, `metrics.parquet`, `configs.parquet`, `datasets.parquet`.

Belongs here: which files are taken in, all or none, and not a second time. Does not: what a file may hold
(`single_files`), or what is there afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from analytics_pipeline.errors import LakehouseNotImported
from analytics_pipeline.experiments.single_files import FILES, configs_in, read_rows
from analytics_pipeline.experiments.tables import append_arrow
from analytics_pipeline.experiments.writing import absolute, lakehouse
from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.locks import exclusive


def import_lakehouse(path: str | Path, root: str | Path | None = None) -> Mapping[str, int]:
    """Append the rows of a folder of such files, all or none; gives their number by table.

    Without `configs.parquet` the configs are what `runs.parquet` has of them.

    Args:
        path: of the folder.
        root: of the lakehouse; that of this home by default.

    Raises:
        LakehouseNotImported: there are no such files, they hold something else, or they were imported before.
        StoreError: see `AppendTables.append`.
    """
    source, target = _source(path), lakehouse(root)
    files = {table: file for table in FILES if (file := source / f"{table}.parquet").is_file()}
    if not files:
        raise LakehouseNotImported(str(source), f"it has none of {', '.join(f'{table}.parquet' for table in FILES)}")
    try:
        digest = _digest(files)
        tables = {table: read_rows(table, file) for table, file in files.items()}
        target.mkdir(parents=True, exist_ok=True)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise LakehouseNotImported(str(source), str(error)) from error
    if configs := tables.get("configs", tables.get("runs")):
        tables["configs"] = configs_in(configs)
    tables = {table: rows for table, rows in tables.items() if rows.num_rows}
    with exclusive(target / ".imports.lock", _ignored):
        _refuse_second_time(source, target, digest)
        append_arrow(target, tables)
        _remember(target, digest)
    return {table: rows.num_rows for table, rows in tables.items()}


def _source(path: str | Path) -> Path:
    try:
        return absolute(path)
    except ValueError as error:
        raise LakehouseNotImported(repr(str(path)), str(error)) from error


def _digest(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for table, file in files.items():
        content = file.read_bytes()
        digest.update(f"{table} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _refuse_second_time(source: Path, target: Path, digest: str) -> None:
    if digest in _imported(target):
        raise LakehouseNotImported(str(source), "the same files were imported before")


def _imported(target: Path) -> list[str]:
    try:
        return [str(digest) for digest in json.loads((target / ".imports.json").read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def _remember(target: Path, digest: str) -> None:
    draft = target / ".imports.json.new"
    draft.write_text(json.dumps([*_imported(target), digest]))
    fsync_path(draft)
    draft.replace(target / ".imports.json")


def _ignored(_line: str) -> None:
    """Who waits for another import need not be told."""
