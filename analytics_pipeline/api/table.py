"""Tables as the API asks them: their columns as SQL, and the rows that a request is about.

Belongs here: how a column becomes text, a number or a moment, conditions with bound values.
Does not: which parameters a request has (`parameters`), what is asked of the rows (`questions`).

No name from a request ever gets into SQL: a column is looked up by it, and its published name is quoted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import polars as pl

from analytics_pipeline.store import Column, Manifest, Parameter, Reading
from analytics_pipeline.store.moments import INTEGERS, TICKS, TIMES, moment, why_no_moments
from analytics_pipeline.store.schema import identifier

TIME = "timestamp"
"""The column that filters, trends and the usual order go by."""

_FLOATS = ("FLOAT", "DOUBLE")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - moments of requests are in UTC and carry no zone
_COLUMNS = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $name ORDER BY column_index"


class Ask(Protocol):
    """Runs one SELECT on the version that a request reads."""

    def __call__(self, sql: str, values: Mapping[str, Parameter]) -> pl.DataFrame:
        """The rows of the query."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by name in any case; what is not there is NULL.

    Args:
        columns: of the table.
        epoch: unit of the column `timestamp` where that is an integer; None where it does not count time.
    """

    columns: Sequence[Column]
    epoch: str | None = None

    def find(self, name: str) -> Column | None:
        """The column of a name, if there is one."""
        return self._by_name().get(name.lower())

    def _by_name(self) -> Mapping[str, Column]:
        return {column.name.lower(): column for column in self.columns}

    def text(self, name: str) -> str:
        """SQL of a column as text."""
        column = self.find(name)
        if column is None:
            return "NULL::VARCHAR"
        if column.type == "VARCHAR":
            return identifier(column.name)
        if column.type.startswith("DECIMAL"):
            return f"{identifier(column.name)}::DOUBLE::VARCHAR"  # 1.0, not 1.0000
        return f"{identifier(column.name)}::VARCHAR"

    def number(self, name: str) -> str:
        """SQL of a column as a finite DOUBLE."""
        column = self.find(name)
        return "NULL::DOUBLE" if column is None or not is_number(column) else finite(column)

    def moment(self, name: str) -> str:
        """SQL of a column as a TIMESTAMP in UTC; NULL for infinity, and where the column holds no moments."""
        return moment(self.find(name), self._epoch_of(name)) or "NULL::TIMESTAMP"

    def why_no_moments(self, name: str) -> str | None:
        """The sentence that says why a column gives no moments; None where it does."""
        reason = why_no_moments(name, self.find(name), self._epoch_of(name))
        return reason and f"No steps of time: {reason}."

    def bound(self, name: str, comparison: str, at: datetime) -> Parameter:
        """A moment in UTC as a value that the column can be compared with; None where it holds no moments."""
        column = self.find(name)
        if moment(column, self._epoch_of(name)) is None or column is None:
            return None
        if column.type in TIMES:
            return at.replace(tzinfo=UTC) if column.type == "TIMESTAMP WITH TIME ZONE" else at
        since, tick = at - _EPOCH, timedelta(microseconds=TICKS[str(self.epoch)])
        return -(-since // tick) if comparison == ">=" else since // tick

    def _epoch_of(self, name: str) -> str | None:
        return self.epoch if name.lower() == TIME else None


def is_number(column: Column) -> bool:
    """Whether a column holds numbers, or truth values, which count as 0 and 1."""
    return column.type in {*INTEGERS, *_FLOATS, "BOOLEAN"} or column.type.startswith("DECIMAL")


def finite(column: Column) -> str:
    """SQL of a column of numbers as DOUBLE, NULL for NaN and infinities."""
    name = identifier(column.name)
    return f"CASE WHEN isfinite({name}) THEN {name}::DOUBLE END" if column.type in _FLOATS else f"{name}::DOUBLE"


@dataclass(frozen=True)
class Rows:
    """Some rows of a published table.

    Args:
        table: its name.
        columns: of the table.
        conditions: SQL, all of which hold.
        values: bound to the names in `conditions`.
    """

    table: str
    columns: Columns
    conditions: Sequence[str] = ()
    values: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def sql(self) -> str:
        """The table and its conditions, to stand after FROM."""
        where = " AND ".join(f"({condition})" for condition in self.conditions)
        return identifier(self.table) + (f" WHERE {where}" if where else "")

    def where(self, condition: str) -> Rows:
        """The rows for which a condition without values holds, too."""
        return replace(self, conditions=(*self.conditions, condition))

    def where_values(self, condition: Callable[..., str], *values: Parameter) -> Rows:
        """The rows for which a condition holds, too.

        Args:
            condition: gives SQL from the names to which the values are bound.
            values: to bind.
        """
        names = [f"p{len(self.values) + number}" for number in range(len(values))]
        bound = {**self.values, **dict(zip(names, values, strict=True))}
        return replace(self.where(condition(*(f"${name}" for name in names))), values=bound)

    def equal(self, name: str, value: str | None) -> Rows:
        """The rows with a text in a column; all of them where it is None."""
        return self if value is None else self.where_values(lambda v: f"{self.columns.text(name)} = {v}", value)

    def since(self, name: str, start: datetime | None, end: datetime | None) -> Rows:
        """The rows between two moments in UTC, both included; none where there is no such column."""
        rows, column = self, self.columns.find(name)
        for at, comparison in ((start, ">="), (end, "<=")):
            if at is None:
                continue
            bound = self.columns.bound(name, comparison, at)
            if column is None or bound is None:
                return self.where("false")
            bare = f"{identifier(column.name)} {comparison}"  # not a function of it, so that files are skipped
            rows = rows.where_values(lambda value, bare=bare: f"{bare} {value}", bound)
        return rows


def is_published(manifest: Manifest, table: str) -> bool:
    """Whether a table, or a view of two tables, can be asked."""
    view = manifest.views.get(table)
    return table in manifest.tables or (view is not None and {view.left, view.right} <= manifest.tables.keys())


def published_columns(reading: Reading, table: str, epoch: str | None = None) -> Columns | None:
    """The columns of a table or view; None where it is not published. Those of a view stand in its metadata.

    Args:
        reading: of the version.
        table: its name.
        epoch: as for `Columns`.
    """
    manifest = reading.manifest
    if table in manifest.tables:
        return Columns(manifest.tables[table].columns, epoch)
    if not is_published(manifest, table):
        return None
    kept = manifest.metadata.get(table)
    if kept is not None:
        found: Any = kept.value["columns"]
        return Columns([Column(column["column_name"], column["column_type"]) for column in found], epoch)
    columns = reading.query(_COLUMNS, {"name": table})  # committed without metadata, by an earlier version
    return Columns([Column(*row) for row in columns.iter_rows()], epoch)
