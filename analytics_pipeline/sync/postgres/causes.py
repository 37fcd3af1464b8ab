"""Causes: failures whose words tell more than their state, each with an error and advice of its own.

Belongs here: the words of PostgreSQL, libpq and PgBouncer. Does not: the general rule by state (`failures`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from analytics_pipeline.errors import (
    SourceBusy,
    SourceCancelled,
    SourceCertificateRefused,
    SourceDiskFull,
    SourceError,
    SourceForeignServer,
    SourceLockTableFull,
    SourceNeedsEncryption,
    SourceOutOfMemory,
    SourceRecoveryConflict,
    SourceTerminated,
    SourceTimeoutOfServer,
    SourceWithoutEncryption,
)

_Build = Callable[[str, str], SourceError]

_ANY = re.compile("")
_CERTIFICATE = re.compile(
    r"certificate verify failed|root certificate file|does not match host name|certificate (?:has )?expired"
    r"|self-signed certificate|alert unknown ca"
)
# Where both ways were tried, encryption is not what is missing.
_NO_ENCRYPTION = re.compile(r"\A(?!.*SSL encryption).*pg_hba\.conf entry [^\n]*no encryption|SSL required", re.DOTALL)
_NO_CONNECTION = re.compile(
    r"too many clients|remaining connection slots|too many connections|query_wait_timeout|max_client_conn"
    r"|no more connections allowed"
)
_NOT_POSTGRES = re.compile(
    r"unsupported frontend protocol|received invalid response to|expected authentication request"
)

# State (None for any), words of the driver's whole text, error; the first match counts.
_CAUSES: tuple[tuple[str | None, re.Pattern[str], _Build], ...] = (
    ("57014", re.compile(r"due to user request"), SourceCancelled),
    ("57P01", _ANY, SourceTerminated),
    ("57P05", _ANY, SourceTimeoutOfServer),
    ("25P03", _ANY, SourceTimeoutOfServer),
    ("25P04", _ANY, SourceTimeoutOfServer),
    ("40001", re.compile(r"conflict with recovery"), SourceRecoveryConflict),
    ("53100", _ANY, SourceDiskFull),
    (None, re.compile(r"max_locks_per_transaction"), SourceLockTableFull),  # in the hint, in every language
    (None, _NO_CONNECTION, SourceBusy),
    ("53200", re.compile(r"\A(?!.*max_locks_per_transaction)", re.DOTALL), SourceOutOfMemory),
    (None, re.compile(r"terminating connection due to administrator command"), SourceTerminated),
    (None, re.compile(r"client_idle_timeout|idle transaction timeout"), SourceTimeoutOfServer),
    (None, _CERTIFICATE, SourceCertificateRefused),
    (None, re.compile(r"does not support SSL, but SSL was required"), SourceWithoutEncryption),
    (None, _NO_ENCRYPTION, SourceNeedsEncryption),
    (None, _NOT_POSTGRES, SourceForeignServer),
)


def cause_of(source: str, state: str | None, raw: str, detail: str) -> SourceError | None:
    """The error of a failure that has one known cause; None for every other failure.

    Args:
        source: where, without secrets.
        state: SQLSTATE, if the driver passed it on.
        raw: the driver's whole text, which may hold secrets; it is only searched.
        detail: the server's own sentence, scrubbed.
    """
    for wanted, words, build in _CAUSES:
        if wanted in {None, state} and words.search(raw):
            return build(source, detail)
    return None
