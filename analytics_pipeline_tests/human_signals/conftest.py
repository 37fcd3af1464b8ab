"""Fixtures of the tests of cases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_pipeline.store import Store, create_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    store = create_store(tmp_path / "store")
    yield store
    store.close()
