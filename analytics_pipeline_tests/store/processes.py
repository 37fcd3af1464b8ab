"""Processes of the store's tests: writers and readers that may be killed, and one that dies at a chosen step.

They come from a fork server that has everything imported, so that a killed one is replaced at once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb

from analytics_pipeline.store import Change, Store, catalog, create_store, open_store
from analytics_pipeline_tests.store.scenario import change_of, facts

ROWS = 40
PAIR_SQL = """
SELECT coalesce(d.part, r.part), d.rows, d.versions, d.version, r.rows, r.versions, r.version
FROM (SELECT id % 10 AS part, count(*) AS rows, count(DISTINCT label) AS versions, max(label::INT) AS version
      FROM {prefix}dataset GROUP BY 1) AS d
FULL JOIN (SELECT id % 10 AS part, count(*) AS rows, count(DISTINCT label) AS versions, max(label::INT) AS version
           FROM {prefix}results GROUP BY 1) AS r ON d.part = r.part
ORDER BY 1
"""
"""Per writer what both tables of the pair hold of it: a mixed state shows as a row whose halves differ."""


def context() -> ForkServerContext:
    """The fork server, with the store imported."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    return server


def start(target: Callable[..., None], *args: object) -> ForkServerProcess:
    """A process that runs a function of this module."""
    process = context().Process(target=target, args=args, daemon=True)
    process.start()
    return process


def pair_of(part: int, version: int) -> dict[str, dict[str, list[Any]]]:
    """The partitions of one writer in both tables, every row labelled with the version."""
    rows = facts(*(part + 10 * number for number in range(ROWS)), label=str(version))
    return {"dataset": {f"p{part}": rows}, "results": {f"p{part}": rows}}


def published_version(store: Store, part: int) -> int:
    """The version of a writer's pair that the store holds."""
    return int(store.query("SELECT max(label::INT) FROM dataset WHERE id % 10 = $part", {"part": part}).item())


def write_pairs(root: Path, part: int, acknowledged: Path) -> None:
    """Commit one version of the pair after the other until killed; each is acknowledged in a file once it returned."""
    store = open_store(root)
    version = published_version(store, part)
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        version += 1
        with store.stage(f"writer-{part}-{os.getpid()}-{version}") as stage:
            tables = [change_of(stage, name, partitions) for name, partitions in pair_of(part, version).items()]
            own = change_of(stage, f"own_{part}", {f"d{version}": facts(version)})
            store.commit(stage, Change([*tables, own]))
        os.write(log, f"{version}\n".encode())
        if version % 7 == part:
            store.sweep()


def read_pairs(root: Path, kind: str, stop: Event, report: Path) -> None:
    """Read the pair in a tight loop until told to stop; report reads, failures and mixed states."""
    read = _READERS[kind](root)
    reads, failures, mixed = 0, [], []
    newest: dict[int, int] = {}
    while not stop.is_set():
        try:
            rows = read()
        except Exception as error:  # noqa: BLE001 — any failure at all is what the test counts
            failures.append(f"{type(error).__name__}: {error}")
            continue
        reads += 1
        for part, *halves in rows:
            count, versions, version = halves[:3]
            if halves[:3] != halves[3:] or count != ROWS or versions != 1 or version < newest.get(part, 0):
                mixed.append([part, *halves, newest.get(part, 0)])
            newest[part] = version or 0
    report.write_text(json.dumps({"reads": reads, "failures": failures, "mixed": mixed, "newest": newest}))


Read = Callable[[], list[tuple[Any, ...]]]


def _by_store(root: Path) -> Read:
    store = open_store(root)
    return lambda: store.query(PAIR_SQL.format(prefix="")).rows()


def _by_reopened_store(root: Path) -> Read:
    def read() -> list[tuple[Any, ...]]:
        store = open_store(root)
        try:
            return store.query(PAIR_SQL.format(prefix="")).rows()
        finally:
            store.close()

    return read


def _by_connect(root: Path) -> Read:
    def read() -> list[tuple[Any, ...]]:
        with duckdb.connect(str(root / "catalog.duckdb"), read_only=True) as connection:
            return connection.execute(PAIR_SQL.format(prefix="")).fetchall()

    return read


def _by_attach(root: Path) -> Read:
    def read() -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{root / 'catalog.duckdb'}' AS published (READ_ONLY)")
            return connection.execute(PAIR_SQL.format(prefix="published.")).fetchall()

    return read


_READERS: dict[str, Callable[[Path], Read]] = {
    "store": _by_store,
    "reopened": _by_reopened_store,
    "connect": _by_connect,
    "attach": _by_attach,
}
READER_KINDS = tuple(_READERS)


def hold_stage(root: Path, ready: Event, go: Event) -> None:
    """Write into a stage, wait, then commit it."""
    store = open_store(root)
    with store.stage("slow-backfill") as stage:
        change = change_of(stage, "backfill", {"d1": facts(1, 2)})
        ready.set()
        go.wait()
        store.commit(stage, Change([change]))


def write_resumable(root: Path, written: Event) -> None:
    """Write a day into a resumable stage, note it, write a part of another one, and wait to be killed."""
    store = open_store(root)
    with store.resumable_stage("backfill") as stage:
        (first,) = change_of(stage, "backfill", {"d1": facts(1, 2)}).partitions
        stage.write_note(json.dumps({"key": first.key, **asdict(first.files[0])}))
        change_of(stage, "backfill", {"d2": facts(3)})
        written.set()
        while True:
            time.sleep(1)


_STEPS = ("link", "symlink", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "chmod")


def die_at(step: int, action: str, root: Path, argument: int) -> None:
    """Run an action, but be killed before the given call that changes something on the disk."""
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return function(*args, **kwargs)

        return call

    for name in _STEPS:
        setattr(os, name, counted(getattr(os, name)))
    name = "_write_store_tables"  # in the middle of DuckDB's own writes
    setattr(catalog, name, counted(getattr(catalog, name)))
    _ACTIONS[action](root, argument)


def _commit(root: Path, version: int) -> None:
    store = open_store(root)
    with store.stage(f"dying-{version}") as stage:
        store.commit(stage, Change([change_of(stage, name, rows) for name, rows in pair_of(1, version).items()]))


def _sweep(root: Path, _: int) -> None:
    open_store(root, grace=timedelta(0)).sweep()


def _create(root: Path, _: int) -> None:
    create_store(root)


_ACTIONS: dict[str, Callable[[Path, int], None]] = {"commit": _commit, "sweep": _sweep, "create": _create}
