"""What all benchmarks share: the machine in words, medians, and the section of docs/benchmarks.md that each one owns.

Belongs here: that. Does not: anything that is measured.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def median(values: Sequence[float]) -> float:
    """The median of several runs."""
    return statistics.median(values)


def machine() -> str:
    """The machine and the versions that matter, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "adbc-driver-postgresql", "dagster")
    )
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {packages}; {datetime.now(UTC):%Y-%m-%d}"
    )


def record(section: str, command: str, lines: Sequence[str]) -> None:
    """Print a section and put it in its place in docs/benchmarks.md."""
    text = "\n".join([f"`{command}` on {machine()}", "", *lines])
    print(text)
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    page = PAGE.read_text()
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"{PAGE} has no place for {section}: add the lines {begin} and {end}")
    PAGE.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page))
