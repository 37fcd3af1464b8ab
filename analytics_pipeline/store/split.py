"""Splitting: a change replaces some partitions of a shared file, so the rows of the others move to a file of their own.

Belongs here: which runs of which files must move, and the change that says so. Does not: how rows are written
(`rewrite`), how files come to be shared (`compaction`), the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Change, Manifest, Replace, Table, TableChange
from analytics_pipeline.store.partition import DataFile, Partition, uncovered_files
from analytics_pipeline.store.rewrite import Runs, rewrite_runs
from analytics_pipeline.store.stage import Stage


def completed(layout: Layout, stage: Stage, current: Manifest, change: Change) -> Change:
    """The change with the partitions that lose a file to it, their rows written anew into the stage.

    What was written once for a stage is not written again. The new partitions are expected to be those of `current`.

    Raises:
        DataFileMissing, DataFileDamaged: rows that are to move cannot be read.
    """
    tables = [
        _completed(layout, stage, current.tables[table.name], table) if table.name in current.tables else table
        for table in change.tables
    ]
    return replace(change, tables=tables)


def _completed(layout: Layout, stage: Stage, published: Table, change: TableChange) -> TableChange:
    if change.replace is not Replace.PARTITIONS:
        return change
    given = {partition.key: partition for partition in change.partitions}
    moves: dict[DataFile, Runs] = {}
    for runs in uncovered_files({**published.partitions, **given}.values()).values():
        if not any(key in given for key, _ in runs):
            staying = tuple(run for _, run in runs)
            moves |= zip(staying, _moved(layout, stage, change.name, staying), strict=True)
    if not moves:
        return change
    losers = [part for key, part in published.partitions.items() if key not in given and moves.keys() & {*part.files}]
    return replace(
        change,
        partitions=[*change.partitions, *(_with_files(partition, moves) for partition in losers)],
        expected={**change.expected, **{partition.key: partition for partition in losers}},
    )


def _moved(layout: Layout, stage: Stage, table: str, runs: Runs) -> Sequence[Runs]:
    if runs not in stage.moved:
        stage.moved[runs] = rewrite_runs(layout, stage, table, runs, runs[0].columns, name="split")
    return stage.moved[runs]


def _with_files(partition: Partition, moves: dict[DataFile, Runs]) -> Partition:
    return replace(partition, files=tuple(new for old in partition.files for new in moves.get(old, (old,))))
