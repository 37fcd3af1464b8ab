"""Whatever happens in a source, in whatever order: a refresh that reports success has made the store equal to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from analytics_pipeline_tests.sync.refresh_model import SourceAndStore


def run(url: str, folder: Path, examples: int, steps: int, phases: Sequence[Phase]) -> None:
    numbered = (folder / str(number) / "store" for number in range(10**6))
    machine = type("Machine", (SourceAndStore,), {"url": url, "folders": numbered})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=Phase.shrink not in phases,
            database=None,
            phases=phases,
        ),
    )


def test_after_a_refresh_the_store_equals_the_source(postgres_url: str, tmp_path: Path) -> None:
    """Otherwise some history of inserts, late rows, moves and deletes leaves rows missing, stale or doubled."""
    run(postgres_url, tmp_path, examples=8, steps=8, phases=[Phase.generate])  # shrinking takes minutes


@pytest.mark.slow
def test_after_a_refresh_the_store_equals_the_source_at_length(postgres_url: str, tmp_path: Path) -> None:
    """As above, with histories that the build has no time for."""
    run(postgres_url, tmp_path, examples=300, steps=25, phases=[Phase.generate, Phase.shrink])
