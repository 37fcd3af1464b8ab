"""Paging: the rows of a page of any table in any order, the last page about as fast as the first.

Belongs here: finding where a page lies by counting, so that few rows are read and sorted whole.
Does not: the order and its buckets (`order`), what a row looks like (`pages`, `insights`).

Sorting 3M wide rows for 50 of them takes seconds. So rows are counted by coarse buckets of the first key (hours,
prefixes, steps of numbers), which reads one narrow column and can be kept for the next page; buckets that are still
large are counted by finer ones; and only the rows of the buckets that the page touches are read and sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from analytics_pipeline.api.parameters import SortDirection
from analytics_pipeline.api.questions.order import EVERYTHING, HOUR, Bucket, Order
from analytics_pipeline.api.table import Ask, Rows
from analytics_pipeline.store import Column
from analytics_pipeline.store.schema import identifier

FEW = 20_000
"""Rows that are sorted whole without another count."""

_RECORDS = """
WITH numbered AS MATERIALIZED (
    SELECT {key} AS record, row_number() OVER (ORDER BY {order}) AS place FROM {rows}
), page AS (
    SELECT DISTINCT record FROM numbered WHERE place > {first} AND place <= {last}
)
SELECT record, (SELECT count(*) FROM numbered WHERE place <= {first} AND record IN (SELECT record FROM page)) AS before
FROM page
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counted(NamedTuple):
    """A bucket and its rows."""

    value: Any
    rows: int


Count: TypeAlias = Callable[[Rows, Bucket], Sequence[Counted]]
"""Counts the rows of each bucket, in the bucket's order."""


def count_with(ask: Ask) -> Count:
    """How buckets are counted."""

    def count(rows: Rows, bucket: Bucket) -> Sequence[Counted]:
        order = f"1 {bucket.direction} NULLS LAST"
        sql = f"SELECT {bucket.sql} AS bucket, count(*) AS rows FROM {rows.sql} GROUP BY 1 ORDER BY {order}"
        return [Counted(*row) for row in ask(sql, rows.values).iter_rows()]

    return count


class Span(NamedTuple):
    """The rows of an order from `offset` on, at most `limit` of them."""

    offset: int
    limit: int


def span_of(page: int, size: int) -> Span:
    """The rows of a page; the first one is 1."""
    return Span((page - 1) * size, size)


@dataclass(frozen=True)
class Piece:
    """A part of a page: a span of the rows that conditions leave.

    Args:
        rows: those rows.
        span: of them.
        size: how many they are, where buckets cut them out of more; None where nothing did.
    """

    rows: Rows
    span: Span
    size: int | None = None

    def of_its_records(self, ask: Ask, record: Column, order: str) -> Piece:
        """The same part, among the rows of the few records that it touches.

        Of other records nothing needs to be read then, while sorting wide rows means to read all of them first.
        """
        first, last = self.span.offset, sum(self.span)
        key = identifier(record.name)
        sql = _RECORDS.format(key=key, order=order, rows=self.rows.sql, first=first, last=last)
        found = ask(sql, self.rows.values)
        keys = found["record"].to_list()
        if not keys or None in keys:
            return self
        rows = self.rows.where_values(lambda *values: f"{key} IN ({', '.join(values)})", *keys)
        return Piece(rows, Span(found["before"][0], self.span.limit))


@dataclass(frozen=True)
class Place:
    """Where a page lies.

    Args:
        total: rows of all pages.
        pieces: of the page, in order.
    """

    total: int
    pieces: Sequence[Piece]

    def read(self, ask: Ask, order: Order, select: str) -> list[dict[str, Any]]:
        """The rows of the page.

        Args:
            ask: for the rows.
            order: by which the page was found.
            select: what to show of a row, as it stands after SELECT.
        """
        found: list[dict[str, Any]] = []
        for piece in self.pieces:
            few = piece
            if piece.size is not None and piece.size <= FEW and order.record is not None:
                few = piece.of_its_records(ask, order.record, order.roughly)
            offset, limit = few.span
            sorted_rows = f"SELECT * FROM {few.rows.sql} ORDER BY {order.sql} LIMIT {limit} OFFSET {offset}"
            found += ask(f"SELECT {select} FROM ({sorted_rows})", few.rows.values).to_dicts()
        return found


def find_page(count: Count, rows: Rows, order: Order, span: Span) -> Place:
    """Where a span of an order lies."""
    if not order.buckets:
        total = sum(bucket.rows for bucket in count(rows, EVERYTHING))
        return Place(total, [Piece(rows, span)] if span.offset < total else [])
    counted = count(rows, order.buckets[0])
    total = sum(bucket.rows for bucket in counted)
    if total <= FEW:
        return Place(total, [Piece(rows, span)] if span.offset < total else [])
    return Place(total, list(_pieces(count, rows, order.buckets, span)))


def _pieces(count: Count, rows: Rows, buckets: Sequence[Bucket], span: Span) -> Iterator[Piece]:
    bucket, finer = buckets[0], buckets[1:]
    passed = 0
    for run in _runs(count(rows, bucket)):
        size = sum(member.rows for member in run)
        first, last = max(span.offset - passed, 0), min(span.offset + span.limit - passed, size)
        passed += size
        if first >= last:
            continue
        members, part = _within(rows, bucket, run), Span(first, last - first)
        if size > FEW and finer:
            yield from _pieces(count, members, finer, part)
        else:
            yield Piece(members, part, size)


def _runs(counted: Sequence[Counted]) -> Iterator[Sequence[Counted]]:
    """Neighbouring buckets that are few rows together; NULL stands alone."""
    run: list[Counted] = []
    size = 0
    for member in counted:
        if run and (member.value is None or size + member.rows > FEW):
            yield run
            run, size = [], 0
        run.append(member)
        size += member.rows
    if run:
        yield run


def _within(rows: Rows, bucket: Bucket, run: Sequence[Counted]) -> Rows:
    first, last = run[0].value, run[-1].value
    if first is None:
        return rows.where(f"{bucket.sql} IS NULL")
    low, high = (first, last) if bucket.direction is SortDirection.ASC else (last, first)
    if bucket.hours_of is not None:
        rows = _between_hours(rows, bucket.hours_of.name, low, high)
    if low == high:
        return rows.where_values(lambda value: f"{bucket.sql} = {value}", low)
    return rows.where_values(lambda *ends: f"{bucket.sql} BETWEEN {ends[0]} AND {ends[1]}", low, high)


def _between_hours(rows: Rows, name: str, low: int, high: int) -> Rows:
    """Says of the column itself what the buckets say, so that files are skipped; no word of what is out of range."""
    try:
        start, end = (_EPOCH + timedelta(microseconds=hour * HOUR) for hour in (low - 1, high + 1))
    except OverflowError:
        return rows
    return rows.since(name, start.replace(tzinfo=None), end.replace(tzinfo=None))
