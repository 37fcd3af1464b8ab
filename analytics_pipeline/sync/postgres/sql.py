"""SQL text: quoting, and making a user's query safe to stand inside another one.

Belongs here: the only functions that put a name, a literal or a query into SQL text.
Does not: running anything. Whether a query is one SELECT is Postgres's to say (`describe`).
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<space>\s+ | --[^\n]*)
    | (?P<comment>/\*)
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | [^\W\d][\w$]*
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
LESS = "OPERATOR(pg_catalog.<)"
"""The built-in operator, whatever the search_path finds first."""
NOT_LESS = "OPERATOR(pg_catalog.>=)"
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def quote_identifier(name: str) -> str:
    """A name as SQL spells it, always quoted."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A string as SQL spells it, whatever `standard_conforming_strings` says."""
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def column(name: str) -> str:
    """A column of the wrapped query, which is always called q."""
    return f"q.{quote_identifier(name)}"


def bare(query: str) -> str:
    """The query without the semicolons, comments and blanks after its last word."""
    end, position = 0, 0
    while position < len(query):
        token = _TOKEN.match(query, position)
        if token is None:  # cannot be: the last alternative matches anything
            break
        position = _comment_end(query, token.end()) if token["comment"] else token.end()
        if not token["space"] and not token["comment"] and token[0] != ";":
            end = position
    return query[:end]


def opening(query: str) -> str:
    """The query up to its first word, with that, without comments and blanks: `((select`."""
    text, position = "", 0
    while position < len(query):
        token = _TOKEN.match(query, position)
        if token is None:  # cannot be: the last alternative matches anything
            break
        position = _comment_end(query, token.end()) if token["comment"] else token.end()
        if not token["space"] and not token["comment"]:
            text += token[0]
            if token[0] != "(":
                break
    return text


def subselect(query: str) -> str:
    """The query as a FROM item named q; anything that is not one SELECT is a syntax error there."""
    return f"({bare(query)}\n) AS q"


def _comment_end(query: str, position: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(query, position)
        if edge is None:
            return len(query)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position
