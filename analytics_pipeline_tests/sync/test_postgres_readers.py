"""Reading a query: tiers, ranges, fallbacks, failures in mid-stream, frozen networks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import (
    SourceConnectionLost,
    SourceError,
    SourceNameMissing,
    SourceQueryInvalid,
    SourceReadFailed,
    SourceStalled,
    SourceTimeout,
)
from analytics_pipeline.sync.postgres.readers import ReadRequest, Tier, stream
from analytics_pipeline.sync.postgres.snapshot import Snapshot, open_snapshot
from analytics_pipeline.sync.postgres.types import ColumnRule
from analytics_pipeline_tests.sync.postgres_reading import execute, proxied, read, rules_of

WIDE = "SELECT g, repeat('x', 1000) AS filler FROM generate_series(1, 100000) AS g"
"""Far more than fits into queues and socket buffers."""
ENDLESS = "SELECT generate_series(1, 1000000000000) AS g"
TABLE = """
CREATE TABLE item AS
SELECT g AS id, nullif(g % 7, 0) AS some_null, 'k' || g % 13 AS word, md5(g::text)::uuid AS uid,
       timestamptz '2024-01-01' + g * interval '1 hour' AS at, date '2024-01-01' + g % 40 AS day,
       CASE WHEN g % 5 = 0 THEN 'NaN' ELSE g / 3.0 END::float8 AS ratio, (g * 1.5)::numeric AS amount,
       NULL::int AS nothing, 1 AS constant, g % 2 = 0 AS flag
