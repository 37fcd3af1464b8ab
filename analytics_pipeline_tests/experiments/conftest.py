"""Fixtures of the lakehouse's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A lakehouse whose path has a quote and a space in it."""
    return tmp_path / "it's my home" / "lake house"
