"""One file of a lakehouse of single files as rows of ours: checked, typed, each with its moment.

Belongs here: what such a file may hold, and what stands for what it leaves out. Does not: which files are taken in, and
what becomes of the rows (`importing`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics_pipeline.experiments.rows import RESERVED, json_text
from analytics_pipeline.experiments.views import TABLES
from analytics_pipeline.store.schema import arrow_schema

Values: TypeAlias = "pa.ChunkedArray[Any]"
Moments: TypeAlias = "npt.NDArray[np.int64]"

FILES: Mapping[str, Sequence[str]] = {
    "runs": ("run_id",),
    "metrics": ("run_id", "epoch", "metric"),
    "configs": ("run_id",),
    "datasets": ("dataset_id",),
}
"""Tables that may have such a file, and the columns that each of its rows must fill."""

_FREE = frozenset({"runs", "configs"})
"""Tables that may have any further column."""

_MOMENT = pa.timestamp("us", "UTC")
_WIDE: Sequence[tuple[Callable[[pa.DataType], bool], pa.DataType]] = (
    (pa.types.is_integer, pa.int64()),
    (pa.types.is_floating, pa.float64()),
    (pa.types.is_boolean, pa.bool_()),
    (pa.types.is_null, pa.null()),
)
_INDEX_OF_PANDAS = "__index_level_"
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
"""In seconds since 1970."""
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def read_rows(table: str, file: Path) -> pa.Table:
    """The rows of a file; those of metrics have NaN where pandas wrote NULL, and every row has its moment.

    Raises:
        ValueError: it holds something else; names the column or row.
        OSError, pa.ArrowException: it cannot be read.
    """
    with pq.ParquetFile(file) as parquet:
        found = parquet.read()
    names = [_renamed(table, name, found.column_names) for name in found.column_names]
    _check_names(table, file, [name for name in names if not name.startswith(_INDEX_OF_PANDAS)])
    columns = {
        name: _typed(table, file, name, found.column(number))
        for number, name in enumerate(names)
        if not name.startswith(_INDEX_OF_PANDAS)
    }
    for name in FILES[table]:
        _check_filled(file, name, columns[name])
    if table == "metrics":
        columns["value"] = columns["value"].fill_null(float("nan"))  # type: ignore[arg-type]
    columns["logged_at"] = _moments(file, found.num_rows, columns.get("logged_at"))
    return pa.table(columns)


def configs_in(rows: pa.Table) -> pa.Table:
    """The configs that rows of runs or configs hold.

    A row without any hyper-parameter says nothing of them: what an earlier one said of its run goes on to count.
    """
    keys = [name for name in rows.column_names if name not in RESERVED]
    said = np.zeros(rows.num_rows, np.bool_)
    for name in keys:
        said |= _as_numpy(rows.column(name).is_valid())
    return rows.select(["run_id", "logged_at", *keys]).filter(pa.array(said))


def _renamed(table: str, name: str, names: Sequence[str]) -> str:
    return "metric" if table == "metrics" and name == "metric_name" and "metric" not in names else name


def _check_names(table: str, file: Path, names: Sequence[str]) -> None:
    _check_own_names(table, file, names)
    wanted = (*FILES[table], *(["value"] if table == "metrics" else ()))
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(f"{file.name} lacks {', '.join(missing)}")
    seen: dict[str, str] = {}
    for name in names:
        if not name or "\0" in name:
            raise ValueError(f"{file.name} has the column {name!r}, which no column of a table can be called")
        other = seen.setdefault(name.lower(), name)
        if list(names).count(name) > 1 or other != name:
            raise ValueError(f"{file.name} has the columns {other!r} and {name!r}, which SQL does not tell apart")
    unknown = [name for name in names if name not in arrow_schema(TABLES[table]).names]
    if unknown and table not in _FREE:
        raise ValueError(
            f"{file.name} has columns that {table} has no place for: {', '.join(map(repr, unknown))}. Write the file "
            f"without them, in DuckDB by SELECT * EXCLUDE, if they may be left behind"
        )


def _check_own_names(table: str, file: Path, names: Sequence[str]) -> None:
    """What is called like a column of ours is that column, or there would be two that SQL does not tell apart."""
    own = arrow_schema(TABLES[table]).names
    reserved = {name.lower(): name for name in (*own, *(sorted(RESERVED) if table in _FREE else ()))}
    for name in names:
        known = reserved.get(name.lower(), name)
        if known != name:
            raise ValueError(
                f"{file.name} has the column {name!r}, which SQL does not tell apart from {known!r} of ours. Call it "
                f"{known!r} if it is the same, or give it another name"
            )
        if name.lower() in reserved and name not in own:
            raise ValueError(
                f"{file.name} has the column {name!r}, which is one of runs and no hyper-parameter. Give it another "
                f"name, or write the file without it"
            )


def _typed(table: str, file: Path, name: str, column: Values) -> Values:
    known = arrow_schema(TABLES[table])
    try:
        if name == "logged_at":
            return _times(column)
        flat = _flat(name, column)
        _check_years(flat)
        return flat.cast(known.field(name).type) if name in known.names else _wide(flat)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"column {name!r} of {file.name}: {error}") from error


def _times(column: Values) -> Values:
    if pa.types.is_integer(column.type):
        raise ValueError(f"{column.type} is no type of times")
    _check_years(column)
    return pc.cast(column, _MOMENT, safe=False)


def _check_years(column: Values) -> None:
    """Of dates and times: neither Python nor JSON says those of other years, and microseconds may not hold them."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        unit = _UNITS[column.type.unit]
        numbers = pc.min_max(column.cast(pa.int64()))
        first, last = numbers["min"].as_py(), numbers["max"].as_py()
        if first is not None and not _YEAR_1 * unit <= first <= last < _YEAR_10000 * unit:
            raise ValueError("it has times before the year 1, or after the year 9999")


