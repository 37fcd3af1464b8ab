"""Object stores: what several writers can rely on, on a real S3 server (moto's) with real processes."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import httpx
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend, build_store
from analytics_pipeline.errors import ObjectStoreFailed
from analytics_pipeline_tests.capabilities.scenario import run, uids
from analytics_pipeline_tests.capabilities.test_object_store import files_of, payload

WITHOUT_RUNS = "SELECT run_uid FROM example WHERE run_uid NOT IN (SELECT run_uid FROM runs)"
Config = Mapping[str, Any]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of a running S3 server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not answers(url):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
        server.terminate()


def answers(url: str) -> bool:
    """Whether the server is up."""
    try:
        return httpx.get(f"{url}/moto-api/data.json").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def config(endpoint: str) -> Config:
    """A store in an empty bucket of the test's own."""
    options = {
        "key": "key",
        "secret": "secret",
        "client_kwargs": {"endpoint_url": endpoint, "region_name": "eu-central-1"},
    }
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3", **options).mkdir(bucket)
    return {"uri": f"s3://{bucket}/capabilities", "storage_options": options}


def test_runs_are_stored_once_and_queried(config: Config) -> None:
    store = build_store(config)
    assert store.list_tables() == []
    assert set(store.write_with_receipt([run("a", rows=2), run("b")]).run_table_files) == {"a", "b"}
    assert build_store(config).write_with_receipt([run("a"), run("c")]).rows == {"runs": 3, "example": 1}
    assert uids(store) == ["a", "a", "b", "c"]
    assert store.describe_table("example")["score"] == "Float64"
    assert store.get_run_uri("a").startswith(f"{config['uri']}/example/")


def test_the_server_itself_refuses_a_second_object_of_a_run(config: Config) -> None:
    mine, theirs = (ParquetBackend(config["uri"], config["storage_options"]) for _ in range(2))
    assert files_of(mine)._create("example", payload("a")) is not None
    assert files_of(theirs)._create("example", payload("a", "a")) is None
    assert uids(AnalyticsStore(theirs)) == ["a"]


def test_a_bucket_that_is_not_there_is_an_error_and_no_empty_store_to_write_to(config: Config) -> None:
    elsewhere = {**config, "uri": f"s3://nobody-{uuid.uuid4().hex}/capabilities"}
    with pytest.raises(ObjectStoreFailed, match="s3://nobody"):
        build_store(elsewhere).write([run("a")])


@pytest.mark.parametrize(("runs", "writers", "kills"), [(8, 2, 3), pytest.param(96, 8, 25, marks=pytest.mark.slow)])
def test_killed_writers_of_the_same_runs_leave_each_of_them_once(
    config: Config, runs: int, writers: int, kills: int
) -> None:
    """Each writer begins elsewhere; whoever is killed begins anew; a reader looks meanwhile."""
    begins = itertools.cycle(range(0, runs, runs // writers))
    reader, killed, ended = build_store(config), 0, 0
    alive = [started(config, runs, next(begins)) for _ in range(writers)]
    while alive:
        writer = alive.pop(0)
        assert writer.stdout is not None
        for stored, _ in enumerate(writer.stdout):
            if killed < kills and stored == killed % 3:
                writer.kill()  # in the midst of its next run
                break
        writer.stdout.close()
        if writer.wait(60) == 0:
            ended += 1
        else:
            killed += 1
            alive.append(started(config, runs, next(begins)))
        if "example" in reader.list_tables():
            assert reader.query_sql(WITHOUT_RUNS).is_empty()
            assert set(Counter(uids(reader)).values()) == {2}
    assert (killed, ended) == (kills, writers)
    assert uids(reader) == sorted([f"run-{number:03}" for number in range(runs)] * 2)
    assert reader.query_sql("SELECT count(*) FROM runs").item() == 3 * runs


def started(config: Config, runs: int, begin: int) -> subprocess.Popen[str]:
    """A writer of all runs."""
    module = "analytics_pipeline_tests.capabilities.object_writer"
    command = [sys.executable, "-m", module, json.dumps(config), str(runs), str(begin)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
