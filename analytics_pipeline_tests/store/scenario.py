"""Rows, tables and commits that the store's tests share."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from analytics_pipeline.store import Change, JoinView, Manifest, Partition, Replace, Stage, Store, TableChange

DAY0 = datetime(2024, 1, 1, tzinfo=UTC)
Row = Mapping[str, object]


def schema_of(**columns: pa.DataType) -> pa.Schema:
    """A schema from names and types."""
    return pa.schema(columns)


FACTS = schema_of(id=pa.int64(), label=pa.string())


def day(number: int) -> tuple[datetime, datetime]:
    """The half-open window of a day."""
    return DAY0 + timedelta(days=number), DAY0 + timedelta(days=number + 1)


def change_of(
    stage: Stage,
    table: str,
    partitions: Mapping[str, Sequence[Row]],
    *,
    schema: pa.Schema = FACTS,
    replace: Replace = Replace.PARTITIONS,
) -> TableChange:
    """Write rows through a stage and describe them; a key `d<n>` is the day n, any other has no window."""
    writer = stage.writer(table, schema)
    for key, rows in partitions.items():
        writer.write(key, pa.RecordBatch.from_pylist(list(rows), schema=schema))
    files = writer.close()
    made = []
    for key in partitions:
        lower, upper = day(int(key[1:])) if key[:1] == "d" and key[1:].isdigit() else (None, None)
        made.append(Partition(key, lower, upper, tuple(files.get(key, ())), None, "spec", "sync", DAY0))
    return TableChange(table, writer.columns, made, replace=replace)


def publish(
    store: Store,
    tables: Mapping[str, Mapping[str, Sequence[Row]]],
    *,
    schema: pa.Schema = FACTS,
    replace: Replace = Replace.PARTITIONS,
    views: Sequence[JoinView] = (),
) -> Manifest:
    """Commit rows: table → partition → rows."""
    with store.stage(f"sync-{store.manifest().version}-{len(tables)}") as stage:
        changes = [
            change_of(stage, name, partitions, schema=schema, replace=replace) for name, partitions in tables.items()
        ]
        return store.commit(stage, Change(changes, views))


def facts(*ids: int, label: str = "x") -> list[Row]:
    """Rows of the FACTS schema."""
    return [{"id": number, "label": label} for number in ids]


def files_on_disk(store: Store) -> set[str]:
    """Paths of all data files, relative to the store's root."""
    return {str(path.relative_to(store.root)) for path in store.layout.tables.rglob("*") if path.is_file()}


def files_listed(store: Store) -> set[str]:
    """Paths that the newest manifest lists."""
    return {file.path for file in store.manifest().live_files}


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder with a digest of its content: what must not change."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


IDS = "SELECT id FROM facts ORDER BY id"


def ids(store: Store) -> list[int]:
    """What a reader finds."""
    return [row[0] for row in store.query(IDS).rows()]


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that runs some Python, with pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
