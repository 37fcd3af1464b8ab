"""The engine: what a refresh sees, what a replacement may not break, how specs and schemas change."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import (
    DataFileMissing,
    KeyInexact,
    KeysDoNotJoin,
    SourceReadFailed,
)
from analytics_pipeline.store import Store, open_store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.postgres import opening, snapshot
from analytics_pipeline.sync.postgres.failures import source_of
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.summary import summarize_view
from analytics_pipeline.sync.windows import REST
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    PAIR,
    RECORDS_OF_SOURCE,
    RECORDS_OF_STORE,
    asked_of,
    fill,
    job_of,
    keys,
    leavings,
    published,
    sessions,
    spec_of,
)

VIEW_ROWS = "SELECT dataset_id, metric, score, model_name FROM demo_data ORDER BY ALL"


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ("INSERT INTO records VALUES (5, '2024-01-05 12:00+00', 'equal')", ["2024-01-05"]),
        ("INSERT INTO records VALUES (5, '2024-01-02 08:00+00', 'late')", ["2024-01-02"]),
        ("INSERT INTO records VALUES (5, '2023-06-01', 'early')", [REST]),
        ("INSERT INTO records VALUES (5, '2024-02-01', 'future')", [REST]),
        ("INSERT INTO records VALUES (1, '2024-01-01 00:00+00', 'a')", ["2024-01-01"]),
        ("UPDATE records SET model = 'B' WHERE id = 2", ["2024-01-01"]),
        ("UPDATE records SET model = NULL WHERE id = 2", ["2024-01-01"]),
        ("UPDATE records SET created_at = '2024-01-03' WHERE id = 3", ["2024-01-03", "2024-01-05"]),
        ("UPDATE records SET created_at = NULL WHERE id = 3", ["2024-01-05", REST]),
        ("UPDATE records SET created_at = '2024-01-03' WHERE id = 4", ["2024-01-03", REST]),
        ("UPDATE records SET created_at = NULL WHERE id IN (1, 2)", ["2024-01-01", REST]),
        ("DELETE FROM records WHERE id = 3", ["2024-01-05"]),
        ("TRUNCATE records", ["2024-01-01", "2024-01-05", REST]),
    ],
)
def test_A3_a_refresh_sees_every_change_and_replaces_only_its_partitions(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, change: str, stale: list[str]
) -> None:
    """Otherwise equal timestamps, late rows, updates and deletes never arrive, as with `> watermark`."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, change)
    outcome = job.refresh(now=NOW)
    assert {half: keys(found.partitions) for half, found in outcome.halves.items()} == {Half.DATASET: stale}
    assert published(store, RECORDS_OF_STORE) == asked_of(postgres_url, RECORDS_OF_SOURCE)
    again = job.refresh(now=NOW)
    assert (again.halves, again.manifest.version) == ({}, outcome.manifest.version)


@pytest.mark.parametrize("moved_to", ["2024-01-01 12:00", "2024-01-09", "2023-01-01", "2024-03-01"])
@pytest.mark.parametrize("only", [None, "destination"])
def test_A4_a_touched_record_does_not_multiply_its_results(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, moved_to: str, only: str | None
) -> None:
    """Otherwise every average after an update counts the touched records twice."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    before = published(store, VIEW_ROWS)
    execute(postgres_url, f"UPDATE records SET created_at = '{moved_to}' WHERE id = 3")
    if only is None:
        job.refresh(now=NOW)
    else:
        key = moved_to[:10] if "2024-01-01" <= moved_to < "2024-01-11" else REST
        job.replace(Selection(partitions=frozenset({key})), now=NOW)
    assert published(store, VIEW_ROWS) == before


def test_doubled_records_are_joined_once_by_the_newest(postgres_url: str, store: Store) -> None:
    """Otherwise a source with two versions of a record doubles its results; and once it is clean the view is, too."""
    fill(postgres_url)
    execute(postgres_url, "INSERT INTO records VALUES (3, '2024-01-06', 'newest'), (3, NULL, 'no time')")
    told: list[str] = []
    job = job_of(store, postgres_url, log=told.append)
    job.refresh(now=NOW)
    assert [row for row in published(store, VIEW_ROWS) if row[0] == 3] == [(3, "m", None, "newest")]
    assert any("demo_dataset: some dataset_id have several rows; demo_data joins the newest" in line for line in told)
    execute(postgres_url, "DELETE FROM records WHERE model IN ('newest', 'no time')")
    job.refresh(now=NOW)
    assert store.manifest().views["demo_data"].newest_by is None


def test_a_row_that_left_the_rest_is_not_published_twice(postgres_url: str, store: Store) -> None:
    """Otherwise materialising today's partition doubles the rows that had been waiting for a time stamp."""
    fill(postgres_url)
    execute(postgres_url, "INSERT INTO scores VALUES (1, NULL, 'waiting', 1)")
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "UPDATE scores SET created_at = '2024-01-10' WHERE metric = 'waiting'")
    outcome = job.replace(Selection(partitions=frozenset({"2024-01-10"})), now=NOW)
    assert {half.value: keys(found.partitions) for half, found in outcome.halves.items()} == {
        "dataset": ["2024-01-10"],
        "results": ["2024-01-10", REST],
    }
    assert published(store, "SELECT count(*) FROM demo_results WHERE metric = 'waiting'") == [(1,)]


