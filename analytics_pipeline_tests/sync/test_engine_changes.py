"""Syncs of a source or a spec that has changed its shape: columns, types, partitions, the join."""

from __future__ import annotations

import itertools

import pytest

from analytics_pipeline.errors import (
    IncompatibleColumn,
    SourceQueryRefused,
)
from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.windows import WHOLE
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    PAIR,
    RECORDS_OF_SOURCE,
    RECORDS_OF_STORE,
    UNPARTITIONED,
    asked_of,
    content,
    fill,
    job_of,
    keys,
    leavings,
    published,
    spec_of,
)
from analytics_pipeline_tests.thinning import thinned


def test_an_unpartitioned_dataset_is_replaced_whole(postgres_url: str, store: Store) -> None:
    """Otherwise a source without times cannot be mirrored."""
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(**UNPARTITIONED))
    outcome = job.refresh()
    assert [keys(half.partitions) for half in outcome.halves.values()] == [[WHOLE], [WHOLE]]
    assert not job.refresh().halves
    execute(postgres_url, "UPDATE records SET model = 'z' WHERE id = 1", "DELETE FROM records WHERE id = 2")
    assert list(job.refresh().halves) == [Half.DATASET]
    assert published(store, "SELECT model_name FROM demo_dataset ORDER BY ALL") == [("c",), ("d",), ("z",)]
    assert not job.refresh().halves


@pytest.mark.parametrize("spec", [spec_of(), spec_of(**UNPARTITIONED)], ids=["daily", "unpartitioned"])
def test_an_empty_source_is_a_table_without_rows(postgres_url: str, store: Store, spec: object) -> None:
    """Otherwise dashboards over a new source fail until its first row."""
    execute(postgres_url, *PAIR)
    job = job_of(store, postgres_url, spec_of(**UNPARTITIONED) if spec != spec_of() else spec_of())
    job.refresh(now=NOW)
    assert published(store, "SELECT count(*), any_value(metric) FROM demo_data") == [(0, None)]
    assert not job.refresh(now=NOW).halves
    execute(postgres_url, "INSERT INTO records VALUES (1, '2024-01-02', 'a')", "TRUNCATE scores")
    job.refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_dataset") == [(1,)]


def test_a_query_without_columns_is_refused(postgres_url: str, store: Store) -> None:
    """Otherwise it fails somewhere inside a driver."""
    fill(postgres_url)
    with pytest.raises(SourceQueryRefused, match="it gives no columns"):
        job_of(store, postgres_url, spec_of(dataset_query="SELECT FROM records")).refresh(now=NOW)


