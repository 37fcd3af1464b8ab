"""Forks: a child works as its parent does, whatever the parent's threads were doing, and takes nothing from it."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from analytics_pipeline.capabilities import BaseRecord
from analytics_pipeline.capabilities.backends.duckdb import DuckDBBackend
from analytics_pipeline.capabilities.backends.parquet import ParquetBackend
from analytics_pipeline.experiments import MetricsBuffer, leaderboard, log_metrics, log_run, metric_trend
from analytics_pipeline.experiments.rows import clock
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline.forks import without_fork
from analytics_pipeline.objects import DataStore, create_experiment, open_base
from analytics_pipeline.store import create_store
from analytics_pipeline.store.locks import try_lock

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

PATIENCE = 30


class Example(BaseRecord, table_name="example"):
    """A record of one number."""

    value: float


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A lakehouse with a run, whose tables this process has open."""
    root = tmp_path / "store" / "experiments"
    log_run("r", {"lr": 0.1}, root=root)
    log_metrics("r", 1, {"val_f1": 0.5}, root=root)
    return root


def in_child(work: Callable[[], object], *, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Do some work in a forked child, which ends as it should and in time."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the child must not go on with the tests
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    meanwhile()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextmanager
def busy(work: Callable[[threading.Event, threading.Event], object]) -> Iterator[threading.Event]:
    """Have another thread at work for a block: it sets the first event when it has begun, and ends at the second."""
    begun, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=work, args=(begun, end))
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        yield end
    finally:
        end.set()
        thread.join()


def test_a_child_logs_though_a_thread_of_its_parent_is_in_a_transaction(root: Path) -> None:
    """SQLite takes the parent's lock for one of the child's own: it once waited a minute, and failed."""

    def write(begun: threading.Event, forked: threading.Event) -> None:
        def hold(index: object) -> None:
            with index.transaction():  # type: ignore[attr-defined]
                begun.set()
                forked.wait(0.5)  # a fork that waits for this thread does not end this wait

        tables_at(root)._access.write(hold)

    with busy(write) as forked:
        in_child(lambda: log_metrics("child", 1, {"m": 1.0}, root=root), meanwhile=forked.set)

    assert metric_trend("child", root=root).height == 1


def test_a_child_and_its_parent_log_one_after_the_other_and_lose_nothing(root: Path) -> None:
    """SQLite would unlink the log that the child writes, with a connection that was carried over."""
    for step in range(3):
        in_child(lambda step=step: log_metrics("r", 10 + step, {"m": 1.0}, root=root))  # type: ignore[misc]
        log_metrics("r", 20 + step, {"m": 1.0}, root=root)

    assert metric_trend("r", "m", root=root)["epoch"].to_list() == [10, 11, 12, 20, 21, 22]


def test_a_fork_waits_for_work_that_must_not_be_copied_half_done() -> None:
    order = []

    def work(begun: threading.Event, forked: threading.Event) -> None:
        with without_fork():
            begun.set()
            forked.wait(0.2)
            order.append("worked")

    with busy(work):
        in_child(lambda: None, meanwhile=lambda: order.append("forked"))

    assert order == ["worked", "forked"]


def test_a_child_asks_whatever_its_parent_asked_before(root: Path, tmp_path: Path) -> None:
    """The threads of DuckDB and Polars, and the sessions that wait for them, are not there in a child."""
    store, backends = create_store(tmp_path / "other"), [ParquetBackend(tmp_path / "p"), DuckDBBackend(tmp_path / "d")]
    for backend in backends:
        backend.write([Example(run_uid="a", value=1.5)])

    def ask() -> None:
        assert leaderboard(root=root).rows() == [("r", "running", 0.1, 0.5, None, 1)]
        assert store.query("SELECT sum(range)::BIGINT, 'a' FROM range(100000)").rows() == [(4999950000, "a")]
        for backend in backends:
            assert backend.query_sql("SELECT run_uid, value FROM example").rows() == [("a", 1.5)]

    ask()
    in_child(ask)


def test_a_child_writes_though_a_thread_of_its_parent_has_the_file_open(tmp_path: Path) -> None:
    """DuckDB would give the child the parent's instance of the file."""
    backend = DuckDBBackend(tmp_path / "d")
    backend.write([Example(run_uid="a", value=1)])

    def write(begun: threading.Event, forked: threading.Event) -> None:
        with backend._writing():
            begun.set()
            forked.wait(0.5)

    with busy(write) as forked:
        in_child(lambda: backend.write([Example(run_uid="b", value=2)]), meanwhile=forked.set)

    assert backend.query_sql("SELECT count(*) FROM example").item() == 2


def test_a_lock_between_threads_that_the_parent_holds_is_not_held_in_the_child(root: Path, tmp_path: Path) -> None:
    """No thread of the child would ever release it."""
    log, store = MetricsBuffer("buffered", root=root), create_store(tmp_path / "other")
    work: dict[threading.Lock, Callable[[], object]] = {
        clock._guard: lambda: clock.take(1),
        log._waiting.guard: functools.partial(log, 1, {"m": 1}),
        tables_at(root)._guard: lambda: tables_at(root).query("SELECT 1 FROM runs"),
        tables_at(root)._access._guard: lambda: tables_at(root)._access._read_by_memory(lambda index: index.tables()),
        store._guard: lambda: store.query("SELECT 1"),
    }
    for guard, use in work.items():
        with guard:
            in_child(use)


def test_a_child_neither_holds_nor_releases_a_file_lock_of_its_parent(tmp_path: Path) -> None:
    path, lock = tmp_path / "lock", try_lock(tmp_path / "lock")
    assert lock is not None
    in_child(lock.release)
    assert try_lock(path) is None

    def kill_the_holder() -> None:
        assert os.read(ready, 1)
        os.close(lock.descriptor)  # as the kernel does with a killed process: without releasing
        again = try_lock(path)
        os.write(released, b"." if again else b"x")

    def outlive_it() -> None:
        os.write(begun, b".")
        assert os.read(waiting, 1) == b"."

    ready, begun = os.pipe()
    waiting, released = os.pipe()
    in_child(outlive_it, meanwhile=kill_the_holder)


def test_a_child_persists_an_experiment_while_its_parent_does(tmp_path: Path) -> None:
    """The lock on the folder came along, so that the child waited for itself."""
    base = open_base(tmp_path / "objects")
    experiment = create_experiment(base=base)
    with experiment.run() as run:
        run.fields.found = DataStore(a=np.zeros(3))
    with base.exclusive(experiment.id_experiment):
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            experiment.persist()
            os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    experiment.reload()


def test_a_child_writes_its_own_rows_of_a_buffer_and_the_parent_the_others(root: Path) -> None:
    log = MetricsBuffer("buffered", root=root)
    log(1, {"of_parent": 1})

    def write() -> None:
        log(2, {"of_child": 1})
        log.flush()

    in_child(write)
    assert metric_trend("buffered", root=root).rows() == [(2, "of_child", 1.0)]
    log.flush()
    assert metric_trend("buffered", root=root).rows() == [(1, "of_parent", 1.0), (2, "of_child", 1.0)]
