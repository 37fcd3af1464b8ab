"""Expressions: the words of SQL as a user or EXPLAIN writes it, as far as they can be told without a parser.

Belongs here: tokens, and what they call, cast, name and quote. Does not: what a function or column is (`traits`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_NAME = r"""(?:"(?:[^"]|"")*"|[^\W\d][\w$]*)"""
_TYPE = rf"""
    (?: double\ precision
      | (?:character|bit)\ varying
      | time(?:stamp)?(?:\(\d+\))?\ with(?:out)?\ time\ zone
      | {_NAME}(?:\.{_NAME})* )
    (?:\([\d,\s-]+\))? (?:\[\])*
"""
_TOKEN = re.compile(
    rf"""
      (?P<skip>\s+ | --[^\n]* | /\*.*?\*/)
    | (?P<literal>[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$ | \d[\w.]*)
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[^\W\d][\w$]*)
    | (?P<cast>::\s*{_TYPE})
    | (?P<operator>[-+*/<>=~!@\#%^&|`?]+)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Kind(StrEnum):
    """What a token is. A word is a name or syntax, a quoted one is a name, a cast holds its type."""

    LITERAL = "literal"
    QUOTED = "quoted"
    WORD = "word"
    CAST = "cast"
    OPERATOR = "operator"
    MARK = "mark"


@dataclass(frozen=True)
class Token:
    """One word, literal, operator or mark; `text` of a quoted name is without its quotes."""

    kind: Kind
    text: str

    @property
    def is_name(self) -> bool:
        """Whether it can name something."""
        return self.kind in {Kind.QUOTED, Kind.WORD}

    @property
    def is_syntax(self) -> bool:
        """Whether it is a word that EXPLAIN wrote as syntax: names it writes in lower case, or in quotes."""
        return self.kind is Kind.WORD and self.text != self.text.lower()

    @property
    def folded(self) -> str:
        """The name as the catalogs have it."""
        return self.text if self.kind is Kind.QUOTED else self.text.lower()


Tokens = tuple[Token, ...]


@dataclass(frozen=True)
class Call:
    """A function's name before its parenthesis, and what stands inside.

    Args:
        schema: where it was written; None without.
    """

    schema: str | None
    name: str
    inside: Tokens

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


def tokens(text: str) -> Tokens:
    """The tokens of a text, blanks and comments left out."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup if match.lastgroup != "tag" else "literal"
        if kind == "skip" or kind is None:
            continue
        word = match[0][1:-1].replace('""', '"') if kind == "quoted" else match[0]
        found.append(Token(Kind(kind), word))
    return tuple(found)


def calls(words: Tokens) -> Iterator[Call]:
    """Every name before a parenthesis; some are syntax, such as AND (."""
    for at in range(len(words) - 1):
        if not words[at].is_name or words[at + 1].text != "(":
            continue
        qualified = at >= 2 and words[at - 1].text == "." and words[at - 2].is_name  # noqa: PLR2004
        start = at - 2 if qualified else at
        yield Call(words[start].folded if qualified else None, words[at].folded, _inside(words, at + 1))


def columns(words: Tokens) -> Iterator[str]:
    """Every name in an expression of EXPLAIN that is neither a function, a type, an alias nor syntax."""
    for at, word in enumerate(words):
        after = words[at + 1].text if at + 1 < len(words) else ""
        if word.is_name and not word.is_syntax and after not in {"(", "."}:
            yield word.folded


def is_constant(words: Tokens) -> bool:
    """Whether an expression of EXPLAIN names nothing but types."""
    return not any(word.is_name for word in words)


def split(words: Tokens, separator: str = ",") -> list[Tokens]:
    """The parts between separators outside all parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for word in words:
        depth += (word.text in {"(", "["}) - (word.text in {")", "]"}) if word.kind is Kind.MARK else 0
        if depth == 0 and word.text == separator and word.kind is Kind.MARK:
            parts.append([])
        else:
            parts[-1].append(word)
    return [tuple(part) for part in parts]


def arguments(call: Call) -> tuple[list[Tokens], list[Tokens]]:
    """The arguments of an aggregate and the keys of its own ORDER BY."""
    depth = 0
    for at, word in enumerate(call.inside):
        depth += (word.text == "(") - (word.text == ")") if word.kind is Kind.MARK else 0
        if depth == 0 and _is(call.inside[at : at + 2], "ORDER", "BY"):
            return split(call.inside[:at]), [sort_key(key) for key in split(call.inside[at + 2 :])]
    return split(call.inside), []


def sort_key(words: Tokens) -> Tokens:
    """A key of a sort without its direction and outer parentheses."""
    end = len(words)
    for at, word in enumerate(words):
        if word.is_syntax and word.text in {"ASC", "DESC", "NULLS", "USING", "COLLATE"}:
            end = at
            break
    return _stripped(words[:end])


def has_words(words: Tokens, *wanted: str) -> bool:
    """Whether these unquoted words stand side by side, in any case."""
    return any(_is(words[at : at + len(wanted)], *wanted) for at in range(len(words)))


def _is(words: Tokens, *wanted: str) -> bool:
    return [word.text.upper() for word in words if word.kind is not Kind.QUOTED] == list(wanted)


def _inside(words: Tokens, opening: int) -> Tokens:
    depth = 0
    for at in range(opening, len(words)):
        depth += (words[at].text == "(") - (words[at].text == ")") if words[at].kind is Kind.MARK else 0
        if depth == 0:
            return words[opening + 1 : at]
    return words[opening + 1 :]


def _stripped(words: Tokens) -> Tokens:
    while len(words) > 1 and words[0].text == "(" and _inside(words, 0) == words[1:-1] and words[-1].text == ")":
        words = words[1:-1]
    return words
