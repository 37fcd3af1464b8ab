"""A base of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_pipeline.objects import Durability, using_base


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the base."""
    return tmp_path / "below" / "objects"


@pytest.fixture
def base(root: Path) -> Iterator[None]:
    """The base in charge for the length of a test."""
    with using_base(root, durability=Durability.CACHE):
        yield
