"""Which runs are taken for dead: those whose process is gone, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus

from analytics_pipeline.housekeeping.launcher import WatchfulRunLauncher, is_alive
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import run_in, spec

GRPC = ".dagster/grpc_info"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def launcher(lasting: dg.DagsterInstance) -> WatchfulRunLauncher:
    launcher = WatchfulRunLauncher()
    launcher.register_instance(lasting)
    return launcher


def started_run(instance: dg.DagsterInstance, pid: int, server: dict[str, object] | None = None) -> dg.DagsterRun:
    """A run whose events name a process, launched by a code server, or typed into a terminal."""
    run = run_in(instance, scenario.definitions(spec()).resolve_job_def("orders_refresh_job"), "STARTED")
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run)
    if server is not None:
        instance.add_run_tags(run.run_id, {GRPC: json.dumps(server)})
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


SERVERS = [None, {"host": "localhost", "socket": "/tmp/x"}, {"host": "localhost", "port": 4000}]


@pytest.mark.parametrize("server", SERVERS)
def test_a_run_dies_with_its_process(
    launcher: WatchfulRunLauncher,
    lasting: dg.DagsterInstance,
    process: subprocess.Popen[bytes],
    server: dict[str, object] | None,
) -> None:
    run = started_run(lasting, process.pid, server)

    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    process.kill()
    process.wait()
    health = launcher.check_run_worker_health(run)

    assert health.status is WorkerStatus.FAILED
    assert f"its process {process.pid} is gone" in str(health.msg)


def test_a_run_of_another_machine_is_left_alone(
    launcher: WatchfulRunLauncher, lasting: dg.DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    """Its process numbers mean nothing here."""
    run = started_run(lasting, process.pid, {"host": "worker-7.example.com", "port": 4000})
    process.kill()
    process.wait()

    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_run_that_names_no_process_is_left_alone(launcher: WatchfulRunLauncher, lasting: dg.DagsterInstance) -> None:
    run = run_in(lasting, scenario.definitions(spec()).resolve_job_def("orders_refresh_job"), "STARTED")

    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_process_that_nobody_has_waited_for_is_dead(process: subprocess.Popen[bytes]) -> None:
    assert is_alive(process.pid, time.time())
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert not is_alive(process.pid, time.time())


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(process: subprocess.Popen[bytes]) -> None:
    """After a restart of the machine, numbers begin anew."""
    assert not is_alive(process.pid, time.time() - 3600)
