"""Rows: records as Arrow tables, whose schema comes from the record's class and never from the values.

Belongs here: the Arrow type of each field, what a value becomes. Does not: checking a class (`records`), or storing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
from pydantic import ValidationError

from analytics_pipeline.capabilities.identity import without_repeated_runs
from analytics_pipeline.capabilities.materializations import MaterializationRecord
from analytics_pipeline.capabilities.records import (
    MATERIALIZATIONS,
    RESERVED,
    RUNS,
    SCALARS,
    BaseRecord,
    first_problem,
    in_utc,
    scalar_of,
)
from analytics_pipeline.capabilities.runs import Record, RunRecord, table_of, values_of
from analytics_pipeline.errors import RecordsDisagree, RecordValueRefused, RunRefused
from analytics_pipeline.missing_values import is_missing
from analytics_pipeline.store.schema import checked_table_name

_ARROW: Mapping[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
    datetime: pa.timestamp("us", "UTC"),
}


_AT_ONCE = 20_000
"""Records."""

_NUMBERS = {"b", "i", "u", "f"}
"""Kinds of NumPy's types: booleans, whole numbers with and without a sign, floating ones."""

_OWN: Mapping[str, type[BaseRecord]] = {RUNS: RunRecord, MATERIALIZATIONS: MaterializationRecord}
"""The classes of the store's own tables."""


def tables_of(records: Iterable[Record]) -> Mapping[str, pa.Table]:
    """Records as rows of their tables; the store's own come first, so that no payload is ever seen without them.

    Raises:
        NameRefused: a table's name is no plain identifier.
        RecordRefused: something is no record.
        RecordValueRefused: a value does not fit its field.
        RecordsDisagree: two records of one table give a field different types.
        RunRefused: a record has no run_uid.
    """
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(checked_table_name(table_of(record)), []).append(record)
    tables = {name: _table(name, grouped[name]) for name in sorted(grouped, key=lambda name: name not in RESERVED)}
    return {name: without_repeated_runs(rows) if name == RUNS else rows for name, rows in tables.items()}


def _table(name: str, records: Sequence[Record]) -> pa.Table:
    found: dict[str, set[type]] = {}
    for kind in [_OWN[name]] if name in _OWN else dict.fromkeys(type(record) for record in records):
        for field, scalar in _declared(kind).items():
            found.setdefault(field, set()).add(scalar)
    declared = frozenset(found)
    parts = [_part(name, records[at : at + _AT_ONCE], declared, found) for at in range(0, len(records), _AT_ONCE)]
    return pa.concat_tables(parts, promote_options="default")


def _part(
    name: str, records: Sequence[Record], declared: frozenset[str], found: MutableMapping[str, set[type]]
) -> pa.Table:
    """Some of a table's rows: as dictionaries, all of them would take far more memory than as columns."""
    rows = [values_of(record) for record in records]
    for row in rows:
        if not isinstance(uid := row.get("run_uid"), str) or not uid:
            raise RunRefused(str(uid or ""), f"of a record for {name} is missing, empty or no text")
    if name in _OWN:
        rows = [_own_row(name, row) for row in rows]
    fields = _fields(name, rows, declared, found)
    return pa.table({field: _column(name, field, kind, rows) for field, kind in fields.items()})


def _own_row(table: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of one of the store's own tables, checked by its class, whoever's object it comes from."""
    try:
        return _OWN[table].model_validate(row, strict=True).model_dump(mode="python")
    except ValidationError as error:
        field, _, problem = first_problem(error).partition(": ")
        raise RecordValueRefused(table, field, f"cannot be stored: {problem}") from None


def _fields(
    table: str, rows: Sequence[Mapping[str, Any]], declared: frozenset[str], found: MutableMapping[str, set[type]]
) -> Mapping[str, type]:
    """Each field's scalar type: by the classes where these say it, else by the values, if there are any."""
    for row in rows:
        for field, value in row.items():
            if field not in declared and not is_missing(value):
                found.setdefault(field, set()).add(_scalar_of_value(table, field, value))
    for field, kinds in found.items():
        if len(kinds) > 1:
            raise RecordsDisagree(table, field, (kind.__name__ for kind in kinds))
    return {field: next(iter(kinds)) for field, kinds in found.items()}


def _declared(kind: type) -> Mapping[str, type]:
    """The scalar types that a class gives its fields."""
    if kind not in _known:
        fields = getattr(kind, "model_fields", {}).items()
        _known[kind] = {field: scalar for field, info in fields if (scalar := scalar_of(info.annotation)) is not None}
    return _known[kind]


_known: WeakKeyDictionary[type, Mapping[str, type]] = WeakKeyDictionary()


def _scalar_of_value(table: str, field: str, value: object) -> type:
    if not isinstance(field, str):
        raise RecordValueRefused(table, str(field), f"has a {type(field).__name__} as its name")
    value = _of_python(value)
    scalar = next((scalar for scalar in SCALARS if isinstance(value, scalar)), None)
    if scalar is None:
        raise RecordValueRefused(table, field, f"holds a {type(value).__name__}, which is no scalar")
    return scalar


def _column(table: str, field: str, kind: type, rows: Sequence[Mapping[str, Any]]) -> pa.Array[Any]:
    values = [_plain(table, field, kind, row.get(field)) for row in rows]
    try:
        return pa.array(values, _ARROW[kind])
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise RecordValueRefused(table, field, f"holds a value that no {kind.__name__} column can: {error}") from error


def _plain(table: str, field: str, kind: type, value: object) -> object:
    """The value as the column keeps it: enums as what they stand for, numbers that are none as NULL, times in UTC."""
    if is_missing(value):
        return None
    if isinstance(value, Enum):
        value = value.value
    value = _of_python(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(table, field, value)
    if kind is bytes and isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecordValueRefused(table, field, f"holds a {type(value).__name__} where a {kind.__name__} belongs")
    if isinstance(value, datetime):
        try:
            return in_utc(value)
        except ValueError as error:
            raise RecordValueRefused(table, field, f"cannot be stored: {error}") from error
    return value


def _of_python(value: object) -> object:
    """A number or boolean of NumPy as Python's own; everything else as it is."""
    if isinstance(value, SCALARS):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return value.item() if kind in _NUMBERS and getattr(value, "shape", None) == () else value  # type: ignore[attr-defined]


def _finite(table: str, field: str, value: float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError as error:
        raise RecordValueRefused(table, field, f"holds a value that no float column can: {error}") from error
