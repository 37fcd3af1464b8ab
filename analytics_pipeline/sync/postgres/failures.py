"""Failures: what both drivers raise, as one `SourceError` in words for people and without secrets.

Belongs here: naming a source without its password, scrubbing texts, telling failures apart by SQLSTATE or message.
Does not: retrying, or deciding what a slower tier can cure (`readers`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote

import adbc_driver_manager
import psycopg
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from analytics_pipeline.errors import (
    InvalidSourceUrl,
    MultidimensionalArray,
    SourceAuthenticationFailed,
    SourceBusy,
    SourceConnectionLost,
    SourceConnectionRefused,
    SourceDatabaseMissing,
    SourceError,
    SourceHostUnknown,
    SourceLocked,
    SourceNameMissing,
    SourcePermissionDenied,
    SourceQueryInvalid,
    SourceReadFailed,
    SourceSerializationFailed,
    SourceServersDiffer,
    SourceTimeout,
    SourceUnreachable,
    ValueDoesNotFit,
)
from analytics_pipeline.sync.postgres.causes import cause_of
from analytics_pipeline.sync.postgres.source_url import url_problem, value_problem

DRIVER_ERRORS = (psycopg.Error, adbc_driver_manager.Error, pa.ArrowException, OSError, UnicodeError)
ARRAY_GUARD = "analytics_pipeline: more than one dimension in "
"""What the SQL of an array column makes Postgres complain about; see `types`."""
SERVER_GUARD = "analytics_pipeline: another server "
"""What the first statement of a connection complains about where it has reached another server than the others."""

VALUE_GUARD = "analytics_pipeline: a value does not fit into "
"""The same for a column whose type the dataset chose; see `stored_as`."""

MASK = "***"
_LONGEST_DETAIL = 500
_SQLSTATE = re.compile(r"SQLSTATE: (\w{5})")
_PREFIXES = re.compile(
    r"^(?:[A-Z_]+: )?(?:\[libpq\] )?(?:Failed to [^:]*: |Execution error \[\w+\]: |could not begin COPY: )*"
)
_GUARDED = re.compile(re.escape(ARRAY_GUARD) + r"(.*?)[\"\u201d\u00bb]?$")
_UNFIT = re.compile(re.escape(VALUE_GUARD) + r"(.*?): (.*?)[\"\u201d\u00bb]?$")
_INVALID_TEXT = "22P02"


@dataclass(frozen=True)
class Source:
    """Who reads which database where; prints without secrets."""

    host: str
    port: str
    database: str
    user: str

    def __str__(self) -> str:
        return f"database {self.database!r} at {self.host}:{self.port} (user {self.user!r})"


def source_of(url: SecretStr) -> Source:
    """What may be said of a connection string.

    Raises:
        InvalidSourceUrl: it cannot be parsed, or parses into nonsense because the password was not percent-encoded.
    """
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(url.get_secret_value()).items()}
    except (psycopg.Error, UnicodeError):
        raise InvalidSourceUrl(url_problem(url.get_secret_value())) from None
    host, port = parts.get("host") or parts.get("hostaddr") or "localhost", parts.get("port") or "5432"
    user = parts.get("user") or "default"
    database = parts.get("dbname") or user
    if "@" in host + database or "://" in database or not port.replace(",", "").strip().isdigit():
        raise InvalidSourceUrl(url_problem(url.get_secret_value()))
    if problem := value_problem(parts):
        raise InvalidSourceUrl(problem)
    return Source(host, port, database, user)


def scrub(text: str, url: SecretStr) -> str:
    """The text without the connection string, its password, or either in percent-encoding."""
    secret = url.get_secret_value()
    try:
        parts = conninfo_to_dict(secret)
    except (psycopg.Error, UnicodeError):
        parts = {}
    passwords = [str(parts[key]) for key in ("password", "sslpassword", "passfile") if parts.get(key)]
    passwords += re.findall(r"://[^:/@]*:([^@]*)@", secret)
    forms = {secret, unquote(secret)}
    for password in passwords:
        forms |= {password, quote(password), quote(password, safe=""), quote_plus(password), unquote(password)}
    for form in sorted(forms - {""}, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


@contextmanager
def translated(url: SecretStr) -> Iterator[None]:
    """Raise what a driver raises inside as a `SourceError`, without its cause: that may quote the connection string."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise source_error(error, url) from None


