"""Stages: whose files stay, whose go, and how work that was broken off is taken up."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from analytics_pipeline.errors import NameRefused, StageBusy
from analytics_pipeline.store import Change, Column, DataFile, Partition, ResumableStage, Store
from analytics_pipeline.store.stage import RESUMABLE_FOR
from analytics_pipeline_tests.store.processes import context, start, write_resumable
from analytics_pipeline_tests.store.scenario import change_of, facts, files_listed, files_on_disk, publish


def staged(stage: ResumableStage) -> list[str]:
    """Names of a stage's data files."""
    return sorted(path.name for path in stage.folder.glob("*.parquet"))


def age(folder: Path, seconds: float) -> None:
    """Let a folder and all in it be of so long ago."""
    then = time.time() - seconds
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))


def test_work_of_a_killed_process_is_taken_up_and_committed_by_the_next(store: Store) -> None:
    """A backfill of hours that dies in its last minute must not begin anew."""
    written = context().Event()
    process = start(write_resumable, store.root, written)
    assert written.wait(60)
    with pytest.raises(StageBusy), store.resumable_stage("backfill"):
        pass
    process.kill()
    process.join()
    assert store.sweep().stages == ()
    with store.resumable_stage("backfill") as stage:
        note = json.loads(stage.read_note() or "")
        key = note.pop("key")
        file = DataFile(**{**note, "columns": tuple(Column(*column) for column in note["columns"])})
        assert stage.holds(file)
        assert not stage.holds(replace(file, bytes=file.bytes + 1))
        assert len(staged(stage)) == 2
        stage.keep_only([file])
        assert staged(stage) == [Path(file.path).name]
        made = change_of(stage, "backfill", {"d2": facts(3)})
        resumed = replace(made.partitions[0], key=key, files=(file,), lower=None, upper=None)
        store.commit(stage, Change([replace(made, partitions=[resumed, *made.partitions])]))
        assert not stage.holds(file)
        stage.discard()
    assert store.query("SELECT id FROM backfill ORDER BY id").rows() == [(1,), (2,), (3,)]
    assert not list(store.layout.staging.iterdir())
    assert files_on_disk(store) == files_listed(store)


def test_a_resumable_stage_outlives_failures_until_it_is_discarded(store: Store) -> None:
    """The note is what the next attempt starts from."""
    with suppress(ZeroDivisionError), store.resumable_stage("work") as stage:
        assert stage.read_note() is None
        stage.write_note("half")
        raise ZeroDivisionError
    with store.resumable_stage("work") as stage:
        assert stage.read_note() == "half"
        stage.write_note("ünd mehr\n")
    with suppress(ZeroDivisionError), store.resumable_stage("work") as stage:
        assert stage.read_note() == "ünd mehr\n"
        stage.discard()
        raise ZeroDivisionError
    with store.resumable_stage("work") as stage:
        assert stage.read_note() is None


def test_a_resumable_stage_goes_days_after_its_last_write(store: Store) -> None:
    """Otherwise work that nobody takes up would fill the disk for ever."""
    with store.resumable_stage("work") as stage:
        change_of(stage, "facts", {"d0": facts(1)})
        folder = stage.folder
        age(folder, RESUMABLE_FOR.total_seconds() + 60)
        assert store.sweep().stages == ()  # its process lives
    age(folder, RESUMABLE_FOR.total_seconds() - 60)
    for _ in range(2):
        assert store.sweep().stages == ()
    age(folder, RESUMABLE_FOR.total_seconds() + 60)
    with store.resumable_stage("work") as stage:
        stage.write_note("alive")
    assert store.sweep().stages == ()
    age(folder, RESUMABLE_FOR.total_seconds() + 60)
    assert store.sweep().stages == ("resumable.work",)
    assert not folder.exists()


def test_a_resumable_stage_and_a_sync_may_have_one_name(store: Store) -> None:
    """Two kinds of work do not know each other's names."""
    with store.resumable_stage("work") as kept, store.stage("work") as other:
        assert kept.folder != other.folder
        kept.write_note("kept")
        publish(store, {"facts": {"d0": facts(1)}})
    with store.resumable_stage("work") as kept:
        assert kept.read_note() == "kept"


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "resumable.work"])
def test_a_stage_name_that_is_no_plain_name_is_refused(store: Store, name: str) -> None:
    """It becomes a folder."""
    with pytest.raises(NameRefused), store.resumable_stage(name):
        pass


def test_a_partition_of_a_resumable_stage_can_be_described_anew(store: Store) -> None:
    """What a note says of a file is enough to publish it: path, rows, bytes, columns."""
    with store.resumable_stage("work") as stage:
        (made,) = change_of(stage, "facts", {"d0": facts(1)}).partitions
        (file,) = made.files
    with store.resumable_stage("work") as stage:
        again = Partition("d0", made.lower, made.upper, (file,), None, "spec", "sync", made.synced_at)
        change = replace(change_of(stage, "facts", {}), partitions=[again])
        store.commit(stage, Change([change]))
        stage.discard()
    assert store.query("SELECT id FROM facts").rows() == [(1,)]
