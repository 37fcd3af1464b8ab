"""Opens connections of both drivers, and begins their transactions with the same settings.

Belongs here: what is added to a connection string, which settings every transaction has and why.
Does not: locks and snapshots (`snapshot`), or the errors of drivers (`failures`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from analytics_pipeline.errors import SourceTooOld
from analytics_pipeline.sync.postgres.failures import SERVER_GUARD, source_of, translated
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
}
_NAME = "application_name"
_DEFAULT_NAME = "analytics_pipeline"

# From the first statement on, over a setting of the role, the database or the environment. Poolers know this parameter.
_ENCODING = {"client_encoding": "UTF8"}

# Nothing that could change what a query gives (TimeZone, DateStyle, search_path …): it runs as it would in psql. A
# coordinator must be allowed to sit in its transaction.
_PINNED = {
    **_ENCODING,
    "cursor_tuple_fraction": "1",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "client_connection_check_interval": "1000",  # milliseconds; the query of a killed process ends
}
_SINCE = {"transaction_timeout": 170_000}
"""Versions of the server that first knew a setting, where that is not all of them."""
_LINUX_ONLY = {"client_connection_check_interval"}
"""Known everywhere since 14, refused where the system cannot tell that a socket was closed."""
_ON_LINUX = "; ".join(
    f"SELECT pg_catalog.set_config('{name}', '{_PINNED[name]}', true) "
    "WHERE pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0"
    for name in sorted(_LINUX_ONLY)
)

_IDENTITY = (
    "pg_catalog.concat_ws('/', extract(epoch FROM pg_catalog.pg_postmaster_start_time()), (SELECT d.oid "
    "FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))"
)
_SERVER = (
    f"SELECT pg_catalog.strpos(pg_catalog.version(), 'linux'), {_IDENTITY}, pg_catalog.pg_backend_pid(), "
    "pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8 OPERATOR(pg_catalog.*) "
    "(pg_catalog.current_setting('max_connections')::pg_catalog.int8 OPERATOR(pg_catalog.+) "
    "pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8)"
)

Connection: TypeAlias = "psycopg.Connection | adbc.Connection"


@dataclass(frozen=True)
class Server:
    """What a connection has to know of its server.

    Args:
        version: as libpq has it: 180004.
        is_linux: whether it runs on Linux.
        identity: database and start of the server. The system identifier would not do: a standby has its primary's.
        is_pooled: whether a pooler is between, so that another server session may answer each transaction.
        lock_slots: locks that fit into its lock table, about.
    """

    version: int
    is_linux: bool
    identity: str = ""
    is_pooled: bool = False
    lock_slots: int = 0

    def knows(self, setting: str) -> bool:
        """Whether it takes a setting."""
        return self.version >= _SINCE.get(setting, 0) and (self.is_linux or setting not in _LINUX_ONLY)

    @property
    def guard_sql(self) -> str:
        """Statements that fail on another server, and leave no transaction behind."""
        same = f"{_IDENTITY} OPERATOR(pg_catalog.=) {quote_literal(self.identity)}"
        other = f"CAST(pg_catalog.concat({quote_literal(SERVER_GUARD)}, {_IDENTITY}) AS pg_catalog.int4)"
        return f"BEGIN READ ONLY; SELECT CASE WHEN {same} THEN 0 ELSE {other} END; COMMIT"


def server_of(connection: psycopg.Connection) -> Server:
    """The server of an open connection.

    Raises:
        psycopg.Error: it does not answer.
    """
    row = connection.execute(_SERVER.encode()).fetchone()
    assert row is not None, "a SELECT without FROM gives one row"
    linux, identity, pid, slots = row
    return Server(
        connection.info.server_version, bool(linux), str(identity), pid != connection.info.backend_pid, int(slots)
    )


def connect(
    url: SecretStr, *, query_timeout: float | None = None, lock_timeout: float = LOCK_TIMEOUT
) -> psycopg.Connection:
    """Open a psycopg connection inside a read-only transaction that has the pinned settings.

    The transaction is begun by a statement, so psycopg itself is in autocommit.

    Args:
        url: conninfo or URI.
        query_timeout: seconds for each statement, its streaming to us included; None for no limit.
        lock_timeout: seconds to wait for a lock.

    Raises:
        SourceError: a subclass that names the reason and the fix; `SourceTooOld` below PostgreSQL 14.
    """
    connection = connect_session(url)
    try:
        version = connection.info.server_version
        with translated(url):
            begin = begin_sql(url, Server(version, is_linux=False), query_timeout, lock_timeout)
            connection.execute(f"{begin}; {_ON_LINUX}".encode())
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def connected(url: SecretStr, *, query_timeout: float | None = None) -> Iterator[psycopg.Connection]:
    """A connection as `connect` opens it, for a `with` block.

    Its transaction is ended before it is closed: a pooler would close the server session of one that is open.

    Args:
        url: conninfo or URI.
        query_timeout: seconds for each statement; None for no limit.

    Raises:
        SourceError: see `connect`; also what the server refuses within the block.
    """
    connection = connect(url, query_timeout=query_timeout)
    try:
        with translated(url):
            yield connection
            connection.execute("ROLLBACK")
    finally:
        connection.close()


def connect_session(url: SecretStr) -> psycopg.Connection:
    """Open a psycopg connection in autocommit, outside a transaction: its user begins one with `begin_sql`.

    Raises:
        SourceError: a subclass that names the reason and the fix; `SourceTooOld` below PostgreSQL 14.
    """
    source = source_of(url)
    with translated(url):
        # Poolers in transaction mode do not keep prepared statements: never prepare.
        connection = psycopg.connect(conninfo(url), autocommit=True, prepare_threshold=None)
    try:
        _refuse_old(str(source), connection.info.server_version)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_old(source: str, version: int) -> None:
    if version < OLDEST_SERVER * 10_000:
        raise SourceTooOld(source, str(version // 10_000), OLDEST_SERVER)


def connect_adbc(url: SecretStr) -> adbc.Connection:
    """Open an ADBC connection in autocommit, outside a transaction: its user begins one with `begin_sql`.

    Raises:
        SourceError: a subclass that names the reason and the fix.
    """
    source_of(url)
    with translated(url):
        return adbc.connect(conninfo(url), autocommit=True)


def execute(connection: Connection, statements: str) -> None:
    """Send statements in one message, by either driver, and discard what they return.

    One message is one round trip, and a pooler in transaction mode does not change the server session within it.

    Args:
        connection: of either driver.
        statements: separated by semicolons; without text of the user.

    Raises:
        psycopg.Error, adbc_driver_manager.Error: the server refused one of them.
    """
    if isinstance(connection, psycopg.Connection):
        connection.execute(statements.encode())
        return
    with connection.cursor() as cursor:  # not cursor.execute(): that prepares, and so takes one statement only
        cursor.adbc_statement.set_sql_query(statements)
        cursor.adbc_statement.execute_update()


def begin_sql(
    url: SecretStr, server: Server, query_timeout: float | None, lock_timeout: float, *, shared: bool = False
) -> str:
    """The statements that begin a read-only transaction and pin its settings; they take no snapshot.

    Every setting ends with its transaction. A setting of the session would outlive us behind a pooler in transaction
    mode, and apply to whoever gets the server session next.

    Args:
        url: its application_name is what pg_stat_activity shows.
        server: decides which settings there are.
        query_timeout: seconds, None for no limit.
        lock_timeout: seconds.
        shared: whether the transaction reads one snapshot throughout, its own or that of another session.
    """
    values = _PINNED | {
        "statement_timeout": str(round((query_timeout or 0) * 1000)),
        "lock_timeout": str(round(lock_timeout * 1000)),
        _NAME: _given(url).get(_NAME, _DEFAULT_NAME),
    }
    level = "ISOLATION LEVEL REPEATABLE READ " if shared else ""
    settings = [f"SET LOCAL {name} = {quote_literal(value)}" for name, value in values.items() if server.knows(name)]
    return "; ".join([f"BEGIN {level}READ ONLY", *settings])


def conninfo(url: SecretStr) -> str:
    """The connection string with timeouts and keepalives where the user set none. Secret: never print it.

    Without application_name: PgBouncer may leave that to the next client of a server session.
    """
    with translated(url):
        given = _PATIENCE | _given(url) | _ENCODING
        return make_conninfo("", **{key: value for key, value in given.items() if key != _NAME})


def _given(url: SecretStr) -> dict[str, str]:
    return {key: str(value) for key, value in conninfo_to_dict(url.get_secret_value()).items()}
