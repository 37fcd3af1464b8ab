"""The memory that a piece of code takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from analytics_pipeline_tests.workplace import REPOSITORY

_FRAME = """
from analytics_pipeline_tests.memory import peak

before = peak()

def baseline():
    global before
    before = peak()

"""


def peak_of(code: str) -> int:
    """The bytes by which its peak rises above what it had when it called `baseline()`."""
    script = f"{_FRAME}{textwrap.dedent(code)}\nprint(peak() - before)"
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    return int(found.stdout)
