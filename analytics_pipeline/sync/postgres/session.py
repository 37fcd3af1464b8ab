"""Sessions: connections of both drivers with the same pinned settings and the same patience.

Belongs here: what is added to a connection string, which settings every session has and why.
Does not: transactions and snapshots (`snapshot`), or how failures are told (`failures`).
"""

from __future__ import annotations

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from analytics_pipeline.errors import SourceTooOld
from analytics_pipeline.sync.postgres.failures import source_of, translated
from analytics_pipeline.sync.postgres.sql import quote_literal

OLDEST_SERVER = 14
"""hash_record_extended and extract() as numeric came with it."""
LOCK_TIMEOUT = 60.0
"""Seconds to wait for a table that another session alters or truncates."""

# A dead peer is noticed after 30 s and 3 times 10 s by keepalives, unsent data after 60 s.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "analytics_pipeline",
}

# Nothing that could change what a query gives (TimeZone, DateStyle, search_path …): it runs as it would in psql. A
# coordinator must be allowed to sit in its transaction.
_PINNED = {
    "client_encoding": "UTF8",
    "default_transaction_read_only": "on",
    "cursor_tuple_fraction": "1",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "client_connection_check_interval": "1000",  # milliseconds; the query of a killed process ends
}


def connect(
    url: SecretStr, *, query_timeout: float | None = None, lock_timeout: float = LOCK_TIMEOUT
) -> psycopg.Connection:
    """A psycopg connection in autocommit with the pinned settings.

    Args:
        url: conninfo or URI.
        query_timeout: seconds for each statement, its streaming to us included; None for no limit.
        lock_timeout: seconds to wait for a lock.

    Raises:
        SourceError: a subclass that names the reason and the fix; `SourceTooOld` below PostgreSQL 14.
    """
    source = source_of(url)
    with translated(url):
        # Poolers in transaction mode know no prepared statements: never prepare.
        connection = psycopg.connect(conninfo(url), autocommit=True, prepare_threshold=None)
    try:
        _refuse_old(str(source), connection.info.server_version)
        with translated(url):
            connection.execute(settings_sql(query_timeout, lock_timeout).encode())
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_old(source: str, version: int) -> None:
    if version < OLDEST_SERVER * 10_000:
        raise SourceTooOld(source, str(version // 10_000), OLDEST_SERVER)


def connect_adbc(url: SecretStr) -> adbc.Connection:
    """An ADBC connection in autocommit, without the pinned settings: they belong inside its transaction.

    Raises:
        SourceError: a subclass that names the reason and the fix.
    """
    source_of(url)
    with translated(url):
        return adbc.connect(conninfo(url), autocommit=True)


def settings_sql(query_timeout: float | None, lock_timeout: float, *, scope: str = "session") -> str:
    """One SELECT that pins the settings, for both drivers: poolers refuse `options` in the conninfo.

    Args:
        query_timeout: seconds, None for no limit.
        lock_timeout: seconds.
        scope: `session`, or `transaction` for SET LOCAL (which a pooler keeps with the transaction).
    """
    values = _PINNED | {
        "statement_timeout": str(round((query_timeout or 0) * 1000)),
        "lock_timeout": str(round(lock_timeout * 1000)),
    }
    rows = ", ".join(f"({quote_literal(name)}, {quote_literal(value)})" for name, value in values.items())
    local = "true" if scope == "transaction" else "false"
    # The join leaves out what this server's version does not know (transaction_timeout came with 17).
    return (
        f"SELECT pg_catalog.set_config(s.name, v.value, {local}) "
        f"FROM (VALUES {rows}) AS v (name, value) "
        "JOIN pg_catalog.pg_settings AS s ON s.name OPERATOR(pg_catalog.=) v.name "
        # Known everywhere since 14, refused where the system cannot tell that a socket was closed.
        "WHERE s.name OPERATOR(pg_catalog.<>) 'client_connection_check_interval' "
        "OR pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0"
    )


def conninfo(url: SecretStr) -> str:
    """The connection string with timeouts and keepalives where the user set none. Secret: never print it."""
    with translated(url):
        given = {key: str(value) for key, value in conninfo_to_dict(url.get_secret_value()).items()}
        return make_conninfo("", **(_PATIENCE | given))
