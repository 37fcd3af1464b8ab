"""Taking up many run documents, by several processes, some of which are killed: none is lost, none stored twice."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from analytics_pipeline.capabilities.documents.folder import FolderInbox
from analytics_pipeline_tests.capabilities import dropped
from analytics_pipeline_tests.capabilities.dropped import (
    drop,
    drop_many,
    kept,
    query,
    reports,
    stored_runs,
    take_up,
    text,
    waiting,
)
from analytics_pipeline_tests.thinning import thinned


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize(
    "count", [500, pytest.param(10_000, marks=pytest.mark.slow)], ids=["500 documents", "10,000 documents"]
)
def test_of_many_documents_the_good_are_stored_once_and_the_bad_are_told(inbox: Path, store: Path, count: int) -> None:
    good, bad = drop_many(inbox, count)

    done = take_up(inbox, store)

    assert (done.stored, done.known, done.waiting) == (len(good), 0, 0)
    assert_all_taken_up(inbox, store, good, bad)


def assert_all_taken_up(inbox: Path, store: Path, good: set[str], bad: set[str]) -> None:
    found = Counter(uid for uids in stored_runs(store).values() for uid in uids)
    assert found == Counter(good), "each good run once"
    assert {uid for (uid,) in query(store, "SELECT DISTINCT run_uid FROM runs")} == good
    told = {report["document"].split(".")[0]: report["errors"] for _, report in reports(inbox)}
    assert set(told) == {name.removesuffix(".json") for name in bad}
    assert all(errors for errors in told.values())
    assert len(kept(inbox)) == len(good)
    assert waiting(inbox) == []
    assert not FolderInbox(inbox).has_document()


@pytest.mark.parametrize("until", thinned([0, 1, 39, 40, 41, 77, 100], 3))
def test_a_killed_intake_loses_nothing(inbox: Path, store: Path, until: int) -> None:
    good, bad = drop_many(inbox, 120)
    process = dropped.CONTEXT.Process(target=dropped.take_up_slowly, args=(inbox, store, until))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    take_up(inbox, store)

    assert_all_taken_up(inbox, store, good, bad)


def test_an_intake_that_is_killed_at_any_step_loses_nothing(tmp_path: Path) -> None:
    """Steps are renames: of the store's files, into `.moving`, of the report, into its place."""
    for step in range(50):
        inbox, store = tmp_path / f"inbox-{step}", tmp_path / f"store-{step}"
        drop(inbox, "good.json", text())
        drop(inbox, "bad.json", b"{}")
        process = dropped.CONTEXT.Process(target=dropped.die_at, args=(step, inbox, store))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        take_up(inbox, store)
        assert_all_taken_up(inbox, store, {"a1"}, {"bad.json"})
    assert step > 5, "there were steps at which to die"
    assert_all_taken_up(inbox, store, {"a1"}, {"bad.json"})


def test_intakes_at_once_take_turns(inbox: Path, store: Path) -> None:
    good, bad = drop_many(inbox, 150)
    processes = [dropped.CONTEXT.Process(target=dropped.take_up_slowly, args=(inbox, store, -1)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert_all_taken_up(inbox, store, good, bad)


def test_documents_that_are_dropped_all_the_while_are_all_taken_up(inbox: Path, store: Path) -> None:
    """Writers that rename and writers that write in place, three intakes one after the other."""
    good: set[str] = set()
    stop = threading.Event()

    def write() -> None:
        for number in range(300):
            good.add(f"uid-{number}")
            if number % 3:
                drop(inbox, f"{number % 50}-{number}.json", text(run_uid=f"uid-{number}"))
            else:
                with (inbox / f"{number}.json").open("wb", buffering=0) as file:
                    content = text(run_uid=f"uid-{number}")
                    file.write(content[:150])
                    file.write(content[150:])
        stop.set()

    inbox.mkdir()
    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        take_up(inbox, store)
    writer.join()
    take_up(inbox, store)

    assert_all_taken_up(inbox, store, good, set())