def test_a_clock_that_is_behind_does_not_publish_rows_twice(postgres_url: str, store: Store) -> None:
    """Otherwise two machines that disagree about midnight publish the first rows of a day twice."""
    fill(postgres_url)
    execute(postgres_url, "INSERT INTO records VALUES (5, '2024-01-10 00:00+00', 'first of the day')")
    job = job_of(store, postgres_url)
    job.refresh(now=datetime(2024, 1, 10, tzinfo=UTC))
    assert not job.refresh(now=datetime(2024, 1, 9, 23, 59, 59, tzinfo=UTC)).halves
    assert published(store, RECORDS_OF_STORE) == asked_of(postgres_url, RECORDS_OF_SOURCE)


def test_one_half_alone_is_replaced(postgres_url: str, store: Store) -> None:
    """Otherwise materialising one asset touches the other, whose history then lies."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    before = store.manifest().tables["demo_dataset"]
    execute(postgres_url, "DELETE FROM scores", "DELETE FROM records")
    outcome = job.replace(Selection(frozenset({Half.RESULTS})), now=NOW)
    assert list(outcome.halves) == [Half.RESULTS]
    assert outcome.manifest.tables["demo_dataset"] == before
    assert outcome.manifest.tables["demo_results"].rows == 0


def test_replacing_nothing_does_nothing(postgres_url: str, store: Store) -> None:
    """Otherwise an empty selection of a script means everything."""
    fill(postgres_url)
    outcome = job_of(store, postgres_url).replace(Selection(partitions=frozenset()), now=NOW)
    assert outcome.halves == {}
    assert store.manifest().version == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [("1", "4294967296"), ("30064771081", "38654705671")],
    ids=["a bit of the upper half", "halves that change places"],
)
def test_A3_an_update_between_values_that_postgres_hashes_alike_is_seen(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, before: str, after: str
) -> None:
    """Otherwise an identifier that packs two numbers is never updated: PostgreSQL folds bigint to 32 bits."""
    fill(postgres_url)
    execute(postgres_url, "ALTER TABLE records ADD packed bigint", f"UPDATE records SET packed = {before}")
    job_of(store, postgres_url).refresh(now=NOW)
    execute(postgres_url, f"UPDATE records SET packed = {after} WHERE id = 3")
    job_of(store, postgres_url).refresh(now=NOW)
    assert published(store, "SELECT packed FROM demo_dataset WHERE dataset_id = 3") == [(int(after),)]


def test_a_dataset_may_have_any_name_that_the_spec_allows(postgres_url: str, store: Store) -> None:
    """Otherwise a dataset named like one of the store's own locks waits for itself."""
    fill(postgres_url)
    job_of(store, postgres_url, spec_of(name="commit")).refresh(now=NOW)
    assert published(store, "SELECT count(*) FROM commit_data") == [(5,)]


