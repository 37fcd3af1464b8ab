"""Errors of a Postgres source that have one known cause, each with the advice for that cause.

Belongs here: subclasses that say more than their state alone. Does not: telling them apart (`sync.postgres.causes`).
"""

from __future__ import annotations

from analytics_pipeline.errors.source import (
    SourceBusy,
    SourceConnectionLost,
    SourceError,
    SourceSerializationFailed,
    SourceTimeout,
)


class SourceCertificateRefused(SourceError):
    """The server's certificate could not be verified."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"The certificate of {source} was not accepted: {detail}. Name the file of its authority as sslrootcert "
            f"in the connection string (sslrootcert=system for the authorities of this machine), connect by the host "
            f"name that the certificate has, or have an expired one renewed."
        )


class SourceWithoutEncryption(SourceError):
    """The connection string asks for encryption, and the server has none."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source} does not encrypt connections: {detail}. Switch `ssl` on in that server, or write "
            f"sslmode=prefer into the connection string if the network between is trusted."
        )


class SourceNeedsEncryption(SourceError):
    """The server takes encrypted connections alone, and this one was not."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source} refused a connection without encryption: {detail}. Write sslmode=require into the connection "
            f"string, or allow this client in pg_hba.conf."
        )


class SourceCancelled(SourceError):
    """A person or a program on the server cancelled the query."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source}: {detail}. A session of an administrator cancelled it (pg_cancel_backend). Ask there before "
            f"it runs again; nothing was taken over."
        )


class SourceTerminated(SourceConnectionLost):
    """A person ended the connection, or the server was stopped."""

    def __init__(self, source: str, detail: str) -> None:
        SourceError.__init__(
            self,
            f"{source} ended the connection: {detail}. An administrator terminated it (pg_terminate_backend), or "
            f"the server was stopped or restarted. Nothing was taken over; the read can be repeated.",
        )


class SourceTimeoutOfServer(SourceTimeout):
    """A limit of the server ended a transaction or a session that was waiting."""

    def __init__(self, source: str, detail: str) -> None:
        SourceError.__init__(
            self,
            f"{source}: {detail}. A sync switches this limit off for itself, so a pooler or proxy enforces it: raise "
            f"it there, for the time that a sync takes.",
        )


class SourceRecoveryConflict(SourceSerializationFailed):
    """A standby cancelled the query, because replay could not wait for it."""

    def __init__(self, source: str, detail: str) -> None:
        SourceError.__init__(
            self,
            f"{source} is a standby, and replay ended the query: {detail}. If that happens again, raise "
            f"max_standby_streaming_delay there, switch hot_standby_feedback on, or read the primary.",
        )


class SourceDiskFull(SourceBusy):
    """The server has no disk space left, for sorts and hashes as a rule."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(source, detail)
        self.args = (f"{source} has no disk space left: {detail}. Free some there, or make the query sort less.",)


class SourceOutOfMemory(SourceBusy):
    """The server's process has no memory left."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(source, detail)
        self.args = (f"{source} has no memory left: {detail}. Lower work_mem of this role, or use fewer sync_workers.",)


class SourceForeignServer(SourceError):
    """Something answers at the port that does not speak PostgreSQL's protocol, or not this version of it."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"What answers at {source} is no PostgreSQL that this client understands: {detail}. See which server, "
            f"pooler or tunnel listens at that host and port, and in which version."
        )
