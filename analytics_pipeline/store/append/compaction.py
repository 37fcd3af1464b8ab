"""Compaction: many small files copied into one, so that a query opens few.

Belongs here: which files and older copies are merged, how a copy takes their place. Does not: when it runs (`tables`).

The raw files stay as they are; a copy only stands for them in queries. A copy grows by those no larger than itself,
so that each row is copied about as often as the table doubles.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from datetime import timedelta

from analytics_pipeline.errors import AppendedFileUnreadable
from analytics_pipeline.store.append.index import Index, Proof
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.parquet import merge_files
from analytics_pipeline.store.append.views import listed_sql
from analytics_pipeline.store.digest import problem_of
from analytics_pipeline.store.layout import fsync_path

GRACE = timedelta(hours=1)
"""How long a replaced copy stays, for queries that have begun and catalogs that list it."""


def compact_table(index: Index, layout: AppendLayout, table: str) -> None:
    """Copy the files of a table that are in no copy yet, together with the newest copies that are no larger.

    Raises:
        AppendedFileUnreadable: a file is damaged; nothing is changed.
    """
    files = index.live(table)
    tail = list(files.tail)
    if not tail:
        return
    rows = files.rows - sum(rows for _, _, rows in index.newest_copies(table))
    merged: list[tuple[int, str]] = []
    for number, name, size in index.newest_copies(table):
        if size > rows:
            break
        merged.insert(0, (number, name))
        rows += size
    layout.compacted.mkdir(exist_ok=True)
    target = layout.compacted / f"{table}-{uuid.uuid4().hex[:12]}.pq"
    paths = [layout.compacted / name for _, name in merged] + [layout.folder(table) / name for name in tail]
    try:
        _refuse_damage(index, layout, table, [name for _, name in merged], tail)
        written = merge_files(listed_sql(files.columns, paths), target)
        proof = Proof.of(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    fsync_path(layout.compacted)
    with index.transaction():
        replaced = [number for number, _ in merged]
        index.add_copy(table, target.name, written, proof=proof, tail=tail, merged=replaced, now=time.time())


def _refuse_damage(index: Index, layout: AppendLayout, table: str, copies: Iterable[str], tail: Iterable[str]) -> None:
    """Compare each file with its digest before it is copied: the copy would pass for what was written."""
    for path in [*(layout.compacted / name for name in copies), *(layout.folder(table) / name for name in tail)]:
        proof = index.proof_of(table, path.name)
        problem = None if proof is None else problem_of(path, proof.bytes, proof.digest)
        if problem is not None:
            raise AppendedFileUnreadable(str(path), problem)


def remove_retired(index: Index, layout: AppendLayout, grace: timedelta = GRACE) -> None:
    """Remove the copies whose grace has passed, and those of its age that no index knows."""
    if not layout.compacted.is_dir() or index.unpublished() is not None:  # the catalog may still list them
        return
    limit = time.time() - grace.total_seconds()
    with index.transaction():
        listed = index.listed_copies(limit)
    for path in layout.compacted.iterdir():
        if path.name not in listed and path.stat().st_mtime <= limit:  # a catalog may list what a lost index knew
            path.unlink(missing_ok=True)
