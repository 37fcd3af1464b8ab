"""Compaction: partitions that are closed move to fewer, larger files; nothing that a query sees changes.

Belongs here: the copy of what is to be merged, its check against the original, the commit.
Does not: which partitions are merged (`merge_plan`), how rows are copied (`rewrite`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb

from analytics_pipeline.errors import CopyDiffers, DataFileDamaged, DataFileMissing, PartitionsMoved
from analytics_pipeline.store.catalog import table_sql
from analytics_pipeline.store.commit import LOCK_TIMEOUT, commit, load_manifest
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Change, Table, TableChange
from analytics_pipeline.store.merge_plan import CompactionRules, Merge, planned_merges
from analytics_pipeline.store.partition import DataFile, Partition
from analytics_pipeline.store.rewrite import rewrite_runs
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.store.stage import Stage, open_stage

_CHECK_MEMORY = "512MB"


@dataclass(frozen=True)
class CompactedTable:
    """What a compaction did to a table.

    Args:
        name: the table.
        partitions: that moved to other files.
        bytes: they had.
        files_before: of the whole table.
        files_after: of the whole table.
        left: why some or all of it was left as it is; None where nothing stood in the way.
    """

    name: str
    partitions: int
    bytes: int
    files_before: int
    files_after: int
    left: str | None = None


def compact(layout: Layout, rules: CompactionRules) -> Sequence[CompactedTable]:
    """Compact every table that needs it; the others are not in the answer.

    No lock is held while rows are copied. Where a refresh replaces a partition meanwhile, its table is left for the
    next time; so is a table with a lost file, and one whose copy is not equal to the original.

    Raises:
        CommitFailed, CommitUnconfirmed, StoreBusy, StoreUnwritable: see `commit`.
    """
    tables = load_manifest(layout).tables.values()
    plans = [(table, planned_merges(table, rules)) for table in tables]
    return [_compacted(layout, table, merges, rules) for table, merges in plans if merges]


def _compacted(layout: Layout, table: Table, merges: Sequence[Merge], rules: CompactionRules) -> CompactedTable:
    before = files = sum(1 for _ in table.files)
    moved = size = 0
    left = None
    try:
        for portion in _portions(merges, rules.commit_bytes):
            files = _commit(layout, table, portion)
            moved += sum(len(merge.partitions) for merge in portion)
            size += sum(merge.bytes for merge in portion)
    except (PartitionsMoved, DataFileMissing, DataFileDamaged, CopyDiffers) as error:
        left = str(error)
    return CompactedTable(table.name, moved, size, before, files, left)


def _portions(merges: Iterable[Merge], size: int) -> Iterator[list[Merge]]:
    """Merges of about so many bytes together: what a refresh may undo, and what the disk must have room for."""
    portion: list[Merge] = []
    for merge in merges:
        if portion and sum(other.bytes for other in portion) + merge.bytes > size:
            yield portion
            portion = []
        portion.append(merge)
    if portion:
        yield portion


def _commit(layout: Layout, table: Table, merges: Sequence[Merge]) -> int:
    """Write and publish some merges; returns the table's number of files."""
    with open_stage(layout, f"compact-{uuid.uuid4().hex}", lock_timeout=LOCK_TIMEOUT) as stage:
        partitions = [partition for merge in merges for partition in _merged(layout, stage, table, merge)]
        expected = {partition.key: partition for merge in merges for partition in merge.partitions}
        change = TableChange(table.name, table.columns, partitions, expected=expected)
        following = commit(layout, stage, Change([change]))
    return sum(1 for _ in following.tables[table.name].files)


def _merged(layout: Layout, stage: Stage, table: Table, merge: Merge) -> Sequence[Partition]:
    runs = [(partition.key, file) for partition in merge.partitions for file in partition.files]
    name = f"{merge.partitions[0].key}-to-{merge.partitions[-1].key}"
    written = rewrite_runs(
        layout, stage, table.name, [run for _, run in runs], table.columns, name=name, files=merge.files
    )
    files: dict[str, list[DataFile]] = {partition.key: [] for partition in merge.partitions}
    for (key, _), new in zip(runs, written, strict=True):
        for run in new:
            _append(files[key], run)
    merged = [replace(partition, files=tuple(files[partition.key])) for partition in merge.partitions]
    _check_equal(layout, stage, table, merge.partitions, merged)
    return merged


def _append(files: list[DataFile], run: DataFile) -> None:
    """Add a run of rows; one that goes on where the last one ends makes that longer."""
    last = files[-1] if files else None
    if last and last.path == run.path:
        rows = last.rows + run.rows
        whole = rows == run.of
        files[-1] = replace(last, rows=rows, of=None if whole else run.of)
    else:
        files.append(run)


def _check_equal(
    layout: Layout, stage: Stage, table: Table, before: Iterable[Partition], after: Iterable[Partition]
) -> None:
    staging = stage.folder.relative_to(layout.root)
    staged = [
        replace(part, files=tuple(replace(f, path=f"{staging}/{f.path.rsplit('/', 1)[-1]}") for f in part.files))
        for part in after
    ]
    with duckdb.connect(config={"memory_limit": _CHECK_MEMORY}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        old, new = (_digest(connection, layout, table, partitions) for partitions in (before, staged))
    if old != new:
        raise CopyDiffers(table.name, f"{old} became {new} (rows, sum of their hashes)")


def _digest(
    connection: duckdb.DuckDBPyConnection, layout: Layout, table: Table, partitions: Iterable[Partition]
) -> tuple[object, ...] | None:
    """Number of rows and a hash in which their order plays no part, as the table's view gives them."""
    part = replace(table, partitions={partition.key: partition for partition in partitions})
    columns = ", ".join(identifier(column.name) for column in table.columns)
    return connection.execute(f"SELECT count(*), sum(hash({columns})) FROM ({table_sql(part, layout)})").fetchone()
