"""The column that splits a read is named for each half, and refused early where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from analytics_pipeline.errors import ColumnMissing, PartitionColumnUnfit
from analytics_pipeline.store import Store
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.spec import Half
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, spec_of


def test_one_name_stands_for_both_halves_and_each_may_have_its_own() -> None:
    """Otherwise a dataset whose halves have no column in common cannot be read in parallel."""
    assert [spec_of(partition_column="id").split_by(half) for half in Half] == ["id", "id"]
    assert [spec_of(partition_column={"results": "id"}).split_by(half) for half in Half] == [None, "id"]
    assert [spec_of().split_by(half) for half in Half] == [None, None]
    with pytest.raises(ValidationError, match="for each half"):
        spec_of(partition_column={"records": "id"})


def test_each_half_is_split_by_its_own_column_before_normalisation(postgres_url: str, store: Store) -> None:
    """Otherwise one of the halves is read by a single connection."""
    fill(postgres_url)
    spec = spec_of(partition_column={"dataset": "model", "results": "metric"})
    outcome = job_of(store, postgres_url, spec).refresh(now=NOW)
    assert {half.tier for half in outcome.halves.values()} == {Tier.PARALLEL}


def test_a_half_without_a_partition_column_is_read_by_one_stream(postgres_url: str, store: Store) -> None:
    """Otherwise the column has to exist where it is not wanted."""
    fill(postgres_url)
    outcome = job_of(store, postgres_url, spec_of(partition_column={"results": "metric"})).refresh(now=NOW)
    assert {half.table: half.tier for half in outcome.halves.values()} == {
        "demo_dataset": Tier.STREAM,
        "demo_results": Tier.PARALLEL,
    }


@pytest.mark.parametrize(
    ("column", "error", "words"),
    [
        ("tags", PartitionColumnUnfit, r"demo_dataset: the partition_column 'tags' is of type text\[\]"),
        ("doc", PartitionColumnUnfit, "'doc' is of type json"),
        ("dataset_id", ColumnMissing, "dataset_id"),
    ],
)
def test_a_partition_column_that_cannot_split_is_refused_by_name_before_any_row(
    postgres_url: str, store: Store, column: str, error: Any, words: str
) -> None:
    """Otherwise the read fails half-way with words of the driver."""
    fill(postgres_url)
    execute(postgres_url, "ALTER TABLE records ADD tags text[], ADD doc json")
    with pytest.raises(error, match=words):
        job_of(store, postgres_url, spec_of(partition_column={"dataset": column})).refresh(now=NOW)
