"""Commits that fail, wait or meet: what is published stays whole, and whoever stands in the way is named."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from analytics_pipeline.errors import (
    CommitFailed,
    DataFileMissing,
    FilesystemUnfit,
    ManifestUnreadable,
    StageBusy,
    StoreBusy,
    StoreNotFound,
    VersionTaken,
)
from analytics_pipeline.store import Change, Store, open_store
from analytics_pipeline.store.locks import locked, try_lock
from analytics_pipeline_tests.store.scenario import (
    change_of,
    facts,
    files_listed,
    files_on_disk,
    ids,
    publish,
    python,
)


@pytest.mark.parametrize("how", ["missing", "short"])
def test_commit_of_a_file_that_is_not_whole_changes_nothing(store: Store, how: str) -> None:
    """A full disk or a hasty cleaner must not publish a hole."""
    publish(store, {"facts": {"d0": facts(1)}})
    with store.stage("broken") as stage:
        change = Change([change_of(stage, "facts", {"d1": facts(2)})])
        (path,) = stage.folder.glob("*.parquet")
        path.unlink() if how == "missing" else os.truncate(path, 10)
        with pytest.raises(DataFileMissing, match="is missing" if how == "missing" else "has 10 bytes"):
            store.commit(stage, change)
    assert (store.manifest().version, ids(store)) == (1, [1])
    store.sweep()
    assert files_on_disk(store) == files_listed(store)


FULL_DISK = """
import resource, sys
from pathlib import Path
from analytics_pipeline.store import Change, open_store
from analytics_pipeline_tests.store.scenario import change_of, facts
store = open_store(Path(sys.argv[1]))
with store.stage("too-large") as stage:
    change = Change([change_of(stage, "facts", {"d1": facts(2)})])
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
    try:
        store.commit(stage, change)
    except Exception as error:
        print(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    print(store.query("SELECT count(*) FROM facts").item(), len(list(store.layout.staging.iterdir())))
    store.commit(stage, change)
    print(store.query("SELECT count(*) FROM facts").item())
"""


@pytest.mark.parametrize("limit", [0, 1000, 20_000])
def test_commit_that_the_disk_has_no_room_for_changes_nothing(store: Store, limit: int) -> None:
    """A full disk is the commonest failure of all; the same commit goes through once there is room."""
    publish(store, {"facts": {"d0": facts(1)}})
    output, _ = python(FULL_DISK, str(store.root), str(limit)).communicate()
    assert output.splitlines() == [CommitFailed.__name__, "1 1", "2"]


def test_published_file_that_vanished_stops_the_next_commit(store: Store) -> None:
    """A commit vouches for every file it lists, also those of earlier commits."""
    publish(store, {"facts": {"d0": facts(1)}})
    (store.root / next(iter(files_listed(store)))).unlink()
    with pytest.raises(DataFileMissing):
        publish(store, {"facts": {"d1": facts(2)}})


def test_failed_commit_can_be_repeated_from_the_same_stage(store: Store) -> None:
    """The rows of hours must not be lost to a commit that failed for a reason of seconds."""
    with store.stage("again") as stage:
        change = Change([change_of(stage, "facts", {"d0": facts(1)})])
        store.layout.manifest_of(1).write_bytes(b"damaged")
        with pytest.raises(ManifestUnreadable):
            store.commit(stage, change)
        store.layout.manifest_of(1).unlink()
        store.commit(stage, change)
    assert ids(store) == [1]


NO_LOCKS = """
import sys
from pathlib import Path
from analytics_pipeline.store import Change, create_store
from analytics_pipeline.store import commit as commits
from analytics_pipeline_tests.store.scenario import change_of, facts
store = create_store(Path(sys.argv[1]))
write = commits.write_manifest
def race(manifest, path):
    write(manifest, path)
    write(manifest, store.layout.manifest_of(manifest.version))  # the other committer, whom no lock kept out
commits.write_manifest = race
with store.stage("loser") as stage:
    try:
        store.commit(stage, Change([change_of(stage, "facts", {"d0": facts(1)})]))
    except Exception as error:
        print(type(error).__name__)
"""


def test_of_two_committers_that_no_lock_parts_one_loses_by_name(tmp_path: Path) -> None:
    """On a shared disk whose locks do nothing a version must still never be overwritten."""
    assert python(NO_LOCKS, str(tmp_path / "store")).communicate()[0] == f"{VersionTaken.__name__}\n"


LACKING = """
import os, sys, fcntl, errno
from pathlib import Path
from analytics_pipeline.store import create_store
def lacking(*args):
    raise OSError(errno.ENOTSUP, "not supported")
real = os.fsync
if sys.argv[2] == "links": os.link = lacking
if sys.argv[2] == "locks": fcntl.flock = lacking
if sys.argv[2] == "deaf locks": fcntl.flock = lambda *args: None
if sys.argv[2] == "fsync": os.fsync = lacking
for attempt in range(2):
    try:
        create_store(Path(sys.argv[1]))
    except Exception as error:
        print(type(error).__name__, "lacks", str(error).split("lacks ")[1].split(".")[0])
"""


@pytest.mark.parametrize(
    ("lack", "named"),
    [
        ("links", "hard links"),
        ("locks", "file locks (flock)"),
        ("deaf locks", "file locks (flock)"),
        ("fsync", "fsync of folders"),
    ],
)
def test_file_system_that_cannot_keep_the_promises_is_refused_by_name(tmp_path: Path, lack: str, named: str) -> None:
    """Also the second time: a refused folder must not pass for a store afterwards."""
    output, _ = python(LACKING, str(tmp_path / "store"), lack).communicate()
    assert output.splitlines() == [f"{FilesystemUnfit.__name__} lacks {named}"] * 2
    with pytest.raises(StoreNotFound):
        open_store(tmp_path / "store")


def test_stage_of_a_live_process_is_not_given_twice(store: Store) -> None:
    """Two syncs of one id would take each other's files."""
    with store.stage("one"), pytest.raises(StageBusy), store.stage("one"):
        pass
    with store.stage("one"):
        pass


def test_stage_is_gone_after_a_failure(store: Store) -> None:
    """Failed syncs must not fill the disk."""
    with pytest.raises(ZeroDivisionError), store.stage("fails") as stage:
        change_of(stage, "facts", {"d0": facts(1 // 0)})
    assert not list(store.layout.staging.iterdir())


def test_stages_that_end_while_a_sweep_runs_disturb_neither(store: Store) -> None:
    """Sweeps run on a schedule, in the middle of everything."""
    failures: list[BaseException] = []

    def stages(thread: int) -> None:
        try:
            for number in range(15):
                with store.stage(f"stage-{thread}-{number % 2}") as stage:
                    change_of(stage, "facts", {"d0": facts(1)})
                    assert list(stage.folder.glob("*.parquet"))
        except BaseException as error:  # noqa: BLE001 — collected for the assertion
            failures.append(error)

    threads = [threading.Thread(target=stages, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        store.sweep()
    for thread in threads:
        thread.join()
    store.sweep()
    assert failures == []
    assert not list(store.layout.staging.iterdir())


def test_commit_lock_that_stays_taken_names_its_holder(store: Store) -> None:
    """Somebody must be told which process to look at."""
    with (
        locked(store.layout.commit_lock, timeout=1),
        pytest.raises(StoreBusy, match=f"process {os.getpid()}"),
        locked(store.layout.commit_lock, timeout=0.01),
    ):
        pass


def test_a_lock_on_a_file_that_was_removed_meanwhile_excludes_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep removes a stage with its lock file between another process's open and flock."""
    path = tmp_path / "lock"
    flock = fcntl.flock
    removals = iter([path.unlink])

    def late_flock(descriptor: int, kind: int) -> None:
        next(removals, lambda: None)()
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    lock = try_lock(path)
    assert lock is not None
    assert try_lock(path) is None
    lock.release()


FORKED_HOLDER = """
import os, sys
from pathlib import Path
from analytics_pipeline.store.locks import try_lock
lock = try_lock(Path(sys.argv[1]))
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)  # lives until its parent ends
    os._exit(0)
lock.release()
print("free" if try_lock(Path(sys.argv[1])) else "taken")
"""


def test_lock_is_free_after_its_holder_forked_and_released_it(tmp_path: Path) -> None:
    """A worker forked in the middle of a commit inherits the lock's descriptor and may live for hours."""
    assert python(FORKED_HOLDER, str(tmp_path / "lock")).communicate()[0] == "free\n"