def test_a_source_column_may_be_named_like_the_one_that_travels_along(postgres_url: str, store: Store) -> None:
    """Otherwise an unlucky name ends in an error that explains nothing, or in wrong fingerprints."""
    fill(postgres_url)
    execute(postgres_url, 'ALTER TABLE records ADD "__hash" text', "UPDATE records SET \"__hash\" = 'mine'")
    job_of(store, postgres_url).refresh(now=NOW)
    assert published(store, 'SELECT DISTINCT "__hash" FROM demo_dataset') == [("mine",)]
    assert job_of(store, postgres_url).refresh(now=NOW).halves == {}


def test_a_lost_or_cut_file_is_named_and_read_again(postgres_url: str, store: Store) -> None:
    """Otherwise a damaged disk is told as a query that took too long, and no refresh ever looks again."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    lost, cut = [file for file in store.manifest().live_files if "demo_dataset" in file.path][:2]
    (store.root / lost.path).unlink()
    (store.root / cut.path).write_bytes((store.root / cut.path).read_bytes()[:-1])
    with pytest.raises(DataFileMissing, match=r"is missing.*Refresh the dataset"):
        published(store, "SELECT * FROM demo_dataset")
    told: list[str] = []
    outcome = job_of(store, postgres_url, log=told.append).refresh(now=NOW)
    assert len(outcome.halves[Half.DATASET].partitions) == 2
    assert Half.RESULTS not in outcome.halves
    assert published(store, "SELECT count(*) FROM demo_data") == [(5,)]
    assert any("are lost or cut; they are read again" in line for line in told)


@pytest.mark.parametrize("half", ["dataset_query", "results_query"])
def test_a_key_that_would_be_inexact_is_refused(postgres_url: str, store: Store, half: str) -> None:
    """Otherwise 9007199254740993 joins the record of 9007199254740992."""
    fill(postgres_url)
    table = {"dataset_query": "records", "results_query": "scores"}[half]
    spec = spec_of(**{half: f"SELECT id::numeric AS id, created_at FROM {table}"})
    with pytest.raises(KeyInexact, match=r"Cast it in the query"):
        job_of(store, postgres_url, spec).refresh(now=NOW)


def test_halves_that_cannot_be_joined_are_refused(postgres_url: str, store: Store) -> None:
    """Otherwise the sync succeeds, and every query of the view fails."""
    fill(postgres_url)
    spec = spec_of(results_query="SELECT id::text AS id, created_at, metric, score FROM scores")
    with pytest.raises(KeysDoNotJoin, match="int64 in demo_dataset and string in demo_results"):
        job_of(store, postgres_url, spec).refresh(now=NOW)
    assert store.manifest().version == 0


def test_the_slowest_tier_syncs_where_the_fast_driver_cannot_connect(
    postgres_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the tier for poolers helps nobody behind one. No pooler here: its refusal is put in by hand."""

    def refuse(url: SecretStr) -> adbc.Connection:
        raise SourceReadFailed(str(source_of(url)), "the pooler does not know COPY")

    monkeypatch.setattr(snapshot, "connect_adbc", refuse)
    monkeypatch.setattr(opening, "connect_adbc", refuse)
    fill(postgres_url)
    told: list[str] = []
    outcome = job_of(store, postgres_url, log=told.append).refresh(now=NOW)
    assert {half.tier for half in outcome.halves.values()} == {Tier.CURSOR}
    assert any("the pooler does not know COPY" in line for line in told)
    assert published(store, "SELECT count(*) FROM demo_data") == [(5,)]


@pytest.mark.parametrize("tier", Tier)
def test_A2_rows_without_a_range_value_arrive(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, tier: Tier
) -> None:
    """Otherwise parallel ranges lose the rows whose partition column is NULL."""
    execute(postgres_url, *PAIR)
    execute(
        postgres_url,
        "INSERT INTO records SELECT g, '2024-01-03', CASE WHEN g % 3 > 0 THEN 'm' || g % 5 END "
        "FROM generate_series(1, 999) AS g",
        "INSERT INTO scores SELECT g, '2024-01-04', CASE WHEN g % 2 > 0 THEN 'x' END, g FROM generate_series(1, 99) g",
    )
    spec = spec_of(
        dataset_query="SELECT *, model AS cut FROM records", results_query="SELECT *, metric AS cut FROM scores"
    )
    spec = spec.model_copy(update={"partition_column": "cut", "sync_workers": 3})
    outcome = job_of(store, postgres_url, spec, tier=tier).refresh(now=NOW)
    assert {half.tier for half in outcome.halves.values()} == {tier}
    assert published(store, RECORDS_OF_STORE) == sorted(
        asked_of(postgres_url, RECORDS_OF_SOURCE), key=lambda row: (row[0], row[1])
    )
    assert not job_of(store, postgres_url, spec, tier=tier).refresh(now=NOW).halves


