"""Content equals source: every common Postgres type with its edge values through whole syncs, by every tier."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from analytics_pipeline.store import create_store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.sync.scenario import NOW, asked_of, job_of, published, spec_of
from analytics_pipeline_tests.sync.test_postgres_types import NAMED, Case, Mirrored, mirrored

__all__ = ["mirrored"]  # a fixture

QUERY = "SELECT n AS dataset_id, timestamptz '2024-01-01' + n * interval '11 hours' AS happened, * FROM edge"
SPEC = spec_of(
    dataset_query=QUERY,
    results_query=QUERY,
    normalize="none",
    incremental_column="happened",
    partition_column="n",
    sync_chunk_size=100,
)


def expected(url: str, name: str, case: Case) -> Sequence[object]:
    """What the rules of test_postgres_types make of the source's own print."""
    rows = asked_of(
        url, f"SELECT {case.printed.replace('{v}', name)}, {name} IS NOT DISTINCT FROM NULL FROM edge ORDER BY n"
    )
    printed = [None if missing else case.finish(value) for value, missing in rows]
    return [
        case.becomes.get(case.values[n], value) if n < len(case.values) else None for n, value in enumerate(printed)
    ]


@pytest.mark.parametrize("tier", Tier)
def test_the_store_holds_what_postgres_holds_cell_by_cell(
    mirrored: Mirrored,
    tmp_path: Path,
    tier: Tier,
) -> None:
    """Otherwise a value is right in the reader's tests, and wrong after hashing, cutting, Parquet and the catalog."""
    store = create_store(tmp_path / "store")
    job = job_of(store, mirrored.url, SPEC, tier=tier)
    for sync in (partial(job.replace, Selection()), job.refresh):
        sync(now=NOW)
        for name, case in NAMED:
            for table in ("demo_dataset", "demo_results"):
                query = f"SELECT {case.stored.replace('{v}', name)} AS value FROM {table} ORDER BY n"
                found = [case.finish(value) for (value,) in published(store, query)]
                assert found == expected(mirrored.url, name, case), (case.sql, table)
    store.close()


@pytest.mark.parametrize("tier", Tier)
def test_fingerprints_on_the_way_equal_those_of_the_source(
    mirrored: Mirrored,
    tmp_path: Path,
    tier: Tier,
) -> None:
    """Otherwise a column of some type makes every partition stale for ever."""
    store = create_store(tmp_path / "store")
    version = job_of(store, mirrored.url, SPEC, tier=tier).refresh(now=NOW).manifest.version
    for other in Tier:
        outcome = job_of(store, mirrored.url, SPEC, tier=other).refresh(now=NOW)
        assert (outcome.halves, outcome.manifest.version) == ({}, version)
    store.close()
