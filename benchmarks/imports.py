"""What loading the code location costs, in processes of its own, beside `import dagster` alone."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from harness import record

RUNS = 5
STATEMENTS = {
    "nothing": "pass",
    "dagster": "import dagster",
    "the code location": "import analytics_pipeline.definitions",
    "the engine, as a run does": "import analytics_pipeline.definitions, analytics_pipeline.sync.engine",
    "everything, with summaries and sample": (
        "import analytics_pipeline.definitions, analytics_pipeline.sync.engine, "
        "analytics_pipeline.sync.summary, analytics_pipeline.sample.sources"
    ),
}


def seconds(statement: str) -> float:
    """Wall time of a fresh process that runs a statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, and write the section `imports` of docs/benchmarks.md."""
    measured: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(RUNS):  # in turns, so that a slow moment of the machine hits all of them
        for name, statement in STATEMENTS.items():
            measured[name].append(seconds(statement))
    medians = {name: statistics.median(times) for name, times in measured.items()}
    lines = [
        f"Fresh processes, in seconds; median of {RUNS}",
        "",
        "| import | whole process | over dagster |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {median:.2f} | {median - medians['dagster']:+.2f} |" for name, median in medians.items()]
    record("imports", "make bench", lines)


if __name__ == "__main__":
    main()