def test_A10_results_without_a_record_are_counted(postgres_url: str, store: Store) -> None:  # noqa: N802 - a finding's id
    """Otherwise they vanish from the inner join without a word."""
    fill(postgres_url)
    execute(postgres_url, "INSERT INTO scores VALUES (77, '2024-01-05', 'm', 1), (NULL, '2024-01-05', 'm', 1)")
    job_of(store, postgres_url).refresh(now=NOW)
    summary = summarize_view(store, spec_of())
    assert (summary.rows, summary.orphans) == (5, 2)
    outer = spec_of(join="left")
    assert job_of(store, postgres_url, outer).refresh(now=NOW).halves == {}
    summary = summarize_view(store, outer)
    assert (summary.rows, summary.orphans) == (7, 2)


def test_A10_columns_go_by_name_not_by_position(postgres_url: str, store: Store) -> None:  # noqa: N802 - a finding's id
    """Otherwise a query whose columns were reordered puts names into the column of models."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    before = published(store, RECORDS_OF_STORE)
    spec = spec_of(dataset_query="SELECT model, created_at, id FROM records")
    assert keys(job_of(store, postgres_url, spec).refresh(now=NOW).halves[Half.DATASET].partitions)
    assert published(store, RECORDS_OF_STORE) == before


def test_A11_nested_values_and_empty_columns_have_types(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store
) -> None:
    """Otherwise the API fails on a dict, and a column without values changes its type with its first one."""
    query = (
        "SELECT id, created_at, jsonb_build_object('a', ARRAY[1, NULL], 'b', NULL) AS nested, "
        "NULL::numeric(8,2) AS none, NULL::jsonb AS no_json, NULL::int[] AS no_list, "
        "ARRAY['x', NULL] AS list FROM records"
    )
    fill(postgres_url)
    job_of(store, postgres_url, spec_of(dataset_query=query)).refresh(now=NOW)
    types = published(store, "SELECT column_name, column_type FROM (DESCRIBE demo_dataset)")
    assert dict(types) == {
        "dataset_id": "BIGINT",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "nested": "VARCHAR",
        "none": "DECIMAL(8,2)",
        "no_json": "VARCHAR",
        "no_list": "INTEGER[]",
        "list": "VARCHAR[]",
    }
    assert published(store, "SELECT DISTINCT nested, list FROM demo_dataset") == [
        ('{"a": [1, null], "b": null}', ["x", None])
    ]


def test_A9_a_commit_holds_both_halves_of_one_moment(postgres_url: str, store: Store) -> None:  # noqa: N802
    """Otherwise readers see results whose record is still to come."""
    fill(postgres_url)
    outcome = job_of(store, postgres_url).refresh(now=NOW)
    assert outcome.manifest.version == 1
    ids = {part.sync_id for table in outcome.manifest.tables.values() for part in table.partitions.values()}
    assert ids == {outcome.sync_id}


def test_a_finished_sync_leaves_nothing_behind(postgres_url: str, store: Store) -> None:
    """Otherwise connections and folders pile up over a thousand refreshes."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    for _ in range(3):
        job.refresh(now=NOW)
        job.replace(Selection(), now=NOW)
    assert sessions(postgres_url) == 0
    assert leavings(store) == set()


def test_a_moved_store_is_synced_on(postgres_url: str, store: Store, tmp_path: Path) -> None:
    """Otherwise a restored backup has to be filled again from the start."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    moved = store.root.rename(tmp_path / "moved")
    execute(postgres_url, "INSERT INTO records VALUES (5, '2024-01-02', 'e')")
    other = open_store(moved)
    assert keys(job_of(other, postgres_url).refresh(now=NOW).halves[Half.DATASET].partitions) == ["2024-01-02"]
    assert published(other, RECORDS_OF_STORE) == asked_of(postgres_url, RECORDS_OF_SOURCE)
    other.close()
