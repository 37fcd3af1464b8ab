"""Connecting: pinned settings, errors in words, and no secret in any of them."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import adbc_driver_manager
import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import (
    InvalidSourceUrl,
    SourceAuthenticationFailed,
    SourceBusy,
    SourceConnectionLost,
    SourceDatabaseMissing,
    SourceDiskFull,
    SourceError,
    SourceHostUnknown,
    SourceLocked,
    SourceOutOfMemory,
    SourcePermissionDenied,
    SourceReadFailed,
    SourceSerializationFailed,
    SourceTerminated,
    SourceTimeout,
    SourceTimeoutOfServer,
    SourceTooOld,
    SourceUnreachable,
)
from analytics_pipeline.sync.postgres import session
from analytics_pipeline.sync.postgres.failures import scrub, source_error, source_of
from analytics_pipeline.sync.postgres.session import connect, connect_adbc, conninfo
from analytics_pipeline_tests.sync.postgres_reading import execute, read

PASSWORD = "p@ss/w:rd 100%"
ENCODED = "p%40ss%2Fw%3Ard%20100%25"
URL = SecretStr(f"postgresql://reader:{ENCODED}@db.example:5433/sales")
SOURCE = "database 'sales' at db.example:5433 (user 'reader')"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def unreachable(postgres_url: str) -> list[tuple[str, type[SourceError]]]:
    folder = postgres_url.split("host=")[1].split("&", maxsplit=1)[0]
    return [
        (f"postgresql://reader:{ENCODED}@no-such-host.invalid/sales", SourceHostUnknown),
        (f"postgresql://reader:{ENCODED}@127.0.0.1:{closed_port()}/sales", SourceUnreachable),
        (f"postgresql://postgres:{ENCODED}@/no_such_database?host={folder}", SourceDatabaseMissing),
        (f"postgresql://no_such_role:{ENCODED}@/postgres?host={folder}", SourceAuthenticationFailed),
    ]


@pytest.mark.parametrize("case", range(4), ids=["host", "port", "database", "role"])
@pytest.mark.parametrize("driver", [connect, connect_adbc], ids=["psycopg", "adbc"])
def test_a_refused_connection_says_why_and_holds_no_secret(
    postgres_url: str, case: int, driver: Callable[[SecretStr], object]
) -> None:
    """Otherwise the password stands in Dagster's event log for everyone."""
    url, expected = unreachable(postgres_url)[case]
    with pytest.raises(expected) as caught:
        driver(SecretStr(url))
    shown = "".join(traceback.format_exception(caught.value))
    for secret in (PASSWORD, ENCODED, url):
        assert secret not in shown
    assert len(str(caught.value)) > 60


MALFORMED = (
    "postgresql://reader:p@ss@host/db",
    "postgresql://reader:p/ss@host/db",
    "postgresql://reader:12/ss@host/db",
    "postgresql://reader:100%@host/db",
    "postgresql://reader:secret@host:port/db",
    "postgresql://reader:secret@host:5432:1/db",
    "just-secret-text",
    "host=h password='secret",
    "postgresql://reader:secret@host/db?nonsense=1",
)


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("driver", [connect, connect_adbc], ids=["psycopg", "adbc"])
def test_a_malformed_url_is_refused_without_repeating_any_of_it(
    url: str, driver: Callable[[SecretStr], object]
) -> None:
    """Otherwise half of an unencoded password is told as the host's name."""
    with pytest.raises(InvalidSourceUrl, match="The connection string is not valid: ") as caught:
        driver(SecretStr(url))
    shown = "".join(traceback.format_exception(caught.value)).split("InvalidSourceUrl: ")[-1]
    assert "ss@host" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    "text", [PASSWORD, ENCODED, URL.get_secret_value(), f"postgresql://reader:{PASSWORD}@db", f"x{PASSWORD}y{ENCODED}z"]
)
def test_the_scrubber_finds_a_secret_in_every_spelling(text: str) -> None:
    shown = scrub(f"could not connect with {text}: failed", URL)
    assert "***" in shown
    assert PASSWORD not in shown
    assert ENCODED not in shown
    assert "could not connect" in shown


@pytest.mark.parametrize("url", ["host=h password='se cret' dbname=d", "postgresql:///d?host=h&password=se%20cret"])
def test_the_scrubber_knows_all_places_of_a_password(url: str) -> None:
    assert scrub("it was 'se cret' or se%20cret", SecretStr(url)) == "it was '***' or ***"


def test_a_source_is_named_without_its_password() -> None:
    assert str(source_of(URL)) == SOURCE
    assert str(source_of(SecretStr("host=a,b port=1,2 dbname=d user=u"))) == "database 'd' at a,b:1,2 (user 'u')"


STATES = (
    ("28P01", SourceAuthenticationFailed, False),
    ("3D000", SourceDatabaseMissing, False),
    ("42501", SourcePermissionDenied, False),
    ("57014", SourceTimeout, False),
    ("55P03", SourceLocked, True),
    ("40P01", SourceLocked, True),
    ("40001", SourceSerializationFailed, True),
    ("57P01", SourceTerminated, True),
    ("53100", SourceDiskFull, True),
    ("53200", SourceOutOfMemory, True),
    ("25P03", SourceTimeoutOfServer, False),
    ("57P03", SourceConnectionLost, True),
    ("08006", SourceConnectionLost, True),
    ("53300", SourceBusy, True),
    ("0A000", SourceReadFailed, False),
    ("XX000", SourceReadFailed, False),
)