FROM generate_series(1, 1000) AS g
"""

CASELESS = """
CREATE TYPE word;
CREATE FUNCTION word_in(cstring) RETURNS word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION word_out(word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE word (INPUT = word_in, OUTPUT = word_out, LIKE = text, COLLATABLE = true);
CREATE CAST (word AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION word_cmp(word, word) RETURNS int LANGUAGE sql IMMUTABLE AS
  $$ SELECT bttextcmp(lower($1::text) COLLATE "C", lower($2::text)) $$;
CREATE FUNCTION word_less(word, word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT word_cmp($1, $2) < 0 $$;
CREATE OPERATOR < (LEFTARG = word, RIGHTARG = word, FUNCTION = word_less);
CREATE OPERATOR CLASS words DEFAULT FOR TYPE word USING btree AS OPERATOR 1 <, FUNCTION 1 word_cmp(word, word);
CREATE CAST (text AS word) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE TABLE caseless AS SELECT g AS id, (ARRAY['a', 'B', 'c', 'D'])[1 + g % 4]::word AS v
FROM generate_series(1, 1000) AS g
"""
"""A type of users that has an order of its own and becomes text by itself, like citext."""


def whole(url: str, query: str) -> ReadRequest:
    return ReadRequest(query=query, rules=rules_of(url, query), stall_timeout=30.0)


def computed(name: str, expression: str, arrow: pa.DataType, cursor_expression: str | None = None) -> ColumnRule:
    cursor = cursor_expression or expression
    return ColumnRule(name, "computed", arrow, expression, cursor, arrow, expression)


def test_without_a_partition_column_one_stream_reads(postgres_url: str) -> None:
    request = whole(postgres_url, "SELECT 1 AS a")
    with opened(postgres_url, request.query) as snapshot, stream(snapshot, request, on_notice=pytest.fail) as rows:
        assert rows.tier is Tier.STREAM
        assert [batch.to_pylist() for batch in rows] == [[{"a": 1}]]


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_no_rows_still_have_columns(postgres_url: str, tier: Tier) -> None:
    """Otherwise an empty source has no schema, and the first row later looks like a schema change."""
    table = read(postgres_url, "SELECT 1 AS a, now() AS b WHERE false", tier)
    assert table.num_rows == 0
    assert table.schema == pa.schema([("a", pa.int32()), ("b", pa.timestamp("us", "UTC"))])


@pytest.mark.parametrize("tier", Tier)
def test_a_predicate_and_computed_columns_travel_along(postgres_url: str, tier: Tier) -> None:
    """Otherwise partition keys and row hashes would need another query, of another moment."""
    execute(postgres_url, TABLE)
    query = "SELECT id, at FROM item; -- all of them"
    key = computed(
        "key",
        "date_trunc('day', q.at)",
        pa.timestamp("us", "UTC"),
        "(EXTRACT(epoch FROM date_trunc('day', q.at)) * 1000000)::int8",
    )
    key = replace(key, cursor_wire_type=pa.int64())
    checksum = computed("hash", "hash_record_extended(ROW(q.id), 0)", pa.int64())
    rules = [*rules_of(postgres_url, query), key, checksum]
    table = read(postgres_url, query, tier, partition_column="id", where="q.id <= 100 OR q.id > 990", rules=rules)
    assert table.num_rows == 110
    assert table.schema.names == ["id", "at", "key", "hash"]
    assert len(set(table["hash"].to_pylist())) == 110


PARTITION_COLUMNS = ("id", "some_null", "word", "uid", "at", "day", "ratio", "amount", "constant", "flag")


@pytest.mark.parametrize("column", PARTITION_COLUMNS)
@pytest.mark.parametrize("workers", [2, 5])
def test_A2_parallel_ranges_lose_and_double_nothing(  # noqa: N802 - a finding's id
    postgres_url: str, column: str, workers: int
) -> None:
    """Otherwise rows vanish whose partition value is NULL, NaN, a text or a time."""
    execute(postgres_url, TABLE)
    table = read(postgres_url, "SELECT * FROM item", Tier.PARALLEL, partition_column=column, workers=workers)
    assert sorted(map(str, table["id"].to_pylist()), key=int) == [str(number) for number in range(1, 1001)]


def test_A2_text_boundaries_may_hold_anything(postgres_url: str) -> None:  # noqa: N802 - a finding's id
    """Otherwise a quote, a comma or a backslash in a key breaks the SQL or moves rows."""
    words = ["a'b", 'c"d', "e\\f", "g,h", "{i}", "NULL", "", "é", "😀", "\n"]
    execute(postgres_url, "CREATE TABLE w (v text)")
    with psycopg.connect(postgres_url) as connection:
        connection.cursor().executemany("INSERT INTO w VALUES (%s)", [(word,) for word in words])
    table = read(postgres_url, "SELECT v FROM w", Tier.PARALLEL, partition_column="v", workers=10)
    assert sorted(map(str, table["v"].to_pylist())) == sorted(words)


@pytest.mark.parametrize("column", ["nothing", "doc"])
def test_a_column_that_cannot_split_falls_back_to_one_stream_and_says_so(postgres_url: str, column: str) -> None:
    """Otherwise a setting that does nothing goes unnoticed, or ends the sync."""
    execute(postgres_url, TABLE)
    notices: list[str] = []
    query = "SELECT id, nothing, to_json(id) AS doc FROM item"
    table = read(postgres_url, query, partition_column=column, notices=notices)
    assert table.num_rows == 1000
    (notice,) = notices
    assert "parallel ranges failed, going on by single stream" in notice
    assert column in notice


def test_a_type_with_an_order_of_its_own_is_read_once_and_says_so(postgres_url: str) -> None:
    """Otherwise rows between boundaries that the built-in operators order differently are stored twice."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(CASELESS.encode())
    notices: list[str] = []
    query = 'SELECT id, v COLLATE "C" AS v FROM caseless'
    table = read(postgres_url, query, partition_column="v", workers=4, notices=notices)
    assert sorted(map(str, table["id"].to_pylist()), key=int) == [str(number) for number in range(1, 1001)]
    (notice,) = notices
    assert "the type of v has no order to split by" in notice


def test_what_the_fast_driver_cannot_read_comes_by_the_cursor_and_says_so(postgres_url: str) -> None:
    """Otherwise such a source cannot be mirrored at all, or gets slow without a word."""
    odd = computed("odd", "ROW(1, 2)", pa.string(), "'by cursor'")
    query, notices = "SELECT 1 AS a", list[str]()
    table = read(postgres_url, query, notices=notices, rules=[*rules_of(postgres_url, query), odd])
    assert table.to_pylist() == [{"a": 1, "odd": "by cursor"}]
    (notice,) = notices
    assert "single stream failed, going on by chunked cursor" in notice


def test_a_forced_tier_does_not_fall_back(postgres_url: str) -> None:
    odd = computed("odd", "ROW(1, 2)", pa.string(), "'by cursor'")
    with pytest.raises(SourceReadFailed):
        read(postgres_url, "SELECT 1 AS a", Tier.STREAM, rules=[odd])


def test_a_wrong_query_does_not_fall_back(postgres_url: str) -> None:
    """Otherwise the reason comes thrice, and the slowest tier's wording wins."""
    notices: list[str] = []
    with pytest.raises(SourceNameMissing, match="nowhere"):
        read(postgres_url, "SELECT 1 AS a", notices=notices, rules=[computed("b", "q.nowhere", pa.int32())])
    assert notices == []


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_an_error_after_the_first_rows_is_an_error_and_no_fallback(postgres_url: str, tier: Tier) -> None:
    """Otherwise a table ends where the query broke, or rows come twice."""
    notices: list[str] = []
    request = replace(
        whole(postgres_url, f"SELECT 1 / (50000 - g) AS a, filler FROM ({WIDE}) AS w"), tier=tier, batch_rows=100
    )
    with opened(postgres_url, request.query) as snapshot, stream(snapshot, request, on_notice=notices.append) as rows:
        iterator = iter(rows)
        assert next(iterator).num_rows > 0
        with pytest.raises(SourceQueryInvalid, match="division by zero"):
            drain(iterator)
    assert notices == []


@pytest.mark.parametrize("tier", Tier)
def test_a_terminated_backend_is_an_error_never_a_short_table(postgres_url: str, tier: Tier) -> None:
    """Otherwise a server restart during a sync publishes half a table."""
    request = replace(whole(postgres_url, WIDE), tier=tier, partition_column="g", workers=2)
    with opened(postgres_url, request.query) as snapshot, stream(snapshot, request, on_notice=pytest.fail) as rows:
        iterator = iter(rows)
        next(iterator)
        terminate_readers(postgres_url)
        with pytest.raises(SourceConnectionLost) as caught:
            drain(iterator)
    assert caught.value.transient


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_a_query_that_takes_too_long_is_stopped_by_its_timeout(postgres_url: str, tier: Tier) -> None:
    """Otherwise one bad plan blocks all later refreshes."""
    with pytest.raises(SourceTimeout, match="query_timeout"):
        read(postgres_url, "SELECT count(*) AS n FROM generate_series(1, 1000000000) AS g", tier, query_timeout=0.2)


@pytest.mark.parametrize("tier", Tier)
def test_leaving_early_stops_the_query_and_closes_the_connections(postgres_url: str, tier: Tier) -> None:
    """Otherwise a failed write leaves the source busy for hours."""
    request = replace(whole(postgres_url, ENDLESS if tier is not Tier.PARALLEL else WIDE), tier=tier)
    request = replace(request, partition_column="g", workers=2)
    with opened(postgres_url, request.query) as snapshot, stream(snapshot, request, on_notice=pytest.fail) as rows:
        next(iter(rows))
    eventually(lambda: sessions(postgres_url) == 0)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("postgres")] == []


def test_leaving_before_the_first_row_stops_the_query_too(postgres_url: str) -> None:
    """Otherwise an interrupted sync leaves a sort running in the source."""
    query = "SELECT count(*) AS n FROM generate_series(1, 1000000000) AS g"
    request = replace(whole(postgres_url, query), stall_timeout=0.3, patience=0.3)
    with (
        pytest.raises(SourceStalled, match=r"0\.3 s"),
        opened(postgres_url, query) as snapshot,
        stream(snapshot, request, on_notice=pytest.fail),
    ):
        pass
    eventually(lambda: sessions(postgres_url) == 0)


@pytest.mark.parametrize("tier", Tier)
def test_a_frozen_network_is_an_error_within_the_limit(postgres_url: str, tier: Tier) -> None:
    """Otherwise a refresh hangs for ever, and no later one may start."""
    with proxied(postgres_url) as proxy:
        request = replace(whole(postgres_url, WIDE), tier=tier, stall_timeout=1.0, partition_column="g", workers=2)
        with (
            opened(proxy.url, request.query) as snapshot,
            stream(snapshot, request, on_notice=pytest.fail) as rows,
        ):
            iterator = iter(rows)
            next(iterator)
            proxy.freeze()
            started = time.monotonic()
            with pytest.raises(SourceStalled, match=r"127\.0\.0\.1.* 1 s") as caught:
                drain(iterator)
        assert time.monotonic() - started < 5.0
        assert caught.value.transient
    eventually(lambda: sessions(postgres_url) == 0)


def test_a_network_frozen_before_the_first_row_is_an_error_within_the_limit(postgres_url: str) -> None:
    """Otherwise the hang just moves to the moment before the read."""
    with proxied(postgres_url) as proxy:
        request = replace(whole(postgres_url, WIDE), stall_timeout=0.5, patience=0.5, partition_column="g", workers=2)
        with opened(proxy.url, request.query) as snapshot:
            proxy.freeze()
            started = time.monotonic()
            with pytest.raises(SourceStalled), stream(snapshot, request, on_notice=pytest.fail):
                pass
            assert time.monotonic() - started < 5.0


def test_a_slow_consumer_holds_the_reader_back(postgres_url: str) -> None:
    """Otherwise memory grows with the table."""
    request = whole(postgres_url, WIDE)
    before = pa.total_allocated_bytes()
    with opened(postgres_url, request.query) as snapshot, stream(snapshot, request, on_notice=pytest.fail) as rows:
        total = most = 0
        for batch in rows:
            total += batch.nbytes
            most = max(most, batch.nbytes)
        assert total > 90_000_000
        assert most < 10_000_000
    assert pa.total_allocated_bytes() - before < 50_000_000


def test_a_second_iteration_gives_nothing_more(postgres_url: str) -> None:
    request = whole(postgres_url, "SELECT 1 AS a")
    with opened(postgres_url, request.query) as snapshot, stream(snapshot, request, on_notice=pytest.fail) as rows:
        assert len(list(rows)) == 1
        assert list(rows) == []


def test_every_failure_of_a_read_is_a_source_error(postgres_url: str) -> None:
    """Otherwise retry and status code would have to know two drivers."""
    for expression in ("q.a::int", "('x' || q.a)::int", "pg_sleep('x' || q.a)"):
        with pytest.raises(SourceError):
            read(postgres_url, "SELECT 'x' AS a", rules=[computed("b", expression, pa.int32())])


def opened(url: str, query: str) -> AbstractContextManager[Snapshot]:
    return open_snapshot(SecretStr(url), [query], query_timeout=60.0, on_notice=pytest.fail)


def drain(batches: Iterator[pa.RecordBatch]) -> None:
    for _ in batches:
        pass


def terminate_readers(url: str) -> None:
    """End the sessions that read, not the coordinator, which is idle in its transaction."""
    sql = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'analytics_pipeline' AND datname = current_database()
          AND (state = 'active' OR query LIKE 'FETCH%')
    """
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    assert row[0] > 0


def sessions(url: str) -> int:
    sql = """
        SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'analytics_pipeline' AND datname = current_database()
    """
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
