"""Failures of a source: each known cause has its own sentence, and advice that helps with that cause."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from analytics_pipeline.errors import (
    InvalidSourceUrl,
    SourceCancelled,
    SourceCertificateRefused,
    SourceError,
    SourceForeignServer,
    SourceNeedsEncryption,
    SourceRecoveryConflict,
    SourceTerminated,
    SourceTimeout,
    SourceTimeoutOfServer,
    SourceWithoutEncryption,
)
from analytics_pipeline.sync.postgres.failures import source_error, source_of
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline_tests.sync.postgres_reading import proxied, read

PASSWORD = "Horse7staple"
URL = SecretStr(f"postgresql://reader:{PASSWORD}@db.example:5433/facts")
HOST = f"reader:{PASSWORD}@db.example:5433/facts"
SLEEPING = "SELECT g AS n, pg_sleep(60)::text AS s FROM generate_series(1, 1) AS g"

STRINGS = {
    "": "it is empty",
    f" postgresql://{HOST}": "a blank or line break",
    f"'postgresql://{HOST}'": "quotation mark",
    f'"postgresql://{HOST}"': "quotation mark",
    f'postgresql://{HOST}"': "quotation mark",
    f"psql postgresql://{HOST}": "the command `psql`",
    f"postgresql+psycopg2://{HOST}": "names a driver",
    f"postgres+asyncpg://{HOST}?ssl=require": "names a driver",
    f"jdbc:postgresql://db.example:5433/facts?user=reader&password={PASSWORD}": "`jdbc:`",
    f"mysql://{HOST}": "scheme is not postgresql://",
    f"PostgreSQL://{HOST}": "scheme is not postgresql://",
    f"postgresql:/{HOST}": "two slashes",
    f"postgresql://{HOST}?schema=public": "`schema` is an option of Prisma",
    f"postgresql://{HOST}?pgbouncer=true": "`pgbouncer` is an option of Prisma",
    f"postgresql://{HOST}?connection_limit=1": "`connection_limit`",
    f"postgresql://{HOST}?currentSchema=x": "`currentSchema` is an option of JDBC",
    f"postgresql://{HOST}?ssl=require": "sslmode=require",
    f"postgresql://{HOST}?sslmod=require": "did you mean `sslmode`",
    f"postgresql://{HOST}?ssl_mode=require": "did you mean `sslmode`",
    f"postgresql://{HOST}?sslmode=required": "its sslmode is none of",
    f"host=db.example user=reader password={PASSWORD} sslmode=yes": "its sslmode is none of",
    f"postgresql://{HOST}?wombat=1": "not known to libpq",
    f"postgresql://reader:{PASSWORD}@{PASSWORD}@db.example/facts": "@, which is written %40",
    f"postgresql://reader:{PASSWORD}/x@db.example/facts": "/, which is written %2F",
    f"postgresql://reader:{PASSWORD}#/x@db.example/facts": "#, which is written %23",
    f"postgresql://reader:{PASSWORD}%@db.example/facts": "%, which is written %25",
    f"postgresql://reader:{PASSWORD}@db.example:port/facts": "port is not a number",
    f"host=db.example user=reader password={PASSWORD} x dbname=facts": "no single quotes around it",
    f"host=db.example user=reader password={PASSWORD} wombat=1": "unknown to libpq",
    f"host=db.example port={PASSWORD}": "port is not a number",
    f"reader/{PASSWORD}": "percent-encode",
}


@pytest.mark.parametrize(("text", "advice"), STRINGS.items())
def test_a_connection_string_is_refused_with_the_part_that_is_wrong(text: str, advice: str) -> None:
    """Each of these works in some other tool; "not valid" alone sends its user to the password."""
    with pytest.raises(InvalidSourceUrl) as caught:
        source_of(SecretStr(text))
    assert advice in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "wombat" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://{HOST}?sslmode=verify-full&connect_timeout=5",
        "postgres://reader:p%40ss%23%2F@[::1]:5433/facts",
        "postgresql:///facts?host=/var/run/postgresql",
        "host=a,b port=1,2 dbname=d user=u password='a b@#'",
    ],
)
def test_a_connection_string_that_works_is_not_refused(text: str) -> None:
    """Advice is only for what fails."""
    assert source_of(SecretStr(text)).database in {"facts", "d"}


WORDS: tuple[tuple[str, type[SourceError], str], ...] = (
    ("SSL error: certificate verify failed", SourceCertificateRefused, "sslrootcert"),
    ('server certificate for "a" does not match host name "b"', SourceCertificateRefused, "host name"),
    ('root certificate file "/x/root.crt" does not exist', SourceCertificateRefused, "sslrootcert=system"),
    ("server does not support SSL, but SSL was required", SourceWithoutEncryption, "sslmode=prefer"),
    (
        'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", no encryption',
        SourceNeedsEncryption,
        "sslmode=require",
    ),
    ("FATAL:  terminating connection due to administrator command", SourceTerminated, "pg_terminate_backend"),
    ("FATAL:  idle transaction timeout", SourceTimeoutOfServer, "pooler"),
    ("received invalid response to SSL negotiation: H", SourceForeignServer, "listens at that host and port"),
)


@pytest.mark.parametrize(("text", "expected", "advice"), WORDS)
def test_a_cause_without_a_state_is_told_by_its_words(text: str, expected: type[SourceError], advice: str) -> None:
    """Advice for another cause costs an afternoon."""
    found = source_error(psycopg.OperationalError(text), URL)
    assert type(found) is expected
    assert advice in str(found)


def test_a_conflict_with_recovery_is_told_as_one() -> None:
    """Only its words tell it from two transactions that collide, and a standby needs other settings."""
    conflict = psycopg.errors.SerializationFailure("canceling statement due to conflict with recovery")
    found = source_error(conflict, URL)
    assert type(found) is SourceRecoveryConflict
    assert found.transient
    assert "hot_standby_feedback" in str(found)


ENDINGS: tuple[tuple[str, type[SourceError]], ...] = (
    ("pg_cancel_backend", SourceCancelled),
    ("pg_terminate_backend", SourceTerminated),
)


@pytest.mark.parametrize(("function", "expected"), ENDINGS)
def test_what_an_administrator_ends_is_told_as_that(
    postgres_url: str, function: str, expected: type[SourceError]
) -> None:
    """Advice to raise query_timeout would have the query run again for hours that somebody just ended."""
    ending = (
        f"SELECT {function}(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )

    def end() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as administrator:
            while not administrator.execute(ending.encode()).fetchall():
                time.sleep(0.02)

    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(expected):
        read(postgres_url, SLEEPING)


def test_a_timeout_names_both_limits_that_there_are(postgres_url: str) -> None:
    """Raising query_timeout is no help where the role has a limit of its own."""
    with pytest.raises(SourceTimeout, match=r"query_timeout.*ALTER ROLE"):
        read(postgres_url, SLEEPING, query_timeout=0.2)


def test_a_server_without_encryption_is_told_as_one(postgres_url: str) -> None:
    """To libpq it is a connection that failed, as if the server were down."""
    with proxied(postgres_url) as proxy:
        url = make_conninfo("", **{**conninfo_to_dict(proxy.url), "sslmode": "require"})
        with pytest.raises(SourceWithoutEncryption):
            connect(SecretStr(url))


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of something that answers, but not as PostgreSQL does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(1024)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.mark.parametrize("mode", ["prefer", "disable"])
def test_another_program_at_the_port_is_told_as_one(web_server: int, mode: str) -> None:
    """A tunnel to the wrong place is not mended by waiting."""
    with pytest.raises(SourceForeignServer):
        connect(SecretStr(f"postgresql://u@127.0.0.1:{web_server}/d?sslmode={mode}"))
