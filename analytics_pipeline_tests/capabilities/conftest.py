"""Fixtures of the capability store's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline_tests.capabilities.nobody import nobody
from analytics_pipeline_tests.capabilities.scenario import BACKENDS, Make

__all__ = ["nobody"]


@pytest.fixture(params=BACKENDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes backends of one kind, all in the same place."""
    kind = BACKENDS[request.param]
    return lambda: kind(tmp_path)


@pytest.fixture
def store(make: Make) -> AnalyticsStore:
    """An empty store, over each backend that keeps the contract."""
    return AnalyticsStore(make())


@pytest.fixture
def backend(tmp_path: Path) -> ParquetBackend:
    """An empty folder of Parquet files."""
    return ParquetBackend(tmp_path / "capabilities")
