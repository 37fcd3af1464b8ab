"""Fixtures shared by all tests: one real Postgres a worker, one empty database a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from analytics_pipeline.sample import sources
from analytics_pipeline.sample.lease import Lease
from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline_tests.servers.postgres import chosen_server, new_database, open_folder
from analytics_pipeline_tests.workplace import Workplace

pytest_plugins = ["analytics_pipeline_tests.servers.fixtures"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A running PostgreSQL that other accounts can reach, too; yields the URL of its `postgres` database."""
    with open_folder() as folder:
        server = chosen_server(folder / "data")
        server.start()
        yield server.url("postgres").get_secret_value()
        server.stop()


@pytest.fixture
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server of the test's own, which it may stop, crash and start again as it likes."""
    with open_folder() as folder:
        server = chosen_server(folder / "data")
        server.start()
        yield server
        server.stop("immediate")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new, empty database that is dropped afterwards."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def sample_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The sources' three variables with the URLs of small, filled sample databases; tests may not change their rows."""
    with Lease(tmp_path_factory.mktemp("sample") / "data") as lease:
        for source in sources.SOURCES.values():
            sources._ensure_filled(lease.server, source, 0.02)
        yield {
            variable: lease.server.url(database).get_secret_value()
            for variable, database in sources.OF_VARIABLE.items()
        }


@pytest.fixture
def workplace(tmp_path: Path, sample_urls: Mapping[str, str]) -> Workplace:
    """A working folder with the shipped `dagster.yaml` and `workspace.yaml`, its own home, and the sample's URLs."""
    return Workplace(tmp_path / "workplace", sample_urls)
