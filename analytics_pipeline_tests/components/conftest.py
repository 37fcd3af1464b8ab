"""Fixtures of the components: a source of orders, a home, an instance."""

from __future__ import annotations

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
