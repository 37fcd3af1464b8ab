"""A sync that is stopped: its process ends, its queries end, the status says so, whatever it waits for."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import psycopg
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.processes import SLEEPING, start, sync_like_a_program
from analytics_pipeline_tests.sync.scenario import NOW, asked_of, fill, job_of, sessions

PATIENCE = 20.0
"""Seconds after which a test gives up; what it waits for takes 60 s where nothing ends it."""
WORKING = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'analytics_pipeline%' AND state = 'active'"


@contextmanager
def locked_table(url: str) -> Iterator[None]:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE")
        yield


def unlocked(_url: str) -> AbstractContextManager[None]:
    return nullcontext()


OCCUPATIONS: dict[str, Callable[[str], AbstractContextManager[None]]] = {"query": unlocked, "lock": locked_table}


def is_working(url: str) -> bool:
    return bool(asked_of(url, WORKING)[0][0])


def wait_until(holds: Callable[[], bool], process: ForkServerProcess | None = None) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        assert process is None or process.is_alive()
        time.sleep(0.05)


@pytest.fixture
def source(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


@pytest.mark.parametrize("occupied", OCCUPATIONS.values(), ids=OCCUPATIONS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_and_its_queries(
    source: str,
    store: Store,
    tmp_path: Path,
    occupied: Callable[[str], AbstractContextManager[None]],
    number: signal.Signals,
) -> None:
    """A cancelled run went on, and held the source for an hour."""
    with occupied(source):
        process = start(sync_like_a_program, store.root, source, tmp_path / "log")
        wait_until(lambda: is_working(source), process)
        os.kill(process.pid or 0, number)
        process.join(PATIENCE)
        assert process.exitcode not in {None, 0}
        wait_until(lambda: sessions(source) == 0)
    status = read_status(store, SLEEPING)
    assert (status.state, status.message is not None and "cancelled" in status.message) == (State.CANCELLED, True)


@pytest.mark.parametrize("occupied", OCCUPATIONS.values(), ids=OCCUPATIONS)
def test_the_queries_of_a_killed_process_end(
    source: str, store: Store, tmp_path: Path, occupied: Callable[[str], AbstractContextManager[None]]
) -> None:
    """PostgreSQL notices a lost client only when it writes to it, unless it is asked to look."""
    with occupied(source):
        process = start(sync_like_a_program, store.root, source, tmp_path / "log")
        wait_until(lambda: is_working(source), process)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(PATIENCE)
        wait_until(lambda: sessions(source) == 0)


def test_a_signal_ends_the_wait_for_another_sync(source: str, store: Store, tmp_path: Path) -> None:
    """That one may take hours, and the status stays its own."""
    with store.exclusive(SLEEPING.name, lambda _: None):
        process = start(sync_like_a_program, store.root, source, tmp_path / "log")
        wait_until(lambda: (tmp_path / "log").exists() and "Waiting" in (tmp_path / "log").read_text(), process)
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(PATIENCE)
    assert process.exitcode not in {None, 0}
    assert read_status(store, SLEEPING).state is State.NOT_SYNCED


def test_a_cancelled_sync_lets_go_in_a_process_that_goes_on(source: str, store: Store) -> None:
    """A notebook, or Dagster's in-process executor: whatever the sync has begun has to end without the process."""

    def interrupt() -> None:
        wait_until(lambda: is_working(source))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        job_of(store, source, SLEEPING).refresh(now=NOW)
    wait_until(lambda: sessions(source) == 0)
    execute(source, "ALTER TABLE records ADD COLUMN free int")
    assert read_status(store, SLEEPING).state is State.CANCELLED


def test_a_reader_that_does_not_know_a_state_asks_the_store(source: str, store: Store) -> None:
    """A home is read by older releases, too."""
    job = job_of(store, source)
    job.refresh(now=NOW)
    file = store.root.parent / "status" / "demo.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"state": "of a later release"}))
    assert read_status(store, job.spec).state is State.READY


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_the_process_and_its_queries(source: str, store: Store, tmp_path: Path) -> None:
    """Between two statements, while connections are opened, while the status is written."""
    random = Random(4)  # noqa: S311 - moments, not secrets
    for number in [signal.SIGINT, signal.SIGTERM, signal.SIGKILL] * 10:
        process = start(sync_like_a_program, store.root, source, tmp_path / "log")
        wait_until((tmp_path / "log").exists, process)
        time.sleep(random.uniform(0, 0.6))
        os.kill(process.pid or 0, number)
        process.join(PATIENCE)
        assert process.exitcode not in {None, 0}
        wait_until(lambda: sessions(source) == 0)
        (tmp_path / "log").unlink()
