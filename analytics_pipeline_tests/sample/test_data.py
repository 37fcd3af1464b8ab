"""The sample's rows: the same each time, ending now, and shaped like the sources they stand for."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import LiteralString

import psycopg
import pytest

from analytics_pipeline.sample import data, evaluation, human_signals, monitoring
from analytics_pipeline.sample.data import DAYS, LAG, Half, Source

SOURCES = [monitoring.SOURCE, human_signals.SOURCE, evaluation.SOURCE]
NOON = datetime(2026, 3, 18, 12, 30, tzinfo=UTC)
"""A Wednesday."""
TIMES = {"traces": "created_at", "metric_results": "created_at", "conversations": "opened_at", "feedback": "noted_at"}
COUNTERS = {"metric_results": "id", "metrics": "metric_id"}
CLASSIFIED = "SELECT explanation, signals FROM metric_results WHERE metric_category = 'CLASSIFICATION'"
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url) as connection:
        yield connection


def value(connection: psycopg.Connection, question: str) -> object:
    row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def contents(connection: psycopg.Connection, half: Half) -> set[str]:
    """All rows of a table as text, without the column that merely counts them."""
    rows = connection.execute(
        f"SELECT (to_jsonb(t) - '{COUNTERS.get(half.table, '')}')::text FROM {half.table} t".encode()
    )
    return {row[0] for row in rows}


def time_of(half: Half) -> str:
    return TIMES.get(half.table, "created_at")


@every_source
def test_two_fills_are_equal(connection: psycopg.Connection, source: Source) -> None:
    data.fill(connection, source, 0.1, NOON)
    first = [contents(connection, half) for half in (source.dataset, source.results)]

    data.fill(connection, source, 0.1, NOON)

    assert [contents(connection, half) for half in (source.dataset, source.results)] == first


@every_source
def test_a_day_has_the_same_cases_whenever_it_is_made(connection: psycopg.Connection, source: Source) -> None:
    """A sample of last week and a new one tell the same story about the days they share."""
    data.fill(connection, source, 0.1, NOON)
    first = contents(connection, source.dataset)
    data.fill(connection, source, 0.1, NOON + timedelta(days=10))
    later = contents(connection, source.dataset)

    shared = f"{time_of(source.dataset)} < '{NOON - LAG}' AND {time_of(source.dataset)} >= '{NOON.date()}'::date - 20"
    expected = value(connection, f"SELECT count(*) FROM {source.dataset.table} WHERE {shared}")

    assert len(first & later) == expected
    assert expected


@every_source
def test_topping_up_equals_a_fresh_fill(connection: psycopg.Connection, source: Source) -> None:
    """Nothing is lost or doubled at the seam, not even results that follow their case across it."""
    now = NOON + timedelta(days=3)
    data.fill(connection, source, 0.5, NOON)
    data.top_up(connection, source, now)
    since = f"{time_of(source.dataset)} >= '{now.date()}'::date - {DAYS}"
    topped_up = value(connection, f"SELECT count(*) FROM {source.dataset.table} WHERE {since}")
    rows, results = contents(connection, source.dataset), contents(connection, source.results)

    fresh = data.fill(connection, source, 0.5, now)

    assert contents(connection, source.dataset) <= rows
    assert contents(connection, source.results) <= results
    assert topped_up == fresh.dataset_rows


@every_source
def test_topping_up_on_the_same_day_changes_nothing(connection: psycopg.Connection, source: Source) -> None:
    """A sync right after a sync finds nothing to do, although the sample was asked for again."""
    data.fill(connection, source, 0.1, NOON)

    assert data.top_up(connection, source, NOON + timedelta(hours=3)) == (0, 0)


@every_source
def test_days_end_today_and_nothing_lies_in_the_future(connection: psycopg.Connection, source: Source) -> None:
    data.fill(connection, source, 1, NOON)

    for half in (source.dataset, source.results):
        column, table = time_of(half), half.table
        assert value(connection, f"SELECT max({column}) <= '{NOON}' FROM {table}")
        assert value(connection, f"SELECT count(DISTINCT date({column})) FROM {table}") == DAYS + 1
        assert value(connection, f"SELECT count(DISTINCT extract(hour FROM {column})) > 20 FROM {table}")


@pytest.mark.parametrize(
    ("source", "rows", "results"),
    [(monitoring.SOURCE, 20_000, 105_000), (human_signals.SOURCE, 1_500, 6_000), (evaluation.SOURCE, 2_300, 11_500)],
    ids=lambda value: getattr(value, "name", value),
)
def test_scale_sizes_a_source(connection: psycopg.Connection, source: Source, rows: int, results: int) -> None:
    at_one = data.fill(connection, source, 1, NOON)
    at_a_tenth = data.fill(connection, source, 0.1, NOON)

    assert at_one == pytest.approx((rows, results), rel=0.1)
    assert at_a_tenth == pytest.approx((rows / 10, results / 10), rel=0.2)


@every_source
def test_every_result_belongs_to_a_case_and_follows_it(connection: psycopg.Connection, source: Source) -> None:
    data.fill(connection, source, 0.5, NOON)
    dataset, results = source.dataset, source.results

    lag = f"results.{time_of(results)} - cases.{time_of(dataset)}"
    row = connection.execute(
        f"SELECT min({lag}), max({lag}), count(*) FROM {results.table} results "
        f"JOIN {dataset.table} cases ON results.{results.key} = cases.{dataset.key}".encode()
    ).fetchone()

    assert row is not None
    assert timedelta(0) < row[0] < row[1] < LAG
    assert row[2] == value(connection, f"SELECT count(*) FROM {results.table}")


def test_monitoring_has_every_kind_of_metric_and_the_oddities_of_real_data(connection: psycopg.Connection) -> None:
    data.fill(connection, monitoring.SOURCE, 1, NOON)

    def count(what: LiteralString, table: LiteralString = "metric_results") -> object:
        return value(connection, f"SELECT count(*) FROM {table} WHERE {what}")

    assert count("metric_category = 'SCORE' AND metric_score BETWEEN 0 AND 1")
    assert count("metric_category IS NULL AND metric_score IS NOT NULL"), "a score without a category"
    assert count("metric_category = 'SCORE' AND metric_score IS NULL"), "a score that failed"
    assert count("metric_category = 'ANALYSIS' AND jsonb_typeof(signals) = 'object' AND explanation <> ''")
    assert count("model IS NULL", "traces")
    assert count("latency_ms IS NULL", "traces")
    assert count("output IS NULL AND error", "traces") == count("error", "traces")
    assert count("input ~ '[^[:ascii:]]'", "traces")
    assert value(connection, "SELECT count(DISTINCT env) FROM traces") == 3
    assert value(connection, "SELECT min(latency_ms) > 0 FROM traces")
    categories = {row[0] for row in connection.execute(CLASSIFIED)}
    assert categories == {"billing", "delivery", "account", "technical", "returns", "other"}


def parsed(text: str | None) -> object:
    """JSON first, then a Python literal, as readers of feedback do."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None


