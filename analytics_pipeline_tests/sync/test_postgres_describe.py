"""Describing a query: its columns, its tables, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import SourceError, SourceNameMissing, SourceQueryInvalid, SourceQueryRefused
from analytics_pipeline.sync.postgres.describe import TypeKind, base_tables, describe
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline.sync.postgres.sql import bare, quote_identifier, quote_literal
from analytics_pipeline_tests.sync.postgres_reading import execute


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    execute(postgres_url, "CREATE TABLE item (id int, price numeric(10,2), tags varchar(5)[])")
    opened = connect(SecretStr(postgres_url))
    opened.execute("ROLLBACK")  # each statement in a transaction of its own: some fail
    yield opened
    opened.close()


def test_columns_come_as_postgres_describes_them(connection: psycopg.Connection) -> None:
    found = describe(connection, "SELECT *, 'x' AS word, sum(price) OVER () AS total FROM item")
    assert [(column.name, column.spelled) for column in found] == [
        ("id", "integer"),
        ("price", "numeric(10,2)"),
        ("tags", "character varying(5)[]"),
        ("word", "text"),
        ("total", "numeric"),
    ]
    assert found[2].kind is TypeKind.ARRAY
    assert found[2].element is not None
    assert found[2].element.spelled == "character varying(5)"


def test_a_domain_is_described_as_the_type_below_it(postgres_url: str, connection: psycopg.Connection) -> None:
    """Otherwise a domain over numeric(8,3) is stored as text."""
    execute(postgres_url, "CREATE DOMAIN a AS numeric(8,3)", "CREATE DOMAIN b AS a", "CREATE DOMAIN c AS b[]")
    one, listed, several = describe(connection, "SELECT 1::b AS one, NULL::b[] AS listed, NULL::c AS several")
    assert one.spelled == "numeric(8,3)"
    for column in (listed, several):
        assert column.element is not None
        assert column.element.spelled == "numeric(8,3)"


def test_describing_runs_nothing(postgres_url: str, connection: psycopg.Connection) -> None:
    """Otherwise loading the definitions costs as much as a sync."""
    assert len(describe(connection, "SELECT pg_sleep(3600) AS a, 1 / (random() * 0) AS b")) == 2


ACCEPTED = (
    "SELECT 1 AS a;",
    "SELECT 1 AS a ; ;\n",
    "SELECT 1 AS a -- the end",
    "SELECT 1 AS a; -- the end; really",
    "SELECT ';' AS a /* ; /* nested; */ */ ;",
    "SELECT $x$;--$x$ AS a;",
    "SELECT E'\\';' AS a;",
    "WITH w AS (SELECT 1 AS a) SELECT * FROM w",
    "VALUES (1)",
    "TABLE item",
    "SELECT 1 AS a UNION ALL SELECT 2 ORDER BY 1 LIMIT 1",
    "SELECT '50%' AS a, 'b%s' AS b",
)


@pytest.mark.parametrize("query", ACCEPTED)
def test_one_select_is_accepted_however_it_ends(connection: psycopg.Connection, query: str) -> None:
    """Otherwise a query that works in psql fails here."""
    assert describe(connection, query)
    base_tables(connection, query)


REFUSED = (
    "SELECT 1 AS a; SELECT 2 AS b",
    "SELECT 1 AS a; DROP TABLE item",
    "SELECT 1 AS a) AS q; DROP TABLE item; --",
    "SELECT 1 AS a) AS q, (SELECT 2 AS b",
    "DELETE FROM item RETURNING id",
    "WITH gone AS (DELETE FROM item RETURNING id) SELECT * FROM gone",
    "INSERT INTO item VALUES (1) RETURNING id",
    "COPY item TO STDOUT",
    "SHOW server_version",
    "SELECT 1 AS a INTO copy_of_item",
    "SELECT $1 AS a",
    "SELECT 1 AS a, 2 AS a",
    "SELECT 1",
    "SELECT",
    "",
    "-- nothing",
    "SELECT 'unfinished",
)


@pytest.mark.parametrize("query", REFUSED)
def test_anything_but_one_select_with_named_columns_is_refused(connection: psycopg.Connection, query: str) -> None:
    """Otherwise a dataset's query could change the source, or lose a column."""
    with pytest.raises((SourceQueryRefused, SourceQueryInvalid)):
        describe(connection, query)
    assert connection.execute("SELECT to_regclass('item') IS NOT NULL").fetchone() == (True,)


def test_a_refusal_names_the_columns_and_the_fix(connection: psycopg.Connection) -> None:
    with pytest.raises(SourceQueryRefused, match=r"gives a, b more than once.*AS"):
        describe(connection, "SELECT 1 AS a, 2 AS b, 3 AS a, 4 AS b")
    with pytest.raises(SourceQueryRefused, match=r"column 2 has no name.*AS total"):
        describe(connection, "SELECT 1 AS a, 1 + 1")


@pytest.mark.parametrize("query", ["SELECT nowhere FROM item", "SELECT * FROM nowhere", "SELECT nowhere(1) AS a"])
def test_a_missing_name_is_named(connection: psycopg.Connection, query: str) -> None:
    with pytest.raises(SourceNameMissing, match="nowhere"):
        describe(connection, query)


def test_a_connection_can_be_used_on_after_a_refusal(connection: psycopg.Connection) -> None:
    with pytest.raises(SourceError):
        base_tables(connection, "SELECT nowhere")
    assert [column.name for column in describe(connection, "TABLE item")] == ["id", "price", "tags"]


def test_base_tables_are_those_the_query_reads(postgres_url: str, connection: psycopg.Connection) -> None:
    """Otherwise the gate watches the wrong counters."""
    execute(postgres_url, 'CREATE SCHEMA "Odd"', 'CREATE TABLE "Odd"."Ta""ble" (id int)')
    (table,) = base_tables(connection, 'SELECT * FROM "Odd"."Ta""ble"')
    assert (table.schema, table.name, table.kind, table.selectable) == ("Odd", 'Ta"ble', "r", True)
    assert base_tables(connection, "SELECT relname FROM pg_class") == ()


def test_quoting_survives_the_quotes_in_a_name_and_a_literal(connection: psycopg.Connection) -> None:
    for text in ("a", "a'b", 'a"b', "a\\b", "\\'", "{v}", "é\n"):
        sql = f"SELECT {quote_literal(text)} AS {quote_identifier(text)}"
        cursor = connection.execute(sql.encode())
        assert cursor.fetchone() == (text,)
        assert cursor.description is not None
        assert cursor.description[0].name == text


@pytest.mark.parametrize("query", ['SELECT 1 AS "a;"', "SELECT 1 AS a$b$c", "SELECT 1 -- a\n + 1 AS a"])
def test_only_what_stands_behind_the_last_word_is_cut_off(query: str) -> None:
    assert bare(query + " ; -- end") == query
