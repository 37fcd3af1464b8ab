"""Order: the total order of a table's rows, and how it is cut into buckets that can be counted cheaply.

Belongs here: the sort keys of a request, each key's buckets as SQL. Does not: finding a page by them (`paging`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analytics_pipeline.api.parameters import SortDirection
from analytics_pipeline.api.table import TIME, Columns, finite, is_number
from analytics_pipeline.store import Column
from analytics_pipeline.store.moments import INTEGERS, TIMES, microseconds
from analytics_pipeline.store.schema import identifier

RECORD = "dataset_id"
KEYS = (RECORD, "Case_ID", "metric_name", "evaluation_name")
"""Columns that tell most rows of one moment apart."""

HOUR = 3_600_000_000
"""Microseconds of a bucket of time."""

_PREFIX = 3


@dataclass(frozen=True)
class Bucket:
    """An expression that never falls where its column rises; its values cut the rows into runs of the order.

    Args:
        sql: gives the bucket of a row; NULL comes last in either direction.
        direction: of the order.
        hours_of: the column of times of which the bucket is the hour since 1970.
    """

    sql: str
    direction: SortDirection
    hours_of: Column | None = None

    @property
    def order(self) -> str:
        """As it stands after ORDER BY."""
        return f"{self.sql} {self.direction} NULLS LAST"


EVERYTHING = Bucket("0", SortDirection.ASC)
"""The one bucket of rows that cannot be told apart cheaply."""


@dataclass(frozen=True)
class Order:
    """A total order: rows that are equal in it are equal in every column.

    Args:
        buckets: coarse ones before finer ones; whatever follows one of them compares rows that are equal in it, or
            that it only orders roughly.
        sql: all of the order, as it stands after ORDER BY.
        roughly: the same without what only tells rows apart that are equal in every key.
        record: the key by which rows are joined with their record, if rows are ordered by it.
    """

    buckets: Sequence[Bucket]
    sql: str
    roughly: str
    record: Column | None


def total_order(columns: Columns, sort_by: str | None, direction: SortDirection) -> Order:
    """The order by one column, then by time, then by whatever tells rows apart.

    Args:
        columns: of the table.
        sort_by: the first key; an unknown column, or None, stands for the time, or the key where there is no time.
        direction: of the first key.
    """
    chosen = columns.find(sort_by) if sort_by else None
    usual = [column for name in (TIME, *KEYS) if (column := columns.find(name)) is not None]
    keys = list(dict.fromkeys([*([chosen] if chosen else []), *usual])) or list(columns.columns[:1])
    directed = [(keys[0], direction)]
    for column in keys[1:]:
        is_time = column.name.lower() == TIME
        directed.append((column, SortDirection.DESC if is_time else SortDirection.ASC))
    ordered = [bucket for column, way in directed for bucket in _buckets(column, way)]
    roughly = ", ".join(bucket.order for bucket in ordered)
    ties = ", ".join(identifier(column.name) for column in columns.columns)
    record = columns.find(RECORD)
    is_plain = record is not None and (record.type == "VARCHAR" or record.type in INTEGERS)
    return Order(list(_countable(directed)), f"{roughly}, {ties}", roughly, record if is_plain else None)


def _countable(directed: Sequence[tuple[Column, SortDirection]]) -> Iterator[Bucket]:
    """The buckets up to the first column whose values cannot be told apart cheaply."""
    for column, way in directed:
        if column.type != "VARCHAR" and column.type not in TIMES and not is_number(column):
            return
        yield from _buckets(column, way)


def _buckets(column: Column, direction: SortDirection) -> Sequence[Bucket]:
    name = identifier(column.name)
    if column.type in TIMES:
        moment = microseconds(column)
        return [Bucket(f"{moment} // {HOUR}", direction, column), Bucket(moment, direction)]
    if is_number(column):
        # Steps of a quarter of a percent, finer below 1: some thousand for whatever numbers there are.
        coarse = Bucket(f"floor(asinh({finite(column)}) * 400)", direction)
        return [coarse, Bucket(finite(column) if column.type in {"FLOAT", "DOUBLE"} else name, direction)]
    if column.type == "VARCHAR":
        return [Bucket(f"left({name}, {_PREFIX})", direction), Bucket(name, direction)]
    return [Bucket(name, direction)]