@pytest.mark.parametrize(("state", "expected", "transient"), STATES)
def test_a_failure_is_told_apart_by_its_state_and_knows_if_a_retry_helps(
    state: str, expected: type[SourceError], *, transient: bool
) -> None:
    """Otherwise a wrong password is retried, or a restarting server is not."""
    error = adbc_driver_manager.OperationalError(
        f"IO: [libpq] Failed to execute query: ERROR:  no {PASSWORD}\n{URL.get_secret_value()}. SQLSTATE: {state}",
        status_code=adbc_driver_manager.AdbcStatusCode.IO,
    )
    found = source_error(error, URL)
    assert type(found) is expected
    assert found.transient is transient
    assert SOURCE in str(found)
    assert PASSWORD not in str(found)


TEXTS = (
    (
        'connection to server at "h", port 1 failed: FATAL:  password authentication failed for user "u"',
        SourceAuthenticationFailed,
    ),
    ('FATAL:  no pg_hba.conf entry for host "1.2.3.4"', SourceAuthenticationFailed),
    ("FATAL:  sorry, too many clients already", SourceBusy),
    ("FATAL:  the database system is shutting down", SourceConnectionLost),
    ("FATAL:  the database system is starting up", SourceConnectionLost),
    ("server closed the connection unexpectedly", SourceConnectionLost),
    ("SSL SYSCALL error: EOF detected", SourceConnectionLost),
    ("connection timeout expired", SourceUnreachable),
    ("something else", SourceReadFailed),
)


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_a_failure_without_a_state_is_told_apart_by_its_words(text: str, expected: type[SourceError]) -> None:
    assert type(source_error(psycopg.OperationalError(text), URL)) is expected


def test_a_wrong_password_is_told_by_user_and_fix(postgres_server: str) -> None:
    """Otherwise the first thing that goes wrong for a new user is a riddle."""
    folder = Path(postgres_server.split("host=")[1].split("&", maxsplit=1)[0])
    rules = folder / "pg_hba.conf"
    before = rules.read_text()
    execute(postgres_server, "CREATE ROLE careful LOGIN PASSWORD 'right'")
    try:
        rules.write_text("local all careful scram-sha-256\n" + before)
        execute(postgres_server, "SELECT pg_reload_conf()")
        for driver in (connect, connect_adbc):
            with pytest.raises(SourceAuthenticationFailed, match=r"'careful'.*pg_hba") as caught:
                driver(SecretStr(f"postgresql://careful:wrong-secret@/postgres?host={folder}"))
            assert "wrong-secret" not in str(caught.value)
    finally:
        rules.write_text(before)
        execute(postgres_server, "SELECT pg_reload_conf()", "DROP ROLE careful")


def test_missing_permission_names_the_table_and_the_grant(postgres_url: str) -> None:
    execute(postgres_url, "CREATE TABLE secretive (a int)", "CREATE ROLE stranger LOGIN")
    url = postgres_url.replace("postgres:@", "stranger@").replace("postgres@", "stranger@")
    try:
        with pytest.raises(SourcePermissionDenied, match=r"secretive.*GRANT SELECT"):
            read(url, "SELECT * FROM secretive")
    finally:
        execute(postgres_url, "DROP ROLE stranger")


def test_only_what_concerns_waiting_differs_from_the_settings_of_the_role(postgres_url: str) -> None:
    """Otherwise a query gives other values than in psql, or a coordinator is thrown out of its transaction."""
    database = postgres_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    odd = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "0",
        "bytea_output": "escape",
        "idle_in_transaction_session_timeout": "50",
    }
    for name, value in odd.items():
        execute(postgres_url, f"ALTER DATABASE {database} SET {name} = '{value}'")
    sql = f"SELECT {', '.join(f'current_setting({name!r})' for name in odd)}, current_setting('statement_timeout')"
    connection = connect(SecretStr(postgres_url), query_timeout=2.5)
    found = connection.execute(sql.encode()).fetchone()
    connection.close()
    assert found == ("Asia/Tokyo", "German, DMY", "iso_8601", "0", "escape", "0", "2500ms")


def test_what_the_user_set_in_the_url_stays(postgres_url: str) -> None:
    """Otherwise nobody can wait longer for a slow VPN, or be found in pg_stat_activity."""
    url = SecretStr(postgres_url + "&connect_timeout=77&application_name=mine")
    added = conninfo(url)
    assert "connect_timeout=77" in added
    assert "keepalives_idle=30" in added
    connection = connect(url)
    assert connection.execute("SHOW application_name").fetchone() == ("mine",)
    connection.close()


def test_a_server_too_old_is_refused_by_its_version(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first missing function is the message."""
    monkeypatch.setattr(session, "OLDEST_SERVER", 99)
    with pytest.raises(SourceTooOld, match="99 or newer"):
        connect(SecretStr(postgres_url))
