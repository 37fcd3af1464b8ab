"""Routing: the rows of one stream to their partitions, fingerprinted on the way.

Belongs here: cutting batches by their window, summing up hashes, the name of the column that travels for this.
Does not: reading the stream (`postgres`), where the bounds are (`windows`), or writing files (`store`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics_pipeline.store import PartitionedWriter
from analytics_pipeline.sync.fingerprint import Fingerprint
from analytics_pipeline.sync.spec import FingerprintKind

HASHES = {kind: f"__{kind.value}" for kind in FingerprintKind}
"""Names of the columns that travel behind a row's own, one a kind of fingerprint."""

_MOST_RUNS = 8
_EARLIEST = np.iinfo(np.int64).min

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """How rows fall into partitions.

    Args:
        column: index of the incremental column; None where there is one partition only.
        thresholds: bounds of the windows, ascending, in the column's integers.
        keys: the partition below the first bound, between each two, and from the last one on.
    """

    column: int | None
    thresholds: Sequence[int]
    keys: Sequence[str]


class Router:
    """Takes the batches of one half, and knows the fingerprint of each partition it has seen.

    Args:
        writer: gets the rows.
        schema: of the rows in the store; its columns are those of the batches, in order, without `HASHES`.
        cut: which partition a row belongs to.
        kinds: of the hashes that travel behind these columns, in order.
    """

    def __init__(
        self, writer: PartitionedWriter, schema: pa.Schema, cut: Cut, kinds: Sequence[FingerprintKind]
    ) -> None:
        self.rows = 0
        self.fingerprints: dict[str, Fingerprint] = {}
        self._writer = writer
        self._schema = schema
        self._cut = cut
        self._kinds = kinds
        self._thresholds = np.array(cut.thresholds, np.int64)

    def take(self, batch: pa.RecordBatch) -> None:
        """Write a batch's rows to their partitions."""
        if batch.num_rows == 0:
            return
        width = len(self._schema)  # by place: a source may have columns of these names
        hashes = np.stack([_as_int64(batch.column(width + i)) for i in range(len(self._kinds))])
        columns = [batch.column(i) for i in range(width)]
        rows = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        buckets = self._buckets(rows)
        starts = _run_starts(buckets)
        if len(starts) > _MOST_RUNS:
            order = np.argsort(buckets, kind="stable")
            buckets, hashes = buckets[order], hashes[:, order]
            rows = rows.take(order)
            starts = _run_starts(buckets)
        for start, end in _spans(starts, batch.num_rows):
            self._put(self._cut.keys[buckets[start]], hashes[:, start:end], rows.slice(start, end - start))
        self.rows += batch.num_rows

    def fingerprint(self, key: str) -> Fingerprint:
        """Of a partition, also where no row of it arrived."""
        return self.fingerprints.get(key) or Fingerprint.nothing(self._kinds)

    def _buckets(self, rows: pa.RecordBatch) -> Int64s:
        """What width_bucket gives in Postgres: the number of bounds that are not greater. NULL is before all."""
        if self._cut.column is None:
            return np.zeros(rows.num_rows, np.int64)
        values = _as_int64(rows.column(self._cut.column))
        lowest, highest = np.searchsorted(self._thresholds, [values.min(), values.max()], side="right")
        if lowest == highest:
            return np.full(rows.num_rows, lowest, np.int64)
        return np.searchsorted(self._thresholds, values, side="right").astype(np.int64)

    def _put(self, key: str, hashes: Int64s, rows: pa.RecordBatch) -> None:
        seen = self.fingerprint(key)
        sums = hashes.view(np.uint64).sum(axis=1, dtype=np.uint64)
        self.fingerprints[key] = seen.plus(rows.num_rows, dict(zip(self._kinds, map(int, sums), strict=True)))
        self._writer.write(key, rows)


def _as_int64(column: pa.Array[pa.Scalar[pa.DataType]]) -> Int64s:
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    filled: Int64s = column.cast(pa.int64()).fill_null(_EARLIEST).to_numpy(zero_copy_only=False)
    return filled


def _run_starts(buckets: Int64s) -> Sequence[int]:
    return [0, *(np.flatnonzero(buckets[1:] != buckets[:-1]) + 1).tolist()]


def _spans(starts: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    return zip(starts, [*starts[1:], end], strict=True)
