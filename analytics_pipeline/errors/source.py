"""Errors of a Postgres source: where it is, what it said, what to do. None ever holds a connection string.

Belongs here: what `analytics_pipeline.sync.postgres` raises instead of its drivers' errors. Does not: retrying.
"""

from __future__ import annotations

from typing import ClassVar

from analytics_pipeline.errors.sync import SyncError


class SourceError(SyncError):
    """A Postgres source could not be read."""

    transient: ClassVar[bool] = False
    """Whether the same read may succeed if it is simply repeated."""


class InvalidSourceUrl(SourceError):
    """A connection string that cannot be parsed; none of its text is repeated, for it may be the password."""

    def __init__(self, problem: str | None = None) -> None:
        fix = problem or (
            "percent-encode special characters in the password (@ is %40, / is %2F, : is %3A, # is %23, % is %25)"
        )
        super().__init__(
            f"The connection string is not valid: {fix}. It reads postgresql://user:password@host:5432/database."
        )


class SourceHostUnknown(SourceError):
    """The host's name has no address."""

    def __init__(self, source: str) -> None:
        super().__init__(f"The host of {source} is unknown. Check its spelling, the DNS and the VPN.")


class SourceUnreachable(SourceError):
    """Nothing answers at the host and port, or too late."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"No connection to {source}: {detail}. See that the server runs, listens there and that no firewall is "
            "between."
        )


class SourceAuthenticationFailed(SourceError):
    """The server refused user and password, or this client's address."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source} refused the login: {detail}. Correct user or password in the connection string "
            "(percent-encode special characters), or allow this client in pg_hba.conf."
        )


class SourceDatabaseMissing(SourceError):
    """The server has no database of that name."""

    def __init__(self, source: str) -> None:
        super().__init__(f"There is no such database: {source}. Correct the last part of the connection string.")


class SourceTooOld(SourceError):
    """The server is older than the oldest supported one."""

    def __init__(self, source: str, found: str, oldest: int) -> None:
        super().__init__(
            f"{source} runs PostgreSQL {found}; {oldest} or newer is needed. "
            f"Upgrade it; or, if your server is newer, another one answers at this host and port: correct them."
        )


class SourceNameMissing(SourceError):
    """A query names a table, column, schema or function that is not there."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. Correct the dataset's query, or create what it names.")


class SourcePermissionDenied(SourceError):
    """The role may not read something that a query names."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. GRANT SELECT on it (and USAGE on its schema) to this user.")


class SourceQueryInvalid(SourceError):
    """Postgres could not parse or evaluate a query."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source} could not run the query: {detail}. Try it in psql and correct it.")


class SourceConnectionRefused(SourceError):
    """The server is there, and will not have this connection: an option of it is wrong, or the database is closed."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source} refused the connection: {detail}. Correct the options of its connection string.")


class SourceQueryRefused(SourceError):
    """A query that is not one plain SELECT with unique, named columns."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"The query was refused: {reason}. {fix}")


class MultidimensionalArray(SourceError):
    """A row holds an array of two or more dimensions, which a list column cannot hold without losing its shape."""

    def __init__(self, column: str) -> None:
        super().__init__(
            f"Column {column} holds an array of more than one dimension, which the store cannot keep as a list. "
            f"Write `{column}: json` for its query under `types`, and run the rebuild job."
        )


class ValueDoesNotFit(SourceError):
    """A row holds a value that the type under `types` cannot keep as it is."""

    def __init__(self, column: str, wanted: str) -> None:
        super().__init__(
            f"Column {column} holds a value that does not fit into {wanted}, which `types` asks for. Choose a wider "
            f"type there (`text` holds everything), or change the value in the dataset's query."
        )


class SourceTimeout(SourceError):
    """A query ran longer than its limit."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source}: {detail}. Raise query_timeout, or make the query cheaper (an index, fewer rows). "
            f"If it ran for less than query_timeout, the limit is another one: the role's or database's own "
            f"statement_timeout (ALTER ROLE … SET statement_timeout), or that of a pooler."
        )


class SourceLocked(SourceError):
    """A table stayed locked by another session, or the two blocked each other."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source}: {detail}. Another session holds the table (ALTER, TRUNCATE, VACUUM FULL); try later."
        )


class SourceSerializationFailed(SourceError):
    """The server gave the transaction up because of a concurrent one (on a standby: because of recovery)."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. Nothing was taken over; the read can be repeated.")


class SourceBusy(SourceError):
    """The server has no connection, memory or disk left."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        self.detail = detail
        super().__init__(f"{source} is out of resources: {detail}. Try later, or use fewer sync_workers.")


class SourceConnectionsExhausted(SourceBusy):
    """There are fewer connections than a sync needs, on the server, for the role, or in a pooler.

    Args:
        source: where.
        needed: connections without which nothing can be read.
        wanted: those with which it is read fastest.
        had: those that there were.
        why: the server's words.
    """

    def __init__(self, source: str, needed: int, wanted: int, had: int, why: str) -> None:
        super().__init__(source, why)
        self.needed, self.wanted, self.had = needed, wanted, had
        told = (
            f"{source} has too few connections: {needed} needed ({wanted} wanted), {had} available: {why}. Raise the "
            "role's CONNECTION LIMIT, max_connections or the pooler's pool size, or lower `connections` of datasets "
            "that share them."
        )
        self.args = (told,)


class SourceLockTableFull(SourceError):
    """The queries lock more relations than fit into the server's lock table: many partitions, or many indexes."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source}: {detail}. Its lock table is full: each partition and index that a query may read takes a lock "
            "in each session. Raise max_locks_per_transaction, or read fewer partitions (a condition on the partition "
            "key in the query)."
        )


class SourceServersDiffer(SourceError):
    """Connections of one sync reached different servers, whose rows need not be of one moment."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"{source} is more than one server: a second connection reached another one than the first, and a sync "
            "reads one snapshot of one server. Name a single server, or let the pooler or balancer send all "
            "connections of this user to the same one."
        )


class SourceConnectionLost(SourceError):
    """The connection ended before the answer did: server stop, terminated backend, network."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"The connection to {source} was lost: {detail}. Nothing was taken over; the read can be repeated."
        )


class SourceStalled(SourceError):
    """A connection is open but nothing has come through for too long: a frozen network, or a query without output."""

    transient = True

    def __init__(self, source: str, seconds: float) -> None:
        super().__init__(
            f"Nothing arrived from {source} for {seconds:g} s, and the read was given up. See whether the network or "
            "the server hangs; if the query just needs that long before its first row, raise query_timeout."
        )


class SourceReadFailed(SourceError):
    """Any other failure of a read, in the driver's own words."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"Reading {source} failed: {detail}.")
