"""Histories that the model test found: few steps in an order that nobody had thought of."""

from __future__ import annotations

import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.spec import Half
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, published, spec_of

RESULTS = Selection(frozenset({Half.RESULTS}))


@pytest.mark.parametrize("first", [Selection(), Selection(frozenset({Half.DATASET}))], ids=["both", "records alone"])
def test_a_half_is_replaced_after_the_spec_renamed_the_time_of_both(
    postgres_url: str, store: Store, first: Selection
) -> None:
    """Otherwise the sync asks the half that stays for a column which that does not have yet, and fails."""
    fill(postgres_url)
    execute(postgres_url, "INSERT INTO records VALUES (3, '2024-01-06', 'newest'), (3, '2024-01-02', 'older')")
    job_of(store, postgres_url).replace(first, now=NOW)
    renamed = spec_of(columns={"created_at": "moment"})
    job_of(store, postgres_url, renamed).replace(RESULTS, now=NOW)
    assert published(store, "SELECT model_name FROM demo_data WHERE dataset_id = 3") == [("newest",)]
    metadata = store.manifest().metadata
    assert metadata["demo_dataset"].value["watermark"] == "2024-01-06T00:00:00+00:00"
    assert metadata["demo_results"].value["watermark"] == "2024-01-09T00:00:00+00:00"
    assert job_of(store, postgres_url, renamed).refresh(now=NOW).halves.keys() == {Half.DATASET}
