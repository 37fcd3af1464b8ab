"""Another user of the machine, who may read what he was given, and write nothing.

Belongs here: processes of his. Does not: what he is shown.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from analytics_pipeline_tests.workplace import REPOSITORY

NOBODY = 65534


def as_nobody(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def nobody() -> None:
    """Skips where no other user can be, or where he may not read Python itself: below a private home, say."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    try:
        probe = as_nobody("import analytics_pipeline_tests.capabilities.scenario")
    except OSError as error:
        pytest.skip(f"another user may not run this Python: {error}")
    if probe.returncode:
        pytest.skip(f"another user may not read this project: {probe.stderr.splitlines()[-1:]}")
