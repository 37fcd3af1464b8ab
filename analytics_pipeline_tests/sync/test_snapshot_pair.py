"""One snapshot: a result is never published without its record, however busy the source is."""

from __future__ import annotations

import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.spec import Half
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.processes import PAIRS_AT_START, context, start, write_pairs
from analytics_pipeline_tests.sync.scenario import NOW, PAIR, UNPARTITIONED, asked_of, job_of, published, spec_of
from analytics_pipeline_tests.thinning import thinned

TORN = """
SELECT count(*) FROM demo_results AS r
WHERE NOT EXISTS (SELECT 1 FROM demo_dataset AS d WHERE d.dataset_id = r.dataset_id)
   OR (SELECT count(*) FROM demo_results AS other WHERE other.dataset_id = r.dataset_id) <> 2
"""
LONELY = """
SELECT count(*) FROM demo_dataset AS d
WHERE (SELECT count(*) FROM demo_results AS r WHERE r.dataset_id = d.dataset_id) <> 2
"""


@pytest.mark.parametrize("syncs", [5, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", thinned(["daily", "unpartitioned", "parallel"], 3))
def test_A9_a_result_is_never_published_without_its_record(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, shape: str, syncs: int
) -> None:
    """Otherwise a busy source shows results whose record comes later, and an empty half beside a full one."""
    execute(postgres_url, *PAIR)
    execute(
        postgres_url,
        f"INSERT INTO records SELECT g, '2024-01-02', 'old' FROM generate_series(1, {PAIRS_AT_START}) g",
        "INSERT INTO scores SELECT id, created_at, m, 0 FROM records, unnest(ARRAY['x', 'y']) AS m",
    )
    changes = {"daily": {}, "unpartitioned": UNPARTITIONED, "parallel": {"partition_column": "id"}}
    job = job_of(store, postgres_url, spec_of(**changes[shape]))
    stop, begun = context().Event(), context().Event()
    writer = start(write_pairs, postgres_url, stop, begun)
    seen = set()
    try:
        assert begun.wait(60)
        for number in range(syncs):
            outcome = job.refresh(now=NOW) if number % 3 else job.replace(Selection(), now=NOW)
            assert published(store, TORN) == [(0,)]
            assert published(store, LONELY) == [(0,)]
            seen.add(outcome.manifest.tables["demo_dataset"].rows)
        assert writer.is_alive()
    finally:
        stop.set()
        writer.join()
    assert writer.exitcode == 0
    assert len(seen) > 1, "the writer wrote meanwhile"
    job.refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_dataset") == asked_of(
        postgres_url, "SELECT count(*) FROM records"
    )
    assert list(job.replace(Selection(), now=NOW).halves) == list(Half)
