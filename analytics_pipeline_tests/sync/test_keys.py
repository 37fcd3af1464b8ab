"""The halves are joined by identity: a key whose type calls more than that equal is refused, by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import KeyEqualityWider, KeysDoNotJoin
from analytics_pipeline.store import Store
from analytics_pipeline.sync.postgres.describe import describe
from analytics_pipeline.sync.postgres.keys import has_wider_equality
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, asked_of, job_of, spec_of

WIDER = {
    "interval": ("1 day", "24:00"),
    "jsonb": ("1.0", "1.00"),
    "numeric": ("1.0", "1.00"),
    "float8": ("0", "-0"),
    "numrange": ("[1.0,2)", "[1.00,2)"),
    "interval[]": ("{1 day}", "{24:00}"),
    "span": ("(1.0)", "(1.00)"),
    "some_interval": ("1 day", "24:00"),
    "box": ("(1,1),(0,0)", "(2,0.5),(0,0)"),
}
"""Types with two values that PostgreSQL calls equal and prints differently."""
IDENTICAL = {
    "int4": ("1", "01"),
    "oid": ("1", "01"),
    "text": ("a", "a"),
    "varchar(3)": ("a", "a"),
    "char(3)": ("a", "a  "),
    "name": ("a", "a"),
    "uuid": ("6ecd8c99-4036-403d-bf84-cf8400f67836", "{6ECD8C99-4036-403D-BF84-CF8400F67836}"),
    "numeric(9,2)": ("1", "1.00"),
    "bytea": ("\\x41", "A"),
    "date": ("2024-01-01", "January 1, 2024"),
    "timestamptz": ("2024-01-01 01:00+01", "2024-01-01 00:00+00"),
    "time": ("1:00", "01:00:00"),
    "inet": ("10.0.0.1", "10.0.0.1/32"),
    "macaddr": ("08:00:2b:01:02:03", "0800.2b01.0203"),
    "int4range": ("[1,2]", "[1,3)"),
    "money": ("1", "1.00"),
    "bit(3)": ("101", "101"),
    "mood": ("fine", "fine"),
    "int4[]": ("{1,2}", "{01,02}"),
}
"""Types of which two spellings of one value are stored alike."""
TYPES = (
    "CREATE TYPE mood AS ENUM ('fine', 'bad')",
    "CREATE TYPE span AS (low numeric)",
    "CREATE DOMAIN some_interval AS interval",
)


def is_refused(url: str, sql_type: str) -> bool:
    query = f"SELECT NULL::{sql_type} AS key"
    connection = connect(SecretStr(url))
    try:
        (column,) = describe(connection, query)
        return has_wider_equality(connection, query, column)
    finally:
        connection.close()


def test_a_type_is_refused_where_equal_values_are_not_the_same(postgres_url: str) -> None:
    """Otherwise Postgres joins a row, and the store's view does not."""
    execute(postgres_url, *TYPES)
    for sql_type, (one, other) in WIDER.items():
        values = f"'{one}'::{sql_type}, '{other}'::{sql_type}"
        compared = asked_of(postgres_url, f"SELECT a = b, a::text = b::text FROM (VALUES ({values})) AS v (a, b)")
        assert compared == [(True, False)], sql_type
        if sql_type != "float8":
            assert is_refused(postgres_url, sql_type), sql_type


def test_a_type_is_taken_where_equal_values_are_the_same(postgres_url: str) -> None:
    """Otherwise a key that joins well has to be cast."""
    execute(postgres_url, *TYPES)
    for sql_type, (one, other) in IDENTICAL.items():
        values = f"'{one}'::{sql_type}, '{other}'::{sql_type}"
        compared = asked_of(postgres_url, f"SELECT a = b, a::text = b::text FROM (VALUES ({values})) AS v (a, b)")
        assert compared == [(True, True)], sql_type
        assert not is_refused(postgres_url, sql_type), sql_type


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("interval '1 day'", KeyEqualityWider, r"demo_dataset, id, is of type interval.*`id::text"),
        ("1::numeric(50,2)", KeysDoNotJoin, r"numeric\(50,2\)"),
    ],
)
def test_a_key_of_wider_equality_stops_the_sync_and_names_the_cast(
    postgres_url: str, store: Store, key: str, error: Any, words: str
) -> None:
    """Otherwise the view lacks rows, and only a check warns."""
    other = key.replace("50,2", "50,3")
    spec = spec_of(
        dataset_query=f"SELECT {key} AS id, now() AS created_at",
        results_query=f"SELECT {other} AS id, now() AS created_at",
    )
    with pytest.raises(error, match=words):
        job_of(store, postgres_url, spec).refresh(now=NOW)
