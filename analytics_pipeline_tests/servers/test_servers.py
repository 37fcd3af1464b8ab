"""The servers of these fixtures are what their names say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics_pipeline_tests.servers import __main__
from analytics_pipeline_tests.servers.fixtures import Pooler
from analytics_pipeline_tests.servers.postgres import TIME_ZONE, InstalledPostgres, Standby, database_of


def answer(url: str, *statements: str) -> Sequence[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        cursor = connection.execute(statements[-1].encode())
        return cursor.fetchall() if cursor.description else []


def test_a_transaction_pooler_has_as_many_server_sessions_as_its_pool(postgres_url: str, pooler: Pooler) -> None:
    pool = pooler(postgres_url, pool_size=2)
    url = pool.url(database_of(postgres_url))
    clients = [psycopg.connect(url, autocommit=True, prepare_threshold=None) for _ in range(6)]
    try:
        pids = {client.execute("SELECT pg_backend_pid()").fetchall()[0] for client in clients for _ in range(4)}
    finally:
        for client in clients:
            client.close()
    assert 1 <= len(pids) <= 2
    assert {row["pool_mode"] for row in pool.shown("pools") if row["database"] == database_of(postgres_url)} == {
        "transaction"
    }


def test_the_target_names_the_packages_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("analytics_pipeline_tests.servers.postgres.DEBIAN", tmp_path)
    monkeypatch.setattr("analytics_pipeline_tests.servers.pgbouncer.program", lambda: None)
    assert __main__.main([]) != 0
    assert "apt-get install postgresql pgbouncer" in capsys.readouterr().out


@pytest.mark.postgres
def test_debians_server_runs_in_another_time_zone(debian_server: InstalledPostgres, debian_url: str) -> None:
    major = answer(debian_url, "SELECT current_setting('server_version_num')::int / 10000")[0][0]
    assert debian_server.programs.parent.name == str(major)
    assert answer(debian_url, "SHOW TimeZone") == [(TIME_ZONE,)]


@pytest.mark.postgres
def test_a_latin1_database_stores_latin1(latin1_url: str) -> None:
    assert answer(latin1_url, "SHOW server_encoding") == [("LATIN1",)]
    assert answer(latin1_url, "SET client_encoding = 'UTF8'", "SELECT octet_length('größen')") == [(6,)]


@pytest.mark.postgres
def test_a_standby_follows_and_refuses_writes(standby: Standby, debian_url: str) -> None:
    answer(debian_url, "CREATE TABLE t AS SELECT 1 AS n")
    standby.catch_up()
    url = standby.url(database_of(debian_url)).get_secret_value()
    assert answer(url, "SELECT n, pg_is_in_recovery() FROM t") == [(1, True)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        answer(url, "INSERT INTO t VALUES (2)")


@pytest.mark.postgres
def test_a_promoted_standby_takes_writes(promotable: Standby, debian_url: str) -> None:
    answer(debian_url, "CREATE TABLE t AS SELECT 1 AS n")
    promotable.catch_up()
    promotable.promote()
    url = promotable.url(database_of(debian_url)).get_secret_value()
    assert answer(url, "INSERT INTO t VALUES (2)", "SELECT n, pg_is_in_recovery() FROM t ORDER BY n") == [
        (1, False),
        (2, False),
    ]
