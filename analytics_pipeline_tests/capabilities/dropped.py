"""Run documents of the tests: good ones of each capability, and bad ones, each in its own way; intakes to be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import polars as pl
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.capabilities.documents.folder import SETTLE_SECONDS, FolderInbox
from analytics_pipeline.capabilities.documents.intake import Batch, Intake
from analytics_pipeline.capabilities.documents.reading import Refusal, read_run
from analytics_pipeline_tests.capabilities.outputs import MOMENT, RUNS
from analytics_pipeline_tests.memory import peak

CONTEXT = multiprocessing.get_context("forkserver")
"""Of the processes that take documents up and are killed."""
CONTEXT.set_forkserver_preload([__name__])

TABLES = tuple(RUNS)
LONG_AGO = time.time() - 10 * SETTLE_SECONDS


def document(table: str = "dataeval_bias", run_uid: str = "a1", **changes: object) -> dict[str, Any]:
    """A good document of a capability, with some fields changed."""
    outputs, facts = RUNS[table]
    return {
        "schema_version": 1,
        "capability": table,
        "run_uid": run_uid,
        "capability_id": facts.capability_id,
        "created_at": MOMENT.isoformat(),
        "datasets": [{"id": name} for name in facts.datasets],
        "models": [{"id": name} for name in facts.models],
        "metrics": [{"id": name} for name in facts.metrics],
        "provenance": {"user_id": "ada", "environment": "production"},
        "outputs": outputs.model_dump(mode="json"),
        **changes,
    }


def text(table: str = "dataeval_bias", run_uid: str = "a1", **changes: object) -> bytes:
    return json.dumps(document(table, run_uid, **changes)).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in document().items() if name != field}).encode()


def with_outputs(table: str, **changes: object) -> bytes:
    good = document(table)
    return json.dumps({**good, "outputs": {**good["outputs"], **changes}}).encode()


BAD: Mapping[str, tuple[bytes, str, str]] = {
    "half a document": (text()[:200], "(document)", "is not JSON"),
    "not UTF-8": (text().replace(b"ada", b"\xe4da"), "(document)", "is not UTF-8"),
    "no object": (b"[1, 2]", "(document)", "is not a JSON object"),
    "a field too few": (without("run_uid"), "run_uid", "is missing"),
    "a field too many": (text(owner="ada"), "owner", "is no field"),
    "another version": (text(schema_version=2), "schema_version", "should be 1"),
    "no known capability": (text(capability="dataeval_magic"), "capability", "'dataeval_cleaning'"),
    "no moment": (text(created_at="2024-05-01T12:00:00"), "created_at", "needs a time zone"),
    "NaN": (text().replace(b'"coverage_radius": 0.5', b'"coverage_radius": NaN'), "outputs.coverage_radius", "finite"),
    "entities that do not fit": (text(datasets=[{"id": "a"}, {"id": "b"}]), "datasets, models, metrics", "2 datasets"),
}
"""Content, the field that the report names, and words of its reason; one way each to be bad."""


def drop(inbox: Path, name: str, content: bytes, *, written: float = LONG_AGO) -> Path:
    """Hand a document over as writers should: under another name first."""
    inbox.mkdir(parents=True, exist_ok=True)
    temporary = inbox / f".{name}.tmp"
    temporary.write_bytes(content)
    os.utime(temporary, (written, written))
    return temporary.rename(inbox / name)


def drop_many(inbox: Path, count: int) -> tuple[set[str], set[str]]:
    """Documents of all capabilities, one in a hundred bad; the run_uids of the good, the names of the bad."""
    ways = [content for content, _, _ in BAD.values()]
    good, bad = set(), set()
    for number in range(count):
        name = f"run-{number:05}.json"
        if number % 100 == 37:
            bad.add(name)
            drop(inbox, name, ways[number // 100 % len(ways)])
        else:
            good.add(f"uid-{number}")
            drop(inbox, name, text(TABLES[number % len(TABLES)], f"uid-{number}"))
    return good, bad


def reports(inbox: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The rejected documents with their reports."""
    for path in sorted((inbox / "rejected").glob("*.json")):
        if not path.name.endswith(".report.json"):
            yield path, json.loads(path.with_name(f"{path.stem}.report.json").read_text())


def kept(inbox: Path) -> list[str]:
    """The names of the stored documents."""
    return sorted(path.name for path in (inbox / "stored").glob("*/*.json"))


def waiting(inbox: Path) -> list[str]:
    """The names of the documents that nobody took up yet."""
    return sorted(path.name for path in inbox.glob("*.json"))


def take_up(inbox: Path, store: Path, **options: int) -> Batch:
    """One intake to its end."""
    batches = Intake(FolderInbox(inbox), ParquetBackend(store), **options).take_up(print)
    return sum(batches, Batch())


def take_up_slowly(inbox: Path, store: Path, until: int) -> None:
    """An intake that is killed once it has moved some documents: stored, and the next one not moved yet."""
    folder = FolderInbox(inbox)
    move, moved = folder._move, 0

    def counted(*arguments: Any) -> bool:
        nonlocal moved
        if moved == until:
            os.kill(os.getpid(), signal.SIGKILL)
        moved += 1
        return move(*arguments)

    folder._move = counted  # type: ignore[method-assign, assignment]
    list(Intake(folder, ParquetBackend(store), batch=40).take_up(print))


def die_at(step: int, inbox: Path, store: Path) -> None:
    """An intake that is killed before the given call that renames a file, the store's own included."""
    rename, calls = os.rename, 0

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        rename(*arguments, **options)

    os.rename = counted
    list(Intake(FolderInbox(inbox), ParquetBackend(store)).take_up(print))


def take_up_without_rights(inbox: Path, store: Path) -> None:
    """An intake by somebody who may not read everything."""
    if os.geteuid() == 0:
        os.setuid(65_534)
    take_up(inbox, store)


def read_measured(content: bytes) -> tuple[int, float]:
    """How many problems reading a document tells, and the most memory that it took, in MB."""
    found = read_run(content)
    assert isinstance(found, Refusal)
    return len(found.problems), peak() / 1e6


def query(store: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a store."""
    return AnalyticsStore(ParquetBackend(store)).query_sql(sql).rows()


def stored_runs(store: Path) -> dict[str, list[str]]:
    """Every run of each table, as often as its first row stands there."""
    backend = ParquetBackend(store)
    found = {}
    for table in set(backend.list_tables()) - {"runs"}:
        rows = backend.scan_table(table).collect()
        copies = rows.group_by("run_uid").agg(
            (pl.len() / pl.struct(pl.all().exclude("created_at")).n_unique()).ceil().cast(pl.Int64)
        )
        found[table] = sorted(uid for uid, count in copies.iter_rows() for _ in range(count))
    return found


def count_entries(monkeypatch: pytest.MonkeyPatch, work: Counter[str]) -> None:
    """Entries of folders that are looked at."""
    scandir = os.scandir

    class Counted:
        def __init__(self, folder: Path) -> None:
            self.entries = scandir(folder)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.entries.close()

        def __iter__(self) -> Self:
            return self

        def __next__(self) -> os.DirEntry[str]:
            entry = next(self.entries)
            work["listed"] += 1
            return entry

    monkeypatch.setattr(os, "scandir", Counted)
