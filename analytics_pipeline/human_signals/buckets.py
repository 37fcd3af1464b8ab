"""Buckets: the partitions of the derived tables, cut by a hash of the case, so that a changed case rewrites little.

Belongs here: how many buckets, reading and writing them. Does not: what is in them (`derivation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa

from analytics_pipeline.human_signals.source import CHANGED
from analytics_pipeline.store import DataFile, Partition, Preview, Replace, Stage, Table, TableChange
from analytics_pipeline.store.preview import PART
from analytics_pipeline.store.schema import identifier

BUCKET = "|bucket"
MOST_BUCKETS = 64
CASES_OF_A_BUCKET = 1_000
_TOO_MANY = 4
"""Times as many cases as a bucket should have, from which on there are to be more buckets."""
_ROWS_AT_ONCE = 2_000_000


def buckets_for(cases: int) -> int:
    """How many buckets a number of cases is cut into."""
    buckets = 1
    while buckets < MOST_BUCKETS and buckets * CASES_OF_A_BUCKET < cases:
        buckets *= 2
    return buckets


def is_outgrown(buckets: int, cases: int) -> bool:
    """Whether so many cases need so many more buckets that all are to be written anew."""
    return buckets_for(cases) >= buckets * _TOO_MANY


def key_of(bucket: int) -> str:
    """The partition of a bucket."""
    return f"b{bucket:02d}"


def groups_of(buckets: Sequence[int], rows: int) -> Iterator[Sequence[int]]:
    """Buckets in groups that are worked on at once, so that memory has a bound.

    Args:
        buckets: some or all.
        rows: that they have together, about.
    """
    size = max(1, len(buckets) * _ROWS_AT_ONCE // max(rows, 1))
    return (buckets[first : first + size] for first in range(0, len(buckets), size))


def unchanged_rows(preview: Preview, table: Table, key: str, buckets: Sequence[int]) -> pl.DataFrame:
    """The published rows of some buckets, without those of cases that have changed; with their `BUCKET`.

    Args:
        preview: that knows which cases have changed.
        table: published.
        key: its column of the case.
        buckets: of the table.
    """
    kept = f"({preview.partitions_sql(table, {bucket: [key_of(bucket)] for bucket in buckets})})"
    return preview.frame(
        f"SELECT * EXCLUDE {identifier(PART)}, {identifier(PART)} AS {identifier(BUCKET)} "
        f"FROM {kept} AS kept ANTI JOIN {CHANGED} AS changed ON kept.{identifier(key)} = changed.id"
    )


@dataclass(frozen=True)
class BucketWriting:
    """How buckets are written.

    Args:
        stage: takes the files.
        sync_id: of the commit.
        rules: version of the rules by which rows were made.
    """

    stage: Stage
    sync_id: str
    rules: str

    def table(self, name: str, frames: Iterable[pl.DataFrame], buckets: Sequence[int], replace: Replace) -> TableChange:
        """Write buckets, and say what becomes of their table.

        Args:
            name: of the table.
            frames: rows with their `BUCKET`, at least one frame, all of the same columns.
            buckets: all that are written; some may be empty.
            replace: what becomes of the others.
        """
        writer = None
        try:
            for frame in frames:
                writer = writer or self.stage.writer(name, _rows_of(frame.head(0)).schema)
                for (bucket,), rows in frame.partition_by(BUCKET, as_dict=True).items():
                    for batch in _rows_of(rows).to_batches():
                        writer.write(key_of(bucket), batch)
            assert writer is not None, "a table has columns, even without rows"
            files = writer.close()
        except BaseException:
            if writer is not None:
                with suppress(OSError):  # the disk may be full
                    writer.abandon()
            raise
        made = [self._partition(key_of(bucket), files.get(key_of(bucket), ())) for bucket in buckets]
        return TableChange(name, writer.columns, made, replace)

    def _partition(self, key: str, files: Sequence[DataFile]) -> Partition:
        return Partition(
            key=key,
            lower=None,
            upper=None,
            files=tuple(files),
            fingerprint=None,
            spec_hash=self.rules,
            sync_id=self.sync_id,
            synced_at=datetime.now(UTC),
        )


def _rows_of(frame: pl.DataFrame) -> pa.Table:
    return frame.drop(BUCKET).to_arrow()