def test_an_added_column_appears_and_a_removed_one_stays(postgres_url: str, store: Store) -> None:
    """Otherwise a migration of the source breaks every dashboard that names the old column."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "ALTER TABLE records ADD COLUMN region text", "UPDATE records SET region = 'eu' WHERE id = 1")
    job.refresh(now=NOW)
    assert published(store, "SELECT dataset_id, region FROM demo_dataset ORDER BY 1 LIMIT 2") == [(1, "eu"), (2, None)]
    execute(postgres_url, "ALTER TABLE records DROP COLUMN model")
    job.refresh(now=NOW)
    assert published(store, "SELECT model_name, region FROM demo_dataset ORDER BY dataset_id LIMIT 1") == [(None, "eu")]
    assert not job.refresh(now=NOW).halves


def test_a_wider_type_widens_the_published_column(postgres_url: str, store: Store) -> None:
    """Otherwise an int that became a bigint ends the syncs of its table."""
    execute(postgres_url, *PAIR, "ALTER TABLE records ADD COLUMN n int, ADD COLUMN price numeric(6,2)")
    execute(postgres_url, "INSERT INTO records VALUES (1, '2024-01-02', 'a', 1, 1.5)")
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "ALTER TABLE records ALTER n TYPE bigint, ALTER price TYPE numeric(12,4)")
    execute(postgres_url, "INSERT INTO records VALUES (2, '2024-01-03', 'b', 5000000000, 2.1234)")
    job.refresh(now=NOW)
    assert published(store, "SELECT n, price::VARCHAR, typeof(price) FROM demo_dataset ORDER BY 1") == [
        (1, "1.5000", "DECIMAL(12,4)"),
        (5000000000, "2.1234", "DECIMAL(12,4)"),
    ]


def test_an_incompatible_type_stops_the_sync_and_changes_nothing(postgres_url: str, store: Store) -> None:
    """Otherwise numbers turn into texts under a running dashboard; a rebuild is how to say that this is wanted."""
    execute(postgres_url, *PAIR, "ALTER TABLE records ADD COLUMN n int", "INSERT INTO records VALUES (1, NULL, 'a', 7)")
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    before = content(store)
    execute(postgres_url, "ALTER TABLE records ALTER n TYPE text")
    for attempt in (job.refresh, lambda now: job.replace(Selection(), now=now)):
        with pytest.raises(IncompatibleColumn, match=r"demo_dataset\.n is INTEGER, the source now gives VARCHAR"):
            attempt(now=NOW)
        assert content(store) == before
        assert leavings(store) == set()
    job.rebuild(now=NOW)
    assert published(store, "SELECT n FROM demo_dataset") == [("7",)]
    assert not job.refresh(now=NOW).halves


CHANGED_SPECS = {
    "query": {"dataset_query": "SELECT * FROM records WHERE id < 4"},
    "later start": {"start": "2024-01-03"},
    "earlier start": {"start": "2023-12-01"},
    "finer grain": {"partitions": "hourly"},
    "coarser grain": {"partitions": "monthly"},
    "weeks": {"partitions": "weekly"},
    "zone": {"timezone": "Asia/Tokyo"},
    "no partitions": UNPARTITIONED,
}


@pytest.mark.parametrize(("change", "how"), thinned(itertools.product(CHANGED_SPECS, ["refresh", "one partition"]), 3))
def test_a_changed_spec_is_one_full_rebuild(postgres_url: str, store: Store, change: str, how: str) -> None:
    """Otherwise partitions of two geometries overlap, and every sync from then on is refused."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    spec = spec_of(**CHANGED_SPECS[change])
    job, version = job_of(store, postgres_url, spec), store.manifest().version
    if how == "refresh" or change == "no partitions":
        job.refresh(now=NOW)
    else:
        key = {"finer grain": "2024-01-05-12:00", "coarser grain": "2024-01-01", "weeks": "2024-01-01"}
        job.replace(Selection(partitions=frozenset({key.get(change, "2024-01-05")})), now=NOW)
    assert store.manifest().version == version + 1
    where = " WHERE id < 4" if change == "query" else ""
    assert published(store, RECORDS_OF_STORE) == asked_of(
        postgres_url, f"SELECT id, created_at, model FROM records{where} ORDER BY 1"
    )
    table = store.manifest().tables["demo_dataset"]
    assert len({partition.spec_hash for partition in table.partitions.values()}) == 1
    assert not job.refresh(now=NOW).halves
    job_of(store, postgres_url).refresh(now=NOW)
    assert published(store, RECORDS_OF_STORE) == asked_of(postgres_url, RECORDS_OF_SOURCE)


def test_a_changed_join_is_published_without_reading(postgres_url: str, store: Store) -> None:
    """Otherwise `join: left` has no effect until the source happens to change."""
    fill(postgres_url)
    execute(postgres_url, "DELETE FROM records WHERE id = 1")
    job_of(store, postgres_url).refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM demo_data") == [(3,)]
    job = job_of(store, postgres_url, spec_of(join="left"))
    assert job.refresh(now=NOW).halves == {}
    assert published(store, "SELECT count(*) FROM demo_data") == [(5,)]
    version = store.manifest().version
    assert job.refresh(now=NOW).manifest.version == version
