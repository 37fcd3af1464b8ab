"""Kinds of fingerprint: both see every change; an audit sees what row versions cannot; unstable queries are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from analytics_pipeline.errors import DuplicateKeys, UnstableQuery, XminUnfit
from analytics_pipeline.store import Change, Store, TableChange
from analytics_pipeline.sync.checks import Check
from analytics_pipeline.sync.spec import FingerprintKind, Half
from analytics_pipeline.sync.windows import REST
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    PAIR,
    ROW_VERSIONS,
    asked_of,
    content,
    fill,
    job_of,
    published,
    spec_of,
)

KINDS = [pytest.param({}, id="checksum"), pytest.param(ROW_VERSIONS, id="xmin")]
UNLOGGED_ALTER = (
    "ALTER TABLE records ADD COLUMN extra int DEFAULT 1",
    "ALTER TABLE records DROP COLUMN extra",
    "ALTER TABLE records ADD COLUMN extra int DEFAULT 2",
)


def test_row_versions_are_kept_beside_the_checksum(postgres_url: str, store: Store) -> None:
    """Otherwise an audit of such a dataset has nothing to compare with."""
    fill(postgres_url)
    job_of(store, postgres_url, spec_of(**ROW_VERSIONS)).refresh(now=NOW)
    for table in store.manifest().tables.values():
        for partition in table.partitions.values():
            assert re.fullmatch(r"xmin:(\d+):[0-9a-f]{16} checksum:\1:[0-9a-f]{16}", partition.fingerprint or "")


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ("INSERT INTO records VALUES (5, '2024-01-05 12:00+00', 'equal')", {"2024-01-05"}),
        ("INSERT INTO records VALUES (5, '2023-06-01', 'early')", {REST}),
        ("UPDATE records SET model = 'B' WHERE id = 2", {"2024-01-01"}),
        ("UPDATE records SET created_at = '2024-01-03' WHERE id = 3", {"2024-01-03", "2024-01-05"}),
        ("UPDATE records SET created_at = NULL WHERE id = 3", {"2024-01-05", REST}),
        ("DELETE FROM records WHERE id = 3", {"2024-01-05"}),
        ("TRUNCATE records", {"2024-01-01", "2024-01-05", REST}),
    ],
)
def test_A3_row_versions_see_every_change(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, change: str, stale: set[str]
) -> None:
    """Otherwise the cheap kind loses what the thorough one sees."""
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(**ROW_VERSIONS))
    job.refresh(now=NOW)
    execute(postgres_url, change)
    outcome = job.refresh(now=NOW)
    assert {half: set(found.partitions) for half, found in outcome.halves.items()} == {Half.DATASET: stale}
    assert published(store, "SELECT dataset_id, model_name FROM demo_dataset ORDER BY ALL") == asked_of(
        postgres_url, "SELECT id, model FROM records ORDER BY id, model"
    )


def test_a_column_made_anew_is_read_again_although_no_row_version_moved(postgres_url: str, store: Store) -> None:
    """PostgreSQL adds a column with a default without writing a row."""
    fill(postgres_url)
    execute(postgres_url, UNLOGGED_ALTER[0])
    job = job_of(store, postgres_url, spec_of(**ROW_VERSIONS))
    job.refresh(now=NOW)
    execute(postgres_url, *UNLOGGED_ALTER[1:])
    job.refresh(now=NOW)
    assert published(store, "SELECT DISTINCT extra FROM demo_dataset") == [(2,)]


def test_an_audit_replaces_and_reports_what_row_versions_did_not_show(postgres_url: str, store: Store) -> None:
    """Whatever makes versions lie must come out at night, by partition, and be healed."""
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(**ROW_VERSIONS))
    job.refresh(now=NOW)
    publish_another_checksum(store, "demo_results", "2024-01-05")
    assert not job.refresh(now=NOW).halves
    outcome = job.audit(now=NOW)
    assert {half: set(found.partitions) for half, found in outcome.halves.items()} == {Half.RESULTS: {"2024-01-05"}}
    failed = [check for check in outcome.checks if not check.passed and check.name is Check.EQUALS_SOURCE]
    assert [check.table for check in failed] == ["demo_results"]
    assert "2024-01-05" in failed[0].description
    assert not [check for check in job.audit(now=NOW).checks if check.name is Check.EQUALS_SOURCE and not check.passed]


def publish_another_checksum(store: Store, name: str, key: str) -> None:
    """As if these rows had been read when they were others, under the row versions of now."""
    table = store.manifest().tables[name]
    partition = table.partitions[key]
    xmin = (partition.fingerprint or "").split()[0]
    other = replace(partition, fingerprint=f"{xmin} checksum:{partition.rows}:{0:016x}")
    with store.stage("another-checksum") as stage:
        store.commit(stage, Change([TableChange(name, table.columns, [other])]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_kind_reads_everything_once(postgres_url: str, store: Store, kind: dict[str, object]) -> None:
    """Fingerprints of two kinds cannot be compared."""
    fill(postgres_url)
    other = {} if kind else ROW_VERSIONS
    job_of(store, postgres_url, spec_of(**other)).refresh(now=NOW)
    job = job_of(store, postgres_url, spec_of(**kind))
    assert set(job.refresh(now=NOW).halves) == set(Half)
    assert not job.refresh(now=NOW).halves
    kinds = {token.split(":")[0] for token in fingerprint_of(store).split()}
    assert kinds == ({"xmin", "checksum"} if kind else {"checksum"})


def fingerprint_of(store: Store) -> str:
    return next(iter(store.manifest().tables["demo_dataset"].partitions.values())).fingerprint or ""


def test_row_versions_are_refused_where_they_do_not_stand_for_the_row(postgres_url: str, store: Store) -> None:
    """A filter or a join changes what a row shows without a new version of it."""
    fill(postgres_url)
    spec = spec_of(**ROW_VERSIONS, dataset_query="SELECT * FROM records WHERE id > 0")
    with pytest.raises(XminUnfit, match="checksum"):
        job_of(store, postgres_url, spec).refresh(now=NOW)


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("SELECT id, created_at, model, random() AS luck FROM records", "random"),
        ("SELECT id, created_at, clock_timestamp()::text AS model FROM records", "clock_timestamp"),
        ("SELECT id, created_at, model, now() AS read_at FROM records", "now"),
    ],
)
def test_an_unstable_query_is_refused_by_name_at_its_first_sync(
    postgres_url: str, store: Store, query: str, cause: str
) -> None:
    """Otherwise it is read again for ever, and nobody knows why."""
    fill(postgres_url)
    before = content(store)
    with pytest.raises(UnstableQuery, match=cause):
        job_of(store, postgres_url, spec_of(dataset_query=query)).refresh(now=NOW)
    assert content(store) == before


def test_a_limit_that_cuts_another_way_each_time_is_refused(postgres_url: str, store: Store) -> None:
    """PostgreSQL begins a second scan of a large table where the first one is."""
    execute(postgres_url, *PAIR, "INSERT INTO records SELECT g, '2024-01-02', 'm' FROM generate_series(1, 100) g")
    query = "SELECT * FROM (SELECT * FROM records ORDER BY random() LIMIT 5) AS part"
    with pytest.raises(UnstableQuery, match=r"LIMIT|random"):
        job_of(store, postgres_url, spec_of(dataset_query=query)).refresh(now=NOW)


def test_a_doubtful_query_that_gives_the_same_answer_is_mirrored(postgres_url: str, store: Store) -> None:
    """LIMIT without a total order over a table that is always read in one order does no harm."""
    fill(postgres_url)
    query = "SELECT * FROM (SELECT * FROM records LIMIT 3) AS part"
    outcome = job_of(store, postgres_url, spec_of(dataset_query=query)).refresh(now=NOW)
    assert outcome.halves[Half.DATASET].rows == 3


@pytest.mark.parametrize("kind", [FingerprintKind.CHECKSUM, FingerprintKind.XMIN])
def test_rows_that_share_a_declared_key_stop_the_commit(postgres_url: str, store: Store, kind: FingerprintKind) -> None:
    """Readers never see a key twice that the owner of the data calls unique."""
    fill(postgres_url)
    extra = ROW_VERSIONS if kind is FingerprintKind.XMIN else {}
    job = job_of(store, postgres_url, spec_of(primary_key={"dataset": "id"}, **extra))
    job.refresh(now=NOW)
    before = content(store)
    execute(postgres_url, "INSERT INTO records VALUES (2, '2024-01-07', 'again'), (2, NULL, 'and again')")
    with pytest.raises(DuplicateKeys, match=r"1 keys \(id\).*2 \(3 rows, partition 2024-01-01, 2024-01-07, _rest\)"):
        job.refresh(now=NOW)
    assert content(store) == before
    execute(postgres_url, "DELETE FROM records WHERE model LIKE '%again'")
    assert [check.passed for check in job.refresh(now=NOW).checks if check.name is Check.UNIQUE_KEYS] == [True]


def test_rows_that_age_out_of_a_rolling_window_stop_no_sync(postgres_url: str, store: Store) -> None:
    """Each connection has a now() of its own, so that rows leave between the fingerprint and the read."""
    execute(
        postgres_url,
        *PAIR,
        "INSERT INTO records SELECT g, now() - interval '1 hour' + g * interval '1 ms', 'm' "
        "FROM generate_series(1, 60000) g",
    )
    query = "SELECT * FROM records WHERE created_at > now() - interval '1 hour'"
    day = str((datetime.now(UTC) - timedelta(days=2)).date())
    job = job_of(store, postgres_url, spec_of(dataset_query=query, start=day))
    for _ in range(3):
        outcome = job.refresh()
        assert all(check.passed for check in outcome.checks if check.name is Check.EQUALS_SOURCE)
    assert published(store, "SELECT count(*) < 60000 FROM demo_dataset") == [(True,)]


def test_row_versions_wait_until_a_crash_cannot_give_their_numbers_to_others(postgres_url: str, store: Store) -> None:
    """A transaction that did not wait for the disk is lost in a crash, and its number is used again."""
    fill(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as writer:
        writer.execute("SET synchronous_commit = off")
        writer.execute("INSERT INTO records VALUES (9, '2024-01-09', 'late')")
        (written,) = writer.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ()
        job_of(store, postgres_url, spec_of(**ROW_VERSIONS)).refresh(now=NOW)
        (durable,) = writer.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", [written]).fetchone() or ()
    assert durable
    assert published(store, "SELECT count(*) FROM demo_dataset WHERE dataset_id = 9") == [(1,)]


def test_an_open_transaction_holds_up_no_row_versions(postgres_url: str, store: Store) -> None:
    """What it wrote stays off the disk until it ends, and nobody can see it."""
    fill(postgres_url)
    with psycopg.connect(postgres_url) as writer:
        writer.execute("INSERT INTO records VALUES (9, '2024-01-09', 'open')")
        job_of(store, postgres_url, spec_of(**ROW_VERSIONS)).refresh(now=NOW)
        writer.rollback()
    assert published(store, "SELECT count(*) FROM demo_dataset WHERE dataset_id = 9") == [(0,)]
