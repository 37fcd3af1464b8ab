"""A process that refreshes a dataset with cases and may be killed; see `sync.processes`."""

from __future__ import annotations

from pathlib import Path

from analytics_pipeline.store import open_store
from analytics_pipeline_tests.sync import processes
from analytics_pipeline_tests.sync.scenario import NOW, job_of


def refresh_until_killed(root: Path, url: str, step: int) -> None:
    """A refresh that is killed before the given call that changes the disk; ends by itself if there is none."""
    from analytics_pipeline_tests.human_signals.test_sync import with_cases  # noqa: PLC0415 - they import each other

    store = open_store(root)
    processes._kill_before(step)
    job_of(store, url, with_cases()).refresh(now=NOW)
