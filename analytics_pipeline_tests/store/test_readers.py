"""The promise of the store: readers never fail and never see half a commit, whatever happens to writers."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from analytics_pipeline.store import create_store, open_store
from analytics_pipeline_tests.store.processes import (
    READER_KINDS,
    context,
    hold_stage,
    pair_of,
    published_version,
    read_pairs,
    start,
    write_pairs,
)
from analytics_pipeline_tests.store.scenario import files_listed, files_on_disk, publish

WRITERS = range(4)


def acknowledged(log: Path) -> int:
    """The last version whose commit returned; 0 for none."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return int(lines[-1]) if lines else 0


def run_and_kill(root: Path, folder: Path, kills: int) -> list[dict[str, object]]:
    """Writers and readers at work on a store while writers are killed; returns the readers' reports."""
    moments = random.Random(20)  # noqa: S311 — moments, not secrets
    logs = [folder / f"acknowledged-{part}" for part in WRITERS]
    stop = context().Event()
    writers = [start(write_pairs, root, part, logs[part]) for part in WRITERS]
    reports = [folder / f"report-{kind}.json" for kind in READER_KINDS]
    readers = [start(read_pairs, root, kind, stop, report) for kind, report in zip(READER_KINDS, reports, strict=True)]
    store = open_store(root)
    for number in range(kills):
        part = number % len(WRITERS)
        writers[part].join(moments.uniform(0.1, 1.2))  # it never ends by itself: this is the random moment
        assert writers[part].is_alive(), "a writer failed by itself"
        kill(writers[part])
        assert published_version(store, part) >= acknowledged(logs[part]), "an acknowledged commit was lost"
        writers[part] = start(write_pairs, root, part, logs[part])
    for part in WRITERS:
        while not acknowledged(logs[part]):
            writers[part].join(0.1)
            assert writers[part].is_alive(), "a writer failed by itself"
        kill(writers[part])
    stop.set()
    for reader in readers:
        reader.join(60)
    for part in WRITERS:
        assert published_version(store, part) >= acknowledged(logs[part]) > 0
    return [json.loads(report.read_text()) for report in reports]


def kill(process: ForkServerProcess) -> None:
    """SIGKILL, and wait for the end."""
    process.kill()
    process.join()


def check_promise(tmp_path: Path, kills: int) -> None:
    """The acceptance line, with so many kills."""
    store = create_store(tmp_path / "store")
    root = store.root
    for part in WRITERS:
        publish(store, pair_of(part, 0))
    reports = run_and_kill(root, tmp_path, kills)
    assert [report["failures"] for report in reports] == [[]] * len(reports)
    assert [report["mixed"] for report in reports] == [[]] * len(reports)
    assert all(int(str(report["reads"])) > kills / 2 for report in reports), reports

    ready, go = context().Event(), context().Event()
    backfill = start(hold_stage, root, ready, go)
    assert ready.wait(60)
    store = open_store(root, grace=timedelta(0))
    store.sweep()
    assert files_on_disk(store) == files_listed(store)
    assert [path.name for path in store.layout.staging.iterdir()] == ["slow-backfill"]
    go.set()
    backfill.join(60)
    assert backfill.exitcode == 0
    assert store.query("SELECT count(*) FROM backfill").item() == 2
    assert not list(store.layout.staging.iterdir())


def test_readers_never_fail_nor_see_half_a_commit_while_writers_are_killed(tmp_path: Path) -> None:
    """People query during syncs; a killed sync must cost them nothing, and no commit that returned may be lost."""
    check_promise(tmp_path, kills=8)


@pytest.mark.slow
def test_readers_never_fail_nor_see_half_a_commit_over_minutes_of_kills(tmp_path: Path) -> None:
    """As above, long enough for rare interleavings and for many pruned versions."""
    check_promise(tmp_path, kills=200)
