"""Findings of systems like this one that only a whole sync shows; the others stand beside what keeps them away.

`docs/lessons.md` lists them all.
"""

from __future__ import annotations

from typing import Any

import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, published, spec_of


@pytest.mark.parametrize(
    ("changes", "tier"), [({}, Tier.STREAM), ({"partition_column": "id"}, Tier.PARALLEL)], ids=["stream", "parallel"]
)
def test_A1_a_sync_takes_the_fastest_tier_that_its_spec_allows(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, changes: dict[str, Any], tier: Tier
) -> None:
    """Otherwise every sync is as slow as the slowest tier, for an error that nobody ever sees."""
    fill(postgres_url)
    told: list[str] = []
    outcome = job_of(store, postgres_url, spec_of(**changes), log=told.append).refresh(now=NOW)
    assert {half.tier for half in outcome.halves.values()} == {tier}
    assert not [line for line in told if "going on by" in line]
    assert published(store, "SELECT count(*) FROM demo_data") == [(5,)]
