"""Routing: the rows of one stream to their partitions, fingerprinted on the way.

Belongs here: cutting batches by their window, summing up hashes, the names of the columns that travel for this.
Does not: reading the stream (`postgres`), or writing files (`store`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics_pipeline.store import PartitionedWriter
from analytics_pipeline.sync.fingerprint import Fingerprint

BUCKET = "__bucket"
HASH = "__hash"

_MOST_RUNS = 8
_NO_BUCKET = np.iinfo(np.int64).min

Int64s = npt.NDArray[np.int64]


class Router:
    """Takes the batches of one half, and knows the fingerprint of each partition it has seen.

    Args:
        writer: gets the rows.
        schema: of the rows in the store; its columns are those of the batches, in order, without `BUCKET` and `HASH`.
        key_of: the partition of a bucket as the stream gives it; None is a row without one.
    """

    def __init__(self, writer: PartitionedWriter, schema: pa.Schema, key_of: Callable[[int | None], str]) -> None:
        self.rows = 0
        self.fingerprints: dict[str, Fingerprint] = {}
        self._writer = writer
        self._schema = schema
        self._key_of = key_of

    def take(self, batch: pa.RecordBatch) -> None:
        """Write a batch's rows to their partitions."""
        buckets = _as_int64(batch.column(BUCKET))
        hashes = _as_int64(batch.column(HASH))
        columns = [batch.column(i) for i in range(len(self._schema))]
        rows = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        starts = _run_starts(buckets)
        if len(starts) > _MOST_RUNS:
            order = np.argsort(buckets, kind="stable")
            buckets, hashes = buckets[order], hashes[order]
            rows = rows.take(order)
            starts = _run_starts(buckets)
        for start, end in _spans(starts, len(buckets)):
            self._put(int(buckets[start]), hashes[start:end], rows.slice(start, end - start))
        self.rows += batch.num_rows

    def _put(self, bucket: int, hashes: Int64s, rows: pa.RecordBatch) -> None:
        key = self._key_of(None if bucket == _NO_BUCKET else bucket)
        seen = self.fingerprints.get(key, Fingerprint())
        self.fingerprints[key] = seen.plus(len(hashes), int(hashes.view(np.uint64).sum(dtype=np.uint64)))
        self._writer.write(key, rows)


def _as_int64(column: pa.Array[pa.Int64Scalar]) -> Int64s:
    filled: Int64s = column.fill_null(_NO_BUCKET).to_numpy(zero_copy_only=False)
    return filled


def _run_starts(values: Int64s) -> Sequence[int]:
    return [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()] if len(values) else []


def _spans(starts: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    return zip(starts, [*starts[1:], end], strict=True)
