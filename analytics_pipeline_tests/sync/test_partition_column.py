"""The column that splits a read is named for each half, and refused early where it cannot."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from analytics_pipeline.errors import ColumnMissing
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


@pytest.mark.parametrize(("column", "type_"), [("tags", r"text[]"), ("doc", "json")])
def test_a_partition_column_that_cannot_split_is_read_by_one_stream_and_named(
    postgres_url: str, store: Store, column: str, type_: str
) -> None:
    """A column that only makes a read faster may not make it fail."""
    fill(postgres_url)
    execute(postgres_url, "ALTER TABLE records ADD tags text[], ADD doc json")
    log: list[str] = []
    job = job_of(store, postgres_url, spec_of(partition_column={"dataset": column}), log=log.append)

    assert job.refresh(now=NOW).halves[Half.DATASET].tier is Tier.STREAM
    assert [line for line in log if f"of type {type_}, by which no read can be split" in line]


def test_a_partition_column_that_the_query_does_not_give_is_refused_by_name(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    with pytest.raises(ColumnMissing, match="dataset_id"):
        job_of(store, postgres_url, spec_of(partition_column={"dataset": "dataset_id"})).refresh(now=NOW)