def source_error(error: Exception, url: SecretStr) -> SourceError:
    """The failure of either driver, told apart and scrubbed."""
    source, raw = source_of(url), str(error)
    text = scrub(raw, url)
    detail, state = _first_line(text), sqlstate(error)
    if cause := cause_of(str(source), state, raw, detail):
        return cause
    if state == _INVALID_TEXT and (guarded := _guarded(str(source), detail)):
        return guarded
    for matches, build in _BY_STATE:
        if state is not None and matches(state):
            return build(str(source), detail)
    if state is not None:
        return SourceReadFailed(str(source), detail)
    for pattern, build in _BY_TEXT:
        if pattern.search(raw):  # a short password would be scrubbed out of the words to look for
            return build(str(source), detail)
    return SourceReadFailed(str(source), detail)


def _guarded(source: str, detail: str) -> SourceError | None:
    """What the SQL of a column made Postgres complain about."""
    if SERVER_GUARD in detail:
        return SourceServersDiffer(source)
    if deep := _GUARDED.search(detail):
        return MultidimensionalArray(deep[1])
    unfit = _UNFIT.search(detail)
    return ValueDoesNotFit(unfit[2], unfit[1]) if unfit else None


def url_of(connection: psycopg.Connection) -> SecretStr:
    """The connection string that an open connection came from, password included, for `translated`."""
    info = connection.info
    secret = {"password": info.password} if info.password else {}
    return SecretStr(make_conninfo("", **(info.get_parameters() | secret)))


def sqlstate(error: Exception) -> str | None:
    """The five letters of Postgres, if the driver passed them on."""
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state
    found = _SQLSTATE.search(str(error))
    return found[1] if found else None


def _first_line(text: str) -> str:
    """The server's own sentence, without the drivers' frames around it."""
    line = _PREFIXES.sub("", text.strip()).split("\n")[0]
    line = re.sub(r"^(?:ERROR|FATAL|PANIC|FEHLER):\s+", "", line)
    line = re.sub(r"^connection failed: |^.*?FATAL:\s+|\. SQLSTATE: \w{5}$", "", line).strip().rstrip(".")
    return line[:_LONGEST_DETAIL] or "no reason given"


_Build = Callable[[str, str], SourceError]


def _starts(*prefixes: str) -> Callable[[str], bool]:
    return lambda state: state.startswith(prefixes)


# PostgreSQL's manual, appendix A; the first match counts.
_BY_STATE: tuple[tuple[Callable[[str], bool], _Build], ...] = (
    (_starts("28"), SourceAuthenticationFailed),
    (_starts("3D"), lambda source, _detail: SourceDatabaseMissing(source)),
    (_starts("42501"), SourcePermissionDenied),
    (_starts("42P01", "42703", "42883", "3F000", "42704"), SourceNameMissing),
    (_starts("57014", "25P04"), SourceTimeout),
    (_starts("55P03", "40P01"), SourceLocked),
    (_starts("40"), SourceSerializationFailed),
    (_starts("57P", "08000", "08003", "08006", "25P03"), SourceConnectionLost),
    (_starts("53"), SourceBusy),
    # Poolers and servers that only look like Postgres: a slower tier may do (see `readers`).
    (_starts("0A", "08P01", "26", "42P05"), SourceReadFailed),
    (_starts("42", "22", "25006", "21", "54", "P0"), SourceQueryInvalid),
)

# Failures before a session exists carry no SQLSTATE, only libpq's and the server's sentences.
_BY_TEXT: tuple[tuple[re.Pattern[str], _Build], ...] = (
    (
        re.compile(r"translate host name|resolve host|service not known|nodename nor servname|label empty or too long"),
        lambda source, _detail: SourceHostUnknown(source),
    ),
    (
        re.compile(
            r"password authentication failed|no password supplied|pg_hba\.conf"
            r'|role "[^"]*" (?:does not exist|is not permitted to log in)'
        ),
        SourceAuthenticationFailed,
    ),
    (re.compile(r'database "[^"]*" does not exist'), lambda source, _detail: SourceDatabaseMissing(source)),
    (
        re.compile(
            r"unrecognized configuration parameter|invalid value for parameter|invalid \w+ value"
            r"|not currently accepting"
        ),
        SourceConnectionRefused,
    ),
    (re.compile(r"shutting down|starting up|in recovery mode|terminating connection"), SourceConnectionLost),
    (re.compile(r"statement timeout"), SourceTimeout),
    (
        re.compile(
            r"connection to server.*failed|[Cc]onnection refused|timeout expired|No such file|connection timeout"
        ),
        SourceUnreachable,
    ),
    (
        re.compile(
            r"server closed the connection|connection (?:is|was) (?:closed|lost)|no connection to the server"
            r"|SSL SYSCALL|[Cc]onnection reset|could not (?:receive|send) data|Broken pipe|EOF detected"
            r"|Connection timed out"
        ),
        SourceConnectionLost,
    ),
)
