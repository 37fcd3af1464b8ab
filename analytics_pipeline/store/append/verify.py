"""Verification of append-only tables: their index, their files, and the copies of these.

Belongs here: comparing them with what was recorded when they were written. Does not: the published store
(`store.verify`), or what rows mean.

A damaged file is moved to the folder `.damaged`: queries name it from then on, until its rows are written again.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from os import cpu_count
from pathlib import Path

from analytics_pipeline.store.append.index import Index, Proof
from analytics_pipeline.store.append.index_file import read_index
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.tables import AppendTables
from analytics_pipeline.store.append.views import ways_out
from analytics_pipeline.store.digest import problem_of
from analytics_pipeline.store.verify import Damage, Verified
from analytics_pipeline.waiting import at_once

_REBUILT = "It was made again from the files. Whether files were lost or altered before cannot be known any more."
_COPY = "It is made again from the files of its table."

Name = tuple[str, str]


def verify_tables(tables: AppendTables) -> Verified:
    """Read every file of some append-only tables and compare it with the index.

    Raises:
        StoreReadDenied: this user may not read a file.
        AppendedFileUnreadable: another program added a damaged file.
    """
    layout = tables.layout
    if not layout.root.is_dir():
        return Verified()
    damages = list(_damaged_index(tables))
    proofs = tables.proofs()
    tasks = [partial(_problem, layout, name, proof) for name, proof in proofs.items()]
    found = at_once(tasks, cpu_count() or 1, "verify")
    problems = {name: problem for name, problem in zip(proofs, found, strict=True) if problem is not None}
    current = tables.proofs()  # a copy may have been replaced meanwhile
    for name, problem in problems.items():
        if name in current:
            _set_aside(layout, _path(layout, name))
            if _is_copy(name):
                damages.append(Damage(_path(layout, name), problem, _COPY, name[0]))
    tables.publish()
    if tables.index_differs():
        tables.rebuild_index()
        damages.append(Damage(layout.index, "says other things of the files than they hold", _REBUILT))
    damages += _lost(tables, problems)
    unproven = sum(proof is None for proof in proofs.values())
    return Verified(damages, len(proofs) - unproven, unproven)


def _lost(tables: AppendTables, problems: Mapping[Name, str]) -> Iterator[Damage]:
    for table, files in tables.snapshot().items():
        for name in files.lost:
            problem = problems.get((table, name), "is missing")
            yield Damage(tables.layout.folder(table) / name, problem, ways_out(tables.layout, table), table)


def _damaged_index(tables: AppendTables) -> Iterator[Damage]:
    """What is wrong with the index, which is then made again from the files."""
    layout = tables.layout
    if not any(True for table in layout.table_folders() for _ in layout.parquet_files(table)):
        return
    problem = _index_problem(layout.index)
    if problem is None:
        for name in sorted(read_index(layout.index, Index.copies) - layout.copies()):
            yield Damage(layout.compacted / name, "is missing", _COPY)
        with suppress(ValueError):
            tables.proofs()
            return
        problem = "its record of a file is damaged"
    tables.rebuild_index()
    yield Damage(layout.index, problem, _REBUILT)


def _index_problem(path: Path) -> str | None:
    if not path.exists():
        return "is missing"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            Index(connection).live_tables()
    except sqlite3.DatabaseError as error:
        return f"cannot be read ({error})"
    return None if found == "ok" else f"is damaged ({found})"


def _problem(layout: AppendLayout, name: Name, proof: Proof | None) -> str | None:
    path = _path(layout, name)
    if proof is None:
        return None if path.exists() else "is missing"
    return problem_of(path, proof.bytes, proof.digest)


def _path(layout: AppendLayout, name: Name) -> Path:
    return (layout.compacted if _is_copy(name) else layout.folder(name[0])) / name[1]


def _is_copy(name: Name) -> bool:
    return name[1].endswith(".pq")


def _set_aside(layout: AppendLayout, path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        layout.damaged.mkdir(exist_ok=True)
        path.rename(layout.damaged / f"{path.name}.{uuid.uuid4().hex[:8]}")
