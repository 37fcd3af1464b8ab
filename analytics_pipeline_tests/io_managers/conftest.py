"""Where the objects of a test are kept."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the base."""
    return tmp_path / "below" / "objects"
