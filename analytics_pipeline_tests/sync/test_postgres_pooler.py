"""Behind a pooler in transaction mode: the application that shares the pool notices nothing of a sync."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from analytics_pipeline.errors import SourceError, SourceTimeout
from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.gate import source_gate_of
from analytics_pipeline.sync.postgres.counts import count_rows
from analytics_pipeline_tests.servers.fixtures import Pooler
from analytics_pipeline_tests.servers.pgbouncer import PgBouncer
from analytics_pipeline_tests.servers.postgres import database_of
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, spec_of

POOL_SIZE = 8
LEFT = {
    # PgBouncer itself sets the encoding that each client has asked for.
    "settings": "SELECT name, setting FROM pg_settings WHERE source IN ('session', 'client') "
    "AND name <> 'client_encoding' AND setting <> ''",
    "locks": "SELECT locktype, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    "statements": "SELECT name FROM pg_prepared_statements",
    "cursors": "SELECT name FROM pg_cursors WHERE name <> ''",
    "channels": "SELECT pg_listening_channels()",
    "temporary": "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
}
SLOW = "SELECT id, created_at, model FROM records, (SELECT pg_sleep(60)) AS s"


def application(url: str, sessions: int) -> Iterator[psycopg.Connection]:
    """Clients of the application, each in a transaction on a server session of its own."""
    with ExitStack() as opened:
        clients = [
            opened.enter_context(psycopg.connect(url, autocommit=True, prepare_threshold=None)) for _ in range(sessions)
        ]
        for client in clients:
            client.execute("BEGIN")
        yield from clients


def left_behind(url: str) -> Sequence[dict[str, Any]]:
    """What each server session of the pool still has of its former client, where that is anything."""
    found = []
    for client in application(url, POOL_SIZE):
        answers = {what: client.execute(query.encode()).fetchall() for what, query in LEFT.items()}
        found.append({what: rows for what, rows in answers.items() if rows})
        client.execute("INSERT INTO written VALUES (1)")
    return [each for each in found if each]


def session_of(url: str) -> object:
    """The server session that the next client gets."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as client:
        return client.execute("SELECT pg_backend_pid()").fetchone()


def refreshed(job: SyncJob) -> None:
    job.refresh(now=NOW)


def refreshed_again(job: SyncJob) -> None:
    job.refresh(now=NOW)
    execute(job.url.get_secret_value(), "UPDATE records SET model = 'new'")
    job.refresh(now=NOW)


def found_unchanged(job: SyncJob) -> None:
    job.refresh(now=NOW)
    job.is_unchanged(now=NOW)


def audited(job: SyncJob) -> None:
    job.refresh(now=NOW)
    job.audit(now=NOW)


def checked(job: SyncJob) -> None:
    job.refresh(now=NOW)
    job.check(now=NOW)


def counted(job: SyncJob) -> None:
    assert count_rows(job.url, "SELECT * FROM records") == 4


def refused(job: SyncJob) -> None:
    with pytest.raises(SourceError):
        job_of(job.store, job.url.get_secret_value(), spec_of(dataset_query="SELECT nowhere")).refresh(now=NOW)


def timed_out(job: SyncJob) -> None:
    spec = spec_of(dataset_query=SLOW).model_copy(update={"query_timeout": 1})
    with pytest.raises(SourceTimeout):
        job_of(job.store, job.url.get_secret_value(), spec).refresh(now=NOW)


@pytest.fixture
def pool(postgres_url: str, pooler: Pooler) -> PgBouncer:
    fill(postgres_url)
    execute(postgres_url, "CREATE TABLE written (id int)")
    return pooler(postgres_url, pool_size=POOL_SIZE)


@pytest.mark.parametrize(
    "work", [refreshed, refreshed_again, found_unchanged, audited, checked, counted, refused, timed_out]
)
def test_nothing_of_ours_stays_in_a_pooled_session(
    postgres_url: str, pool: PgBouncer, store: Store, work: Callable[[SyncJob], None]
) -> None:
    """Otherwise the application's next INSERT fails with "read-only transaction", or after our time limit."""
    url = pool.url(database_of(postgres_url))
    assert left_behind(url) == []
    work(job_of(store, url))
    assert left_behind(url) == []


def test_a_question_to_the_gate_leaves_the_pooled_session_to_the_next_client(
    postgres_url: str, pool: PgBouncer, store: Store
) -> None:
    """A pooler closes one whose client leaves in a transaction: each tick would cost the application a new session."""
    url = pool.url(database_of(postgres_url))
    before = session_of(url)
    assert source_gate_of(job_of(store, url).url, 30.0, pytest.fail) is not None
    assert session_of(url) == before
