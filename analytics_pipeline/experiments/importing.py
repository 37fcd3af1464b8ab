"""Import of a lakehouse of single files: `runs.parquet`, `metrics.parquet`, `configs.parquet`, `datasets.parquet`.

Belongs here: reading them, giving each row its moment, refusing a second time. Does not: what is there afterwards.

Such files know no moment at which a row was logged. Their rows count in the order in which they stand, and before all
that is logged later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analytics_pipeline.errors import LakehouseNotImported
from analytics_pipeline.experiments.rows import json_text
from analytics_pipeline.experiments.tables import append_arrow
from analytics_pipeline.experiments.views import TABLES
from analytics_pipeline.experiments.writing import lakehouse
from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.locks import exclusive
from analytics_pipeline.store.schema import arrow_schema

Values: TypeAlias = "pa.ChunkedArray[Any]"

_KEYS = {"runs": "run_id", "metrics": "run_id", "configs": "run_id", "datasets": "dataset_id"}
_FREE = frozenset({"runs", "configs"})
"""Tables that may have any further column."""

_NOT_CONFIG = ("status", "experiment_id", "fields")
_MOMENT = pa.timestamp("us", "UTC")
_WIDE: Sequence[tuple[Callable[[pa.DataType], bool], pa.DataType]] = (
    (pa.types.is_integer, pa.int64()),
    (pa.types.is_floating, pa.float64()),
    (pa.types.is_boolean, pa.bool_()),
    (pa.types.is_null, pa.null()),
)
_INDEX_OF_PANDAS = "__index_level_"


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
    source, target = Path(path).expanduser().resolve(), lakehouse(root)
    files = {table: file for table in _KEYS if (file := source / f"{table}.parquet").is_file()}
    if not files:
        raise LakehouseNotImported(str(source), f"it has none of {', '.join(f'{table}.parquet' for table in _KEYS)}")
    try:
        digest = _digest(files)
        tables = {table: _rows(table, file) for table, file in files.items()}
    except (OSError, pa.ArrowException, ValueError) as error:
        raise LakehouseNotImported(str(source), str(error)) from error
    if "configs" not in tables and "runs" in tables:
        tables["configs"] = _configs_of(tables["runs"])
    tables = {table: rows for table, rows in tables.items() if rows.num_rows}
    target.mkdir(parents=True, exist_ok=True)
    with exclusive(target / ".imports.lock", _ignored):
        _refuse_second_time(source, target, digest)
        append_arrow(target, tables)
        _remember(target, digest)
    return {table: rows.num_rows for table, rows in tables.items()}


def _rows(table: str, file: Path) -> pa.Table:
    found = pq.read_table(file, partitioning=None)
    found = found.select([name for name in found.column_names if not name.startswith(_INDEX_OF_PANDAS)])
    if table == "metrics" and "metric" not in found.column_names and "metric_name" in found.column_names:
        found = found.rename_columns({"metric_name": "metric"})
    if _KEYS[table] not in found.column_names or found.column(_KEYS[table]).null_count:
        raise ValueError(f"{file.name} needs a {_KEYS[table]} in every row")
    known = arrow_schema(TABLES[table])
    unknown = [name for name in found.column_names if name not in known.names]
    if unknown and table not in _FREE:
        found = found.drop_columns(unknown)
    columns: dict[str, Values] = {
        name: found.column(name).cast(known.field(name).type) if name in known.names else _plain(found.column(name))
        for name in found.column_names
    }
    if table == "metrics":
        if missing := {"epoch", "metric", "value"} - columns.keys():
            raise ValueError(f"{file.name} lacks {', '.join(sorted(missing))}")
        columns["value"] = columns["value"].fill_null(float("nan"))  # type: ignore[arg-type] # as which pandas writes NaN
    columns.setdefault("logged_at", _moments(file, found.num_rows))
    return pa.table(columns)


def _moments(file: Path, count: int) -> Values:
    """One after the other, up to when the file was written: an import that is done twice changes nothing."""
    last = file.stat().st_mtime_ns // 1000
    return pa.chunked_array([pa.array(np.arange(last - count + 1, last + 1), pa.int64()).cast(_MOMENT)])


def _plain(column: Values) -> Values:
    """A free column in the types that logging gives it."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return _plain(column.cast(type_.value_type))
    if pa.types.is_nested(type_):
        texts = [None if value is None else json_text("a value", value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_timestamp(type_):
        return column.cast(pa.timestamp("us", type_.tz), safe=False)
    return column.cast(next((wide for holds, wide in _WIDE if holds(type_)), pa.string()))


def _configs_of(runs: pa.Table) -> pa.Table:
    return runs.drop_columns([name for name in _NOT_CONFIG if name in runs.column_names])


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
