"""The encoding of every connection is UTF-8 from its first statement on, whatever role, URL or environment ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import psycopg
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.guard import Allowance
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.servers.fixtures import Pooler
from analytics_pipeline_tests.servers.postgres import database_of
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, PAIR, job_of, published, spec_of

GREATER = (
    'CREATE TABLE "größen" (id bigint, created_at timestamptz, "straße" text)',
    "INSERT INTO \"größen\" VALUES (1, '2024-01-05', 'über')",
)
SPEC = spec_of(dataset_query='SELECT * FROM "größen"')


def assert_mirrored(store: Store, url: str, tiers: Sequence[Tier | None] = (None, Tier.CURSOR)) -> None:
    for tier in tiers:
        told: list[str] = []
        job = job_of(store, url, SPEC, tier=tier, log=told.append)
        replace(job, allowed=frozenset({Allowance.OTHER_SOURCE})).rebuild(now=NOW)
        assert published(store, 'SELECT dataset_id, "straße" FROM demo_dataset') == [(1, "über")]
        assert not [line for line in told if "fast driver" in line or "going on by" in line]


@pytest.fixture
def latin_role(postgres_url: str) -> Iterator[str]:
    execute(postgres_url, *PAIR, *GREATER, "CREATE ROLE latin LOGIN", "ALTER ROLE latin SET client_encoding = 'LATIN1'")
    execute(postgres_url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO latin")
    yield "latin"
    execute(postgres_url, "DROP OWNED BY latin", "DROP ROLE latin")


def test_a_table_beyond_ascii_is_read_whatever_encoding_the_client_asks_for(
    postgres_url: str, latin_role: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a table that psql reads does not exist."""
    assert_mirrored(store, postgres_url.replace("postgres@", f"{latin_role}@"))
    assert_mirrored(store, f"{postgres_url}&client_encoding=LATIN1")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert_mirrored(store, postgres_url)


def test_a_pooled_session_of_a_client_with_another_encoding_is_read(
    postgres_url: str, pooler: Pooler, store: Store
) -> None:
    """Otherwise the names of a query mean something else in a server session that such a client had before."""
    execute(postgres_url, *PAIR, *GREATER)
    url = pooler(postgres_url, pool_size=8).url(database_of(postgres_url))
    with psycopg.connect(f"{url}&client_encoding=LATIN1", autocommit=True) as other:
        other.execute("SELECT 1")
        assert_mirrored(store, url)


@pytest.mark.postgres
def test_a_latin1_database_is_mirrored(latin1_url: str, store: Store) -> None:
    with psycopg.connect(latin1_url, autocommit=True, client_encoding="UTF8") as connection:
        for statement in (*PAIR, *GREATER):
            connection.execute(statement.encode())
    assert_mirrored(store, latin1_url)
