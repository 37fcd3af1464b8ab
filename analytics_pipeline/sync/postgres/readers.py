"""Readers: the rows of one query as Arrow batches in the store's types, by the fastest tier that works.

Belongs here: the three tiers, when to fall back to a slower one, telling about it.
Does not: threads and the watchdog (`pump`), types (`types`), retrying.

parallel ranges: several ADBC connections of one snapshot; single stream: one; chunked cursor: a psycopg server-side
cursor, for poolers and servers with which ADBC fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import psycopg
import pyarrow as pa

from analytics_pipeline.errors import SourceBusy, SourceError, SourceReadFailed, SourceStalled
from analytics_pipeline.sync.postgres.failures import DRIVER_ERRORS, source_error
from analytics_pipeline.sync.postgres.fetch import AdbcReader, CursorReader
from analytics_pipeline.sync.postgres.pump import Pump, Reader, Stalled, within
from analytics_pipeline.sync.postgres.ranges import split
from analytics_pipeline.sync.postgres.snapshot import Snapshot
from analytics_pipeline.sync.postgres.sql import quote_identifier, subselect
from analytics_pipeline.sync.postgres.types import ColumnRule

_GRACE_AFTER_STALL = 2.0


class Tier(StrEnum):
    """How rows are read, fastest first."""

    PARALLEL = "parallel ranges"
    STREAM = "single stream"
    CURSOR = "chunked cursor"


@dataclass(frozen=True)
class ReadRequest:
    """What to read.

    Args:
        query: the user's, unwrapped.
        rules: the output columns; a partition key or a row hash is just one more.
        where: predicate over q, the wrapped query.
        partition_column: of the query, to split the read by.
        workers: connections at most; parallel needs two and a partition column.
        batch_rows: rows per fetch of the chunked cursor; the other tiers' batches are bounded by bytes.
        stall_timeout: seconds without a further batch after which the read is given up.
        patience: the same before the first batch, which the query may have to work for.
        tier: this one and no other.
    """

    query: str
    rules: Sequence[ColumnRule]
    where: str | None = None
    partition_column: str | None = None
    workers: int = 1
    batch_rows: int = 10_000
    stall_timeout: float = 300.0
    patience: float = 300.0
    tier: Tier | None = None

    @property
    def schema(self) -> pa.Schema:
        """Of every batch."""
        return pa.schema([pa.field(rule.name, rule.arrow_type) for rule in self.rules])

    def sql(self, tier: Tier, predicate: str | None = None) -> str:
        """The SELECT of a tier, restricted further by a range's predicate."""
        cursor = tier is Tier.CURSOR
        expressions = [rule.cursor_expression if cursor else rule.expression for rule in self.rules]
        names = [quote_identifier(rule.name) for rule in self.rules]
        selected = ", ".join(f"{sql} AS {name}" for sql, name in zip(expressions, names, strict=True))
        conditions = [f"({part})" for part in (self.where, predicate) if part]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {selected} FROM {subselect(self.query)}{where}"


class RowStream:
    """Batches as they arrive; iterate once."""

    def __init__(self, request: ReadRequest, snapshot: Snapshot, tier: Tier, pump: Pump) -> None:
        self.tier = tier
        self.schema = request.schema
        self._request, self._snapshot, self._pump = request, snapshot, pump
        # Waiting for the first batch here is what allows to fall back: nothing was delivered yet.
        self._next = self._take()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while self._next is not None:
            batch, self._next = self._next, None
            yield batch
            self._next = self._take()

    def close(self) -> None:
        """Cancel what still runs and let the connections go; harmless when all was read."""
        self._next = None
        self._pump.close()

    def _take(self) -> pa.RecordBatch | None:
        try:
            return self._pump.get()
        except Stalled:
            self._pump.close(min(_GRACE_AFTER_STALL, self._request.stall_timeout))
            raise SourceStalled(str(self._snapshot.source), self._pump.patience) from None
        except DRIVER_ERRORS as error:
            raise source_error(error, self._snapshot.url) from None


@contextmanager
def stream(snapshot: Snapshot, request: ReadRequest, *, on_notice: Callable[[str], None]) -> Iterator[RowStream]:
    """Read a request inside a snapshot; leaving the block early cancels the query.

    Args:
        snapshot: to read in.
        request: what to read.
        on_notice: told each fallback to a slower tier and its reason.

    Raises:
        SourceError: a subclass that names the reason; also while iterating. Rows delivered before are not all rows.
    """
    rows = _open(snapshot, request, on_notice)
    try:
        yield rows
    finally:
        rows.close()


def _open(snapshot: Snapshot, request: ReadRequest, on_notice: Callable[[str], None]) -> RowStream:
    tiers = _tiers(request)
    for tier, slower in zip(tiers, (*tiers[1:], None), strict=True):
        try:
            return _start(snapshot, request, tier)
        except SourceError as error:
            if slower is None or not _curable(error, tier):
                raise
            on_notice(f"Reading by {tier} failed, going on by {slower}. {error}")
    raise AssertionError("the last tier returns or raises")


def _tiers(request: ReadRequest) -> tuple[Tier, ...]:
    if request.tier is not None:
        return (request.tier,)
    if request.workers > 1 and request.partition_column is not None:
        return (Tier.PARALLEL, Tier.STREAM, Tier.CURSOR)
    return (Tier.STREAM, Tier.CURSOR)


def _curable(error: SourceError, tier: Tier) -> bool:
    """Whether a slower tier may do: the driver's failings, or too many connections, never a wrong query."""
    return isinstance(error, SourceReadFailed) or (tier is Tier.PARALLEL and isinstance(error, SourceBusy))


def _start(snapshot: Snapshot, request: ReadRequest, tier: Tier) -> RowStream:
    pump = Pump(_readers(snapshot, request, tier), request.patience, request.stall_timeout)
    try:
        return RowStream(request, snapshot, tier, pump)
    except BaseException:
        pump.close()
        raise


def _readers(snapshot: Snapshot, request: ReadRequest, tier: Tier) -> list[Reader]:
    if tier is Tier.CURSOR:
        return [CursorReader(snapshot, request.sql(tier), request.rules, request.batch_rows)]
    predicates = _predicates(snapshot, request) if tier is Tier.PARALLEL else [None]
    return [AdbcReader(snapshot, request.sql(tier, predicate), request.rules) for predicate in predicates]


def _predicates(snapshot: Snapshot, request: ReadRequest) -> Sequence[str | None]:
    """One predicate a range.

    Raises:
        SourceReadFailed: there is nothing to split by; a single stream does.
    """
    name, source = request.partition_column, str(snapshot.source)
    if name is None or request.workers < 2:  # noqa: PLR2004 - one range is no split
        raise SourceReadFailed(source, "parallel ranges need a partition column and two workers")
    try:
        predicates = within(request.patience, lambda: _split(snapshot, request, name), lambda _: None)
    except Stalled:
        raise SourceStalled(source, request.patience) from None
    except psycopg.errors.UndefinedFunction:
        raise SourceReadFailed(source, f"the type of {name} has no order to split by") from None
    except DRIVER_ERRORS as error:
        raise source_error(error, snapshot.url) from None
    if not predicates:
        raise SourceReadFailed(source, f"{name} has no values to split by")
    return predicates


def _split(snapshot: Snapshot, request: ReadRequest, name: str) -> list[str]:
    with snapshot.session() as connection, connection.transaction():  # so that a refusal leaves the session usable
        return split(connection, request.query, name, request.workers, request.where)
