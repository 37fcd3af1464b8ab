"""Connection strings that libpq does not take: which part is wrong, and what to write instead.

Belongs here: reading a string that could not be used. Does not: connecting, or what a server answers (`failures`).

No sentence repeats a piece of the string: where it is malformed, any piece may belong to the password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from psycopg import pq

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_EMPTY = "it is empty"
_WRONG_MODE = f"its sslmode is none of {', '.join(_SSL_MODES)}"
_PAIRS = (
    "one of its `name=value` pairs is wrong: its name is unknown to libpq, its port is not a number, or its value has "
    "a blank and no single quotes around it"
)
_URI = re.compile(r"postgres(?:ql)?://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_DRIVER = re.compile(r"postgres(?:ql)?\+[a-z0-9_]+:", re.IGNORECASE)
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED = {"@": "%40", "/": "%2F", "#": "%23", "?": "%3F", ":": "%3A", "%": "%25"}
_SEARCH_PATH = "ALTER ROLE … SET search_path, or name the schema in the dataset's queries"
_FOREIGN = {
    "schema": f"`schema` is an option of Prisma: remove it; {_SEARCH_PATH}",
    "currentSchema": f"`currentSchema` is an option of JDBC: remove it; {_SEARCH_PATH}",
    "pgbouncer": "`pgbouncer` is an option of Prisma: remove it; poolers need no option here",
    "connection_limit": "`connection_limit` is an option of Prisma: remove it",
    "pool_timeout": "`pool_timeout` is an option of Prisma: remove it",
    "pool_size": "`pool_size` is an option of SQLAlchemy: remove it",
    "statement_cache_size": "`statement_cache_size` is an option of asyncpg: remove it",
    "ssl": "`ssl` is an option of other drivers: write sslmode=require",
    "prepareThreshold": "`prepareThreshold` is an option of JDBC: remove it; nothing is prepared here",
    "charset": "`charset` is an option of MySQL's drivers: remove it",
}


def url_problem(text: str) -> str | None:
    """Which part of a connection string is wrong, and what to write instead; None where that is not plain.

    Args:
        text: the connection string. Secret.
    """
    return next((problem for problem in _problems(text) if problem), None)


def value_problem(parts: dict[str, str]) -> str | None:
    """What is wrong with the values of a string that could be parsed.

    Args:
        parts: its options, by libpq's names.
    """
    if not parts:
        return _EMPTY
    if parts.get("dbname", "").endswith(("'", '"')):
        return "a quotation mark stands at its end: remove it"
    if parts.get("sslmode", "prefer") not in _SSL_MODES:
        return _WRONG_MODE
    return None


def _problems(text: str) -> Iterator[str | None]:
    yield _around(text)
    yield _scheme(text)
    if _URI.match(text):
        yield from map(_option, _options(text))
        yield _authority(text)
    elif "=" in text:
        yield _PAIRS


def _around(text: str) -> str | None:
    if not text.strip():
        return _EMPTY
    if text != text.strip():
        return "a blank or line break stands before or after it: remove it"
    if text[0] in "'\"":
        return "it begins with a quotation mark: remove the quotation marks around it"
    if text.startswith("psql "):
        return "it begins with the command `psql`: keep only what follows, without quotation marks"
    if "\n" in text:
        return "it has a line break in it: write it in one line"
    return None


def _scheme(text: str) -> str | None:
    if text.startswith("jdbc:"):
        return "it begins with `jdbc:`: remove that, and write user and password before the host, with an @ after them"
    if _DRIVER.match(text):
        return "its scheme names a driver, as SQLAlchemy's URLs do: begin with postgresql:// alone"
    if _SCHEME.match(text) and not _URI.match(text):
        return "its scheme is not postgresql:// (in small letters)"
    if re.match(r"postgres(?:ql)?:", text) and not _URI.match(text):
        return "two slashes belong after its scheme: postgresql://"
    return None


def _options(text: str) -> list[tuple[str, str]]:
    _, _, query = text.rpartition("@")[2].partition("?")
    return [(name, value) for name, _, value in (option.partition("=") for option in query.split("&")) if name]


def _option(option: tuple[str, str]) -> str | None:
    name, value = option
    if name in _FOREIGN:
        return _FOREIGN[name]
    known = [entry.keyword.decode() for entry in pq.Conninfo.get_defaults()]
    if name in known:
        return (
            f"its sslmode is none of {', '.join(_SSL_MODES)}" if name == "sslmode" and value not in _SSL_MODES else None
        )
    close = difflib.get_close_matches(name.lower().replace("_", ""), known, n=1)
    if close:
        return f"an option after the ? is not known; did you mean `{close[0]}`?"
    return "an option after the ? is not known to libpq: remove it"


def _authority(text: str) -> str | None:
    rest = _URI.sub("", text, count=1)
    credentials, at, place = rest.rpartition("@")
    password = credentials.partition(":")[2]
    found = [sign for sign in "@/#?" if sign in password] if at else []
    if found:
        return f"its user or password has {_signs(found)} in it"
    if _BARE_PERCENT.search(rest):
        return f"it has a % that no two hexadecimal digits follow: {_signs(['%'])}"
    _, colon, port = re.split(r"[/?]", place, maxsplit=1)[0].rpartition(":")
    if colon and not place.startswith("[") and not port.replace(",", "").isdigit():
        return f"its port is not a number; if that belongs to the password, {_signs([':'])}"
    return None


def _signs(found: list[str]) -> str:
    return " and ".join(f"{sign}, which is written {_ENCODED[sign]}" for sign in found)
