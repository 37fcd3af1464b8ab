"""Connections of a sync: as many as there are, all on one server, and never so many that others find none."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import SourceConnectionsExhausted, SourceServersDiffer
from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.store import Store, create_store
from analytics_pipeline.sync.postgres.opening import Spares, open_one
from analytics_pipeline.sync.postgres.session import Server, connect_adbc, connect_session
from analytics_pipeline.sync.postgres.snapshot import open_snapshot
from analytics_pipeline_tests.servers.fixtures import Pooler
from analytics_pipeline_tests.servers.postgres import database_of
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, PAIR, SCORES, fill, job_of, published, spec_of

FEWEST, USUAL = 1, 5
ROWS = "SELECT count(*) FROM demo_data"
PARTITIONS = 170
"""With an index each, five sessions take more than half of the lock table of the test's server."""


@pytest.fixture
def few(postgres_url: str) -> Iterator[str]:
    """The URL of a role that may read the pair, and has a limit of connections."""
    fill(postgres_url)
    execute(postgres_url, "CREATE ROLE few LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO few")
    yield postgres_url.replace("postgres@", "few@")
    execute(postgres_url, "DROP OWNED BY few", "DROP ROLE few")


@pytest.mark.parametrize("limit", [3, 2, 1])
def test_a_role_with_few_connections_is_enough(postgres_url: str, few: str, store: Store, limit: int) -> None:
    """Otherwise a sync holds what there is and waits for more, until it is given up."""
    execute(postgres_url, f"ALTER ROLE few CONNECTION LIMIT {limit}")
    told: list[str] = []
    job = job_of(store, few, log=told.append)
    job.refresh(now=NOW)
    assert published(store, ROWS) == [(5,)]
    assert any(
        line.endswith("so that others find one, too.") and "too many connections for role" in line for line in told
    )
    assert any(f"{USUAL} connections wanted, {FEWEST} needed" in line for line in told)
    execute(postgres_url, "UPDATE records SET model = 'new'")
    job.refresh(now=NOW)
    assert published(store, "SELECT DISTINCT model_name FROM demo_dataset") == [("new",)]


def test_no_connection_at_all_says_how_many_are_needed(postgres_url: str, few: str, store: Store) -> None:
    """Otherwise the advice is to raise query_timeout."""
    execute(postgres_url, "ALTER ROLE few CONNECTION LIMIT 0")
    with pytest.raises(SourceConnectionsExhausted, match=r"1 needed \(5 wanted\), 0 available.*CONNECTION LIMIT") as no:
        job_of(store, few).refresh(now=NOW)
    assert "query_timeout" not in str(no.value)
    assert no.value.transient


@pytest.mark.parametrize("connections", range(1, USUAL + 1))
def test_a_dataset_opens_no_more_connections_than_it_may(
    postgres_url: str, few: str, store: Store, connections: int
) -> None:
    """Otherwise somebody with few connections can only wait for the error."""
    execute(postgres_url, f"ALTER ROLE few CONNECTION LIMIT {connections}")
    told: list[str] = []
    capped = spec_of().model_copy(update={"connections": connections})
    job_of(store, few, capped, log=told.append).refresh(now=NOW)
    assert published(store, ROWS) == [(5,)]
    assert not [line for line in told if "wanted" in line]
    execute(postgres_url, "ALTER ROLE few CONNECTION LIMIT -1")
    assert not job_of(store, few).refresh(now=NOW).halves


def test_two_syncs_and_the_application_share_a_pool_that_is_smaller_than_one_sync(
    postgres_url: str, pooler: Pooler, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Otherwise each holds what the other one waits for, and the application waits for both."""
    fill(postgres_url)
    url = pooler(postgres_url, pool_size=3).url(database_of(postgres_url))
    other = create_store(tmp_path_factory.mktemp("other") / "store")
    threads = [threading.Thread(target=job_of(each, url).refresh, kwargs={"now": NOW}) for each in (store, other)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as application:
            application.execute("SET LOCAL statement_timeout = '30s'")
            assert application.execute("SELECT count(*) FROM scores").fetchone() == (5,)
    assert published(store, ROWS) == published(other, ROWS) == [(5,)]
    other.close()


@pytest.mark.parametrize("driver", [connect_session, connect_adbc])
def test_a_connection_that_reaches_another_server_is_refused(
    postgres_url: str, driver: type[psycopg.Connection]
) -> None:
    """Otherwise a snapshot of the same name on that server is read, with the rows of another moment."""
    first = Server(180_000, is_linux=True, identity="another")
    with pytest.raises(SourceServersDiffer, match="more than one server"):
        open_one(driver, SecretStr(postgres_url), first.guard_sql)


def test_all_connections_go_to_the_server_of_the_first(postgres_server: str, postgres: EmbeddedPostgres) -> None:
    """Otherwise `load_balance_hosts` mixes the rows of two servers."""
    servers = [postgres_server, postgres.url("postgres").get_secret_value()]
    folders = ",".join(url.split("host=")[1].split("&")[0] for url in servers)
    url = SecretStr(f"host={folders} port=5432,5432 user=postgres dbname=postgres load_balance_hosts=random")
    question = "SELECT pg_catalog.pg_postmaster_start_time()::text"
    for _ in range(6):
        with open_snapshot(
            url, ["SELECT 1 AS a"], query_timeout=60, on_notice=pytest.fail, spares=Spares(adbc=1, psycopg=1)
        ) as snapshot:
            starts = set()
            with snapshot.session() as a, snapshot.session() as b, snapshot.session() as joined_later:
                starts |= {each.execute(question.encode()).fetchall()[0][0] for each in (a, b, joined_later)}
            with snapshot.stream() as stream, stream.cursor() as cursor:
                cursor.execute(question)
                starts |= {row[0] for row in cursor.fetchall()}
            assert len(starts) == 1


def test_many_partitions_are_read_with_fewer_sessions(postgres_url: str, store: Store) -> None:
    """Otherwise each session locks each partition, the lock table is full, and the query of somebody else fails."""
    execute(
        postgres_url,
        "CREATE TABLE records (id bigint, created_at timestamptz, model text) PARTITION BY LIST (id)",
        "CREATE INDEX ON records (id)",
        *[f"CREATE TABLE r{i} PARTITION OF records FOR VALUES IN ({i})" for i in range(1, PARTITIONS + 1)],
        PAIR[1],
        "INSERT INTO records SELECT i, '2024-01-05', 'm' FROM pg_catalog.generate_series(1, 4) AS i",
        SCORES,
    )
    told: list[str] = []
    job_of(store, postgres_url, log=told.append).refresh(now=NOW)
    assert published(store, ROWS) == [(5,)]
    assert any("would fill the lock table" in line and "max_locks_per_transaction" in line for line in told)
