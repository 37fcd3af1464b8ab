"""The API as a user starts it: a process of its own, asked over a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from analytics_pipeline.settings import API_VARIABLES
from analytics_pipeline.store import create_store
from analytics_pipeline_tests.api import scenario

PATIENCE = 60
SECRET = "s3cret-words"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in API_VARIABLES.values()}
    return {**inherited, "ANALYTICS_HOME": str(home), **variables}


def answers(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "it ended by itself"
        try:
            httpx.get(f"{url}/health").raise_for_status()
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.1)
        else:
            return


def test_the_command_serves_this_home_and_logs_no_parameters(tmp_path: Path) -> None:
    home, port, log = tmp_path / "home", free_port(), tmp_path / "api.log"
    dataset = scenario.records(5)
    scenario.publish(create_store(home / "store"), scenario.spec_of(), dataset, scenario.results(dataset))
    variables = environment(home, ANALYTICS_API_PORT=str(port), ANALYTICS_API_TOKEN="token")
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "analytics_pipeline.api"]
        process = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=output, stderr=output)
    try:
        answers(url, process)
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer token"}) as client:
            page = client.get("/api/store/data/monitoring", params={"search": SECRET})
            status = client.get("/api/store/status").json()
            again = client.get("/api/monitoring/analytics/summary")
            known = client.get("/api/monitoring/analytics/summary", headers={"If-None-Match": again.headers["etag"]})
        refused = httpx.get(f"{url}/api/store/status")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)

    assert page.json()["total"] == 0
    assert {"monitoring_data", "eval_data", "human_signals_data"} <= status["datasets"].keys()
    assert status["datasets"]["monitoring_data"]["incremental_column"] == "created_at"
    assert (again.status_code, known.status_code, refused.status_code) == (200, 304, 401)
    written = log.read_text()
    assert "GET /api/store/data/monitoring 200" in written
    assert SECRET not in written
    assert "token" not in written


@pytest.mark.parametrize(("variable", "value"), [("ANALYTICS_API_PORT", "http"), ("ANALYTICS_API_CONCURRENCY", "0")])
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, variable: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analytics_pipeline.api"],
        cwd=tmp_path,
        env=environment(tmp_path, **{variable: value}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"{variable} cannot be used: ")


def test_serving_imports_neither_dagster_nor_its_client() -> None:
    """They take a second and 100 MB that reading does not need."""
    code = "import sys, analytics_pipeline.api.__main__; sys.exit('dagster' in sys.modules or 'gql' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
