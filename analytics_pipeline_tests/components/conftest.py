"""Fixtures of the components: a source of orders, a home, an instance."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.settings import SOURCE_URL_VARIABLES
from analytics_pipeline.store import Store, create_store
from analytics_pipeline_tests.components import scenario


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own."""
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    for variable in SOURCE_URL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


@pytest.fixture
def orders_url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The source of the orders."""
    scenario.create_source(postgres_url)
    monkeypatch.setenv(scenario.URL, postgres_url)
    return postgres_url


@pytest.fixture
def store(home: Path) -> Store:
    """The published store of that home."""
    return create_store(home / "store")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A source that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/db"


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, as ticks need one: they open it anew."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}}
    ) as instance:
        yield instance
