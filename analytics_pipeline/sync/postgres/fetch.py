"""Fetch: one connection's batches, by either driver, in the store's Arrow types.

Belongs here: running one SELECT, decoding, casting the columns whose wire type differs, cancelling from outside.
Does not: choosing a driver or falling back (`readers`), waiting for a consumer (`pump`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions

from analytics_pipeline.sync.postgres.failures import DRIVER_ERRORS
from analytics_pipeline.sync.postgres.snapshot import Snapshot
from analytics_pipeline.sync.postgres.types import ColumnRule

_Array: TypeAlias = "pa.Array[pa.Scalar[pa.DataType]]"
_BATCH_BYTES = 1 << 20  # larger ones cost page faults and memory, and are no faster
_CANCEL_SECONDS = 5.0


class _Cancellable:
    """Keeps a connection from being closed while another thread cancels it: the driver would use freed memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], None] | None = None

    def cancel(self) -> None:
        with self._lock:
            if self._cancel is not None:
                # The query may have ended, the connection be lost: whoever cancels has no use for either news.
                with suppress(*DRIVER_ERRORS):
                    self._cancel()

    @contextmanager
    def while_open(self, cancel: Callable[[], None]) -> Iterator[None]:
        self._cancel = cancel
        try:
            yield
        finally:
            with self._lock:
                self._cancel = None


class AdbcReader:
    """The rows of one SELECT by ADBC: COPY in binary, decoded in C without the GIL."""

    def __init__(self, snapshot: Snapshot, sql: str, rules: Sequence[ColumnRule]) -> None:
        self._snapshot, self._sql, self._rules = snapshot, sql, rules
        self._cancellable = _Cancellable()

    def cancel(self) -> None:
        """See `pump.Reader`."""
        self._cancellable.cancel()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        pool = self._snapshot.pool
        with (
            pool.cancellable(self.cancel),
            self._snapshot.stream() as connection,
            self._cancellable.while_open(connection.adbc_cancel),
            connection.cursor() as cursor,
        ):
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(_BATCH_BYTES)})
            cursor.execute(self._sql)
            for batch in _batches(cursor):
                yield _stored(batch.columns, self._rules)


class CursorReader:
    """The same by psycopg, `batch_rows` at a time from a server-side cursor."""

    def __init__(self, snapshot: Snapshot, sql: str, rules: Sequence[ColumnRule], batch_rows: int) -> None:
        self._snapshot, self._sql, self._rules, self._batch_rows = snapshot, sql, rules, batch_rows
        self._cancellable = _Cancellable()

    def cancel(self) -> None:
        """See `pump.Reader`."""
        self._cancellable.cancel()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with self._snapshot.session() as connection:
            cancel = lambda: connection.cancel_safe(timeout=_CANCEL_SECONDS)  # noqa: E731 - bound to this connection
            cursor = connection.cursor("analytics_pipeline", binary=True)
            try:
                with self._cancellable.while_open(cancel):
                    cursor.execute(self._sql.encode())
                    while rows := cursor.fetchmany(self._batch_rows):
                        arrays = [
                            pa.array(values, rule.cursor_wire_type)
                            for rule, values in zip(self._rules, zip(*rows, strict=True), strict=True)
                        ]
                        yield _stored(arrays, self._rules)
            except BaseException:
                connection.close()  # first: closing the cursor alone would send CLOSE, and wait for the answer
                raise
            finally:
                cursor.close()


def _batches(cursor: adbc.Cursor) -> Iterator[pa.RecordBatch]:
    """The driver manager's own reader: the public fetch_record_batch() loses the SQLSTATE of errors in mid-stream."""
    results = getattr(cursor, "_results", None)
    reader = getattr(results, "reader", None)
    yield from cursor.fetch_record_batch() if reader is None else reader


def _stored(arrays: Sequence[_Array], rules: Sequence[ColumnRule]) -> pa.RecordBatch:
    """A batch in the store's types; most columns have them already."""
    columns = [_cast(array, rule.arrow_type) for array, rule in zip(arrays, rules, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([(r.name, r.arrow_type) for r in rules]))


def _cast(array: _Array, wanted: pa.DataType) -> _Array:
    plain = array.storage if isinstance(array, pa.ExtensionArray) else array
    return plain if plain.type == wanted else plain.cast(wanted)