def test_feedback_is_json_a_python_literal_or_neither(connection: psycopg.Connection) -> None:
    data.fill(connection, human_signals.SOURCE, 1, NOON)
    texts = [row[0] for row in connection.execute("SELECT signals FROM feedback WHERE metric_name = 'resolved'")]

    literals = [parsed(text) for text in texts if text and text.startswith("{")]
    assert all(isinstance(literal, dict) and isinstance(literal["ok"], bool) for literal in literals)
    assert {None, "", "not json", "[1, 2]"} <= set(texts)

    checks = value(connection, "SELECT signals::jsonb -> 'checks' FROM feedback WHERE signals LIKE '%checks%' LIMIT 1")
    assert isinstance(checks, dict)
    assert [item["name"] for item in checks["opening"]] == ["greeted", "identity_verified"]
    assert set(checks["closing"][0]) == {"name", "score"}


def test_tenant_stands_in_most_metrics_and_severity_changes_its_type(connection: psycopg.Connection) -> None:
    data.fill(connection, human_signals.SOURCE, 1, NOON)
    rows = connection.execute("SELECT metric_name, signals FROM feedback").fetchall()

    holding = {name for name, text in rows if isinstance(signals := parsed(text), dict) and "tenant" in signals}
    assert holding == {"tone", "resolved", "policy"}
    kinds = {
        type(signals["severity"])
        for name, text in rows
        if name == "review" and isinstance(signals := parsed(text), dict)
    }
    assert kinds == {int, str}


def test_conversations_have_the_shapes_that_cases_are_made_from(connection: psycopg.Connection) -> None:
    data.fill(connection, human_signals.SOURCE, 1, NOON)

    def count(what: LiteralString) -> object:
        return value(connection, f"SELECT count(*) FROM conversations WHERE {what}")

    assert count(r"conversation #>> '{messages,0,content}' ~ '^New \w+ case: '")
    assert count(r"conversation #>> '{messages,0,content}' !~ '^New \w+ case: '")
    assert count("conversation #>> '{messages,0,content}' = ''")
    assert count("conversation IS NULL")
    assert count("conversation = '{\"messages\": []}'")
    assert count("conversation_stats ? 'turn_count'")
    assert count("conversation_stats ? 'user_message_count' AND conversation_stats ? 'ai_message_count'")
    assert count("conversation_stats IS NULL")
    assert count("additional_input LIKE '{\"%message_url%'")
    assert count("additional_input LIKE '{''%message_url%'")
    assert count("additional_input = '\"forwarded by hand\"'")
    assert count("(conversation_stats ->> 'turn_count')::int <> jsonb_array_length(conversation -> 'messages')") == 0


def test_evaluations_repeat_what_the_models_really_said(connection: psycopg.Connection) -> None:
    data.fill(connection, evaluation.SOURCE, 1, NOON)

    assert value(connection, "SELECT count(DISTINCT image) > 700 FROM evaluations")
    wrong = value(connection, "SELECT count(*) FROM evaluations WHERE response <> expected")
    assert wrong == value(connection, "SELECT count(*) FROM metrics WHERE metric = 'correct' AND value = 0")
    ranking = connection.execute(
        "SELECT model FROM metrics JOIN evaluations USING (eval_id) WHERE metric = 'correct' "
        "GROUP BY model ORDER BY avg(value) DESC"
    ).fetchall()
    assert ranking == [("nearest-neighbours",), ("logistic-regression",), ("naive-bayes",)]


@pytest.mark.parametrize(
    ("module", "cases", "result"),
    [
        (monitoring, "id", "result_id"),
        (human_signals, "dataset_id", 'dataset_id, "Metric-Name"'),
        (evaluation, "eval_id", "metric_id"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_queries_in_the_charters_run(
    connection: psycopg.Connection, module: ModuleType, cases: str, result: str
) -> None:
    """They are what a dataset's definition is written from; the keys named beside them are unique."""
    data.fill(connection, module.SOURCE, 0.1, NOON)
    queries = re.findall(r"SELECT .*?\bFROM \w+", module.__doc__ or "", re.DOTALL)

    assert len(queries) == 2
    for query, key in zip(queries, (cases, result), strict=True):
        assert value(connection, f"SELECT count(*) > 100 AND count(*) = count(DISTINCT ({key})) FROM ({query}) AS half")
