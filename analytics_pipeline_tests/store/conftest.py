"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from analytics_pipeline.store import Store, create_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store whose retired files have no grace."""
    store = create_store(tmp_path / "store", grace=timedelta(0))
    yield store
    store.close()
