"""The snapshot: what it locks before it exists, and what other sessions can no longer do to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import SourceConnectionsExhausted, SourceLocked, SourceNameMissing, SourceStalled
from analytics_pipeline.sync.postgres.opening import Spares
from analytics_pipeline.sync.postgres.readers import ReadRequest, Tier, stream
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline.sync.postgres.snapshot import Snapshot, open_snapshot
from analytics_pipeline_tests.sync.postgres_reading import execute, proxied, rules_of

PAIR = (
    "CREATE TABLE dataset AS SELECT g AS dataset_id FROM generate_series(1, 1000) AS g",
    "CREATE TABLE result AS SELECT g AS dataset_id, 0.5 AS score FROM generate_series(1, 1000) AS g",
)
DATASET, RESULT = "SELECT * FROM dataset", "SELECT * FROM result"
REWRITES = (
    ("TRUNCATE result", "INSERT INTO result SELECT g, 1 FROM generate_series(1, 5) AS g"),
    ("ALTER TABLE result ALTER COLUMN score TYPE text USING 'rewritten'",),
    ("DROP TABLE result",),
    ("TRUNCATE dataset", "TRUNCATE result"),
)


def opened(url: str, *queries: str, connections: int = 0) -> AbstractContextManager[Snapshot]:
    return open_snapshot(
        SecretStr(url), queries, query_timeout=60, on_notice=pytest.fail, spares=Spares(adbc=connections)
    )


def request(url: str, query: str, tier: Tier) -> ReadRequest:
    return ReadRequest(
        query=query,
        rules=rules_of(url, query),
        partition_column="dataset_id",
        workers=2,
        stall_timeout=30.0,
        tier=tier,
    )


def count(snapshot: Snapshot, query: str, tier: Tier) -> int:
    wanted = request(snapshot.url.get_secret_value(), query, tier)
    with stream(snapshot, wanted, on_notice=pytest.fail) as rows:
        return sum(batch.num_rows for batch in rows)


def waiting(url: str) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("statements", REWRITES, ids=[statements[0] for statements in REWRITES])
@pytest.mark.parametrize("tier", Tier)
def test_a_rewrite_by_another_session_waits_until_the_pair_is_read(
    postgres_url: str, statements: tuple[str, ...], tier: Tier
) -> None:
    """Otherwise one half is read empty or changed, and its results lose their datasets with no error."""
    execute(postgres_url, *PAIR)
    rewrite = threading.Thread(target=execute, args=(postgres_url, *statements))
    with (
        opened(postgres_url, DATASET, RESULT, connections=4) as snapshot,
        stream(snapshot, request(postgres_url, DATASET, tier), on_notice=pytest.fail) as dataset,
        stream(snapshot, request(postgres_url, RESULT, tier), on_notice=pytest.fail) as result,
    ):
        rewrite.start()
        until(lambda: waiting(postgres_url) == 1)
        assert [sum(batch.num_rows for batch in rows) for rows in (dataset, result)] == [1000, 1000]
        assert waiting(postgres_url) == 1
    rewrite.join()


@pytest.mark.parametrize("tier", [Tier.PARALLEL, Tier.STREAM])
def test_a_read_that_starts_behind_a_waiting_rewrite_fails_soon_and_can_be_retried(
    postgres_url: str, tier: Tier
) -> None:
    """Otherwise the read waits for the rewrite, the rewrite for the snapshot, and the snapshot for the read."""
    execute(postgres_url, *PAIR)
    wanted = request(postgres_url, RESULT, tier)
    rewrite = threading.Thread(target=execute, args=(postgres_url, *REWRITES[0]))
    with opened(postgres_url, DATASET, RESULT) as snapshot:
        rewrite.start()
        until(lambda: waiting(postgres_url) == 1)
        with pytest.raises(SourceLocked) as caught, stream(snapshot, wanted, on_notice=pytest.fail):
            pass
    rewrite.join()
    assert caught.value.transient
    with opened(postgres_url, DATASET, RESULT) as snapshot:
        assert count(snapshot, RESULT, tier) == 5


def test_spare_connections_read_on_behind_a_waiting_rewrite(postgres_url: str) -> None:
    """Otherwise a source that is truncated and reloaded every minute can hardly ever be mirrored."""
    execute(postgres_url, *PAIR)
    wanted = [request(postgres_url, query, Tier.STREAM) for query in (DATASET, RESULT)]
    rewrite = threading.Thread(target=execute, args=(postgres_url, *REWRITES[0]))
    with opened(postgres_url, DATASET, RESULT, connections=3) as snapshot:
        rewrite.start()
        until(lambda: waiting(postgres_url) == 1)
        for each in wanted:
            with stream(snapshot, each, on_notice=pytest.fail) as rows:
                assert sum(batch.num_rows for batch in rows) == 1000
        assert waiting(postgres_url) == 1
    rewrite.join()


@pytest.mark.parametrize("connections", [0, 3])
def test_rows_committed_later_are_not_in_the_snapshot(postgres_url: str, connections: int) -> None:
    """Otherwise the halves of a pair are of different moments."""
    execute(postgres_url, *PAIR)
    with opened(postgres_url, DATASET, connections=connections) as snapshot:
        execute(postgres_url, "INSERT INTO dataset VALUES (-1)", "DELETE FROM dataset WHERE dataset_id > 500")
        assert [count(snapshot, DATASET, tier) for tier in Tier] == [1000, 1000, 1000]


def test_a_table_behind_views_and_partitions_is_locked(postgres_url: str) -> None:
    """Otherwise only who queries tables directly is safe."""
    execute(
        postgres_url,
        "CREATE TABLE part (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE part_2024 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE other (id int)",
        "CREATE VIEW inner_view AS SELECT p.id FROM part AS p JOIN other AS o USING (id)",
        "CREATE VIEW outer_view AS SELECT id FROM inner_view",
    )
    query = "SELECT id FROM outer_view WHERE id IN (SELECT id FROM other)"
    with opened(postgres_url, query) as snapshot:
        locked = {table.name for table in snapshot.locked}
    assert locked == {"part", "part_2024", "other", "inner_view", "outer_view"}


def test_what_cannot_be_locked_is_named(postgres_url: str) -> None:
    """Otherwise the promise is silently weaker for some tables."""
    execute(
        postgres_url,
        *PAIR,
        "CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS n FROM result",
        "DROP ROLE IF EXISTS analyst",
        "CREATE ROLE analyst LOGIN",
        "GRANT SELECT ON summary TO analyst",
    )
    notices: list[str] = []
    try:
        url = SecretStr(postgres_url.replace("postgres@", "analyst@").replace("postgres:@", "analyst@"))
        with open_snapshot(url, ["SELECT * FROM summary"], query_timeout=60, on_notice=notices.append) as snapshot:
            assert not snapshot.locked
    finally:
        execute(postgres_url, "DROP OWNED BY analyst", "DROP ROLE analyst")
    assert len(notices) == 1
    assert "public.summary is a materialised view" in notices[0]


def test_what_a_lock_on_a_parent_or_view_covers_is_locked_and_no_warning(postgres_url: str) -> None:
    """Otherwise a role that may read just the parent or the view is warned of a danger that is none."""
    execute(
        postgres_url,
        "CREATE TABLE part (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE part_2024 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE other (id int)",
        "CREATE VIEW inner_view AS SELECT id FROM other",
        "CREATE VIEW outer_view AS SELECT i.id FROM inner_view AS i",
        "DROP ROLE IF EXISTS partial_reader",
        "CREATE ROLE partial_reader LOGIN",
        "GRANT SELECT ON part, outer_view TO partial_reader",
    )
    notices: list[str] = []
    held = (
        "SELECT DISTINCT relation::regclass::text FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
        "WHERE a.usename = 'partial_reader' AND l.locktype = 'relation' AND relation >= 16384 ORDER BY 1"
    )
    try:
        url = SecretStr(postgres_url.replace("postgres@", "partial_reader@"))
        queries = ["SELECT * FROM part", "SELECT * FROM outer_view"]
        with open_snapshot(url, queries, query_timeout=60, on_notice=notices.append) as snapshot:
            assert {table.name for table in snapshot.locked} == {"part", "outer_view"}
            with psycopg.connect(postgres_url) as other:
                locked = {row[0] for row in other.execute(held.encode()).fetchall()}
    finally:
        execute(postgres_url, "DROP OWNED BY partial_reader", "DROP ROLE partial_reader")
    assert locked == {"part", "part_2024", "other", "inner_view", "outer_view"}
    assert notices == []


def test_a_table_that_stays_locked_is_an_error_that_a_later_try_may_cure(postgres_url: str) -> None:
    """Otherwise a refresh waits for ever behind a forgotten transaction."""
    execute(postgres_url, *PAIR)
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE result IN ACCESS EXCLUSIVE MODE")
        connection = connect(SecretStr(postgres_url), lock_timeout=0.1)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("SELECT * FROM result")
        connection.close()
        with pytest.raises(SourceStalled):
            open_snapshot(
                SecretStr(postgres_url), [RESULT], query_timeout=60, on_notice=pytest.fail, stall_timeout=0.3
            ).__enter__()
    assert SourceLocked.transient


def test_a_wrong_query_is_refused_before_anything_is_locked(postgres_url: str) -> None:
    snapshot = open_snapshot(
        SecretStr(postgres_url), ["SELECT * FROM nowhere"], query_timeout=60, on_notice=pytest.fail
    )
    with pytest.raises(SourceNameMissing, match="nowhere"):
        snapshot.__enter__()


def test_a_joined_session_cannot_write(postgres_url: str) -> None:
    """Otherwise a function in a query could change the source."""
    execute(postgres_url, *PAIR)
    with (
        opened(postgres_url, RESULT) as snapshot,
        snapshot.session() as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("DELETE FROM result")


def test_closing_over_a_frozen_network_does_not_hang(postgres_url: str) -> None:
    """Otherwise the error of a frozen read is never seen."""
    with proxied(postgres_url) as proxy:
        with opened(proxy.url, "SELECT 1 AS a") as snapshot:
            with snapshot.session(), snapshot.session():
                pass
            proxy.freeze()
            started = time.monotonic()
        assert time.monotonic() - started < 2.0


def test_a_network_frozen_from_the_start_is_an_error_within_the_limit(postgres_url: str) -> None:
    """Otherwise a refresh hangs before it has read anything."""
    with proxied(postgres_url) as proxy:
        proxy.freeze()
        snapshot = open_snapshot(
            SecretStr(proxy.url), ["SELECT 1 AS a"], query_timeout=60, on_notice=pytest.fail, stall_timeout=0.5
        )
        with pytest.raises(SourceConnectionsExhausted, match=r"0\.5 s"):
            snapshot.__enter__()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