def _flat(name: str, column: Values) -> Values:
    if pa.types.is_dictionary(column.type):
        return _flat(name, column.cast(column.type.value_type))
    if pa.types.is_duration(column.type):
        return _texts(str, column.cast(pa.duration("us")))
    if pa.types.is_nested(column.type):
        return _texts(functools.partial(json_text, name), column)
    return column


def _texts(text: Callable[[object], str], column: Values) -> Values:
    values = [None if value is None else text(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string())])


def _wide(column: Values) -> Values:
    """A free column in the types that logging gives it."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column.cast(next((wide for holds, wide in _WIDE if holds(column.type)), pa.string()))


def _check_filled(file: Path, name: str, column: Values) -> None:
    empty = _as_numpy(column.is_null())
    if pa.types.is_string(column.type):
        empty |= _as_numpy(pc.binary_length(column).fill_null(0)) == 0  # type: ignore[arg-type]
    if empty.any():
        raise ValueError(f"{file.name} has no {name} in row {int(empty.argmax()) + 1} (the first one is 1)")


def _moments(file: Path, count: int, given: Values | None) -> Values:
    """When each row counts as logged: as it says, if it says so and that has been already.

    The others take the place at which they stand, one microsecond after the other, up to when the file was written: an
    import that is done twice changes nothing. Where rows say the same moment, the later one counts as later, too.
    """
    now = time.time_ns() // 1000
    last = min(file.stat().st_mtime_ns // 1000, now)
    moments: Moments = np.arange(last - count + 1, last + 1, dtype=np.int64)
    if given is not None:
        said = _as_numpy(given.cast(pa.int64()).fill_null(now + 1))  # type: ignore[arg-type]
        moments = np.where(said <= now, said, moments)
    order = np.argsort(moments, kind="stable")
    steps = np.arange(count)
    moments[order] = np.maximum.accumulate(moments[order] - steps) + steps
    return pa.chunked_array([pa.array(moments, pa.int64()).cast(_MOMENT)])


def _as_numpy(column: Values) -> npt.NDArray[Any]:
    return column.combine_chunks().to_numpy(zero_copy_only=False)
