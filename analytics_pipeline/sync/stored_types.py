"""Stored types: what a dataset may ask for under `types`, as it is written in YAML.

Belongs here: the words and their meaning. Does not: which types of Postgres can become them (`postgres.stored_as`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORDS = ("text", "json", "double", "bigint", "date", "timestamp", "timestamptz")
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_WIDEST = 38


@dataclass(frozen=True)
class StoredType:
    """A type of the store that a column is given.

    Args:
        name: one of the words, or `decimal`.
        precision: digits of a decimal.
        scale: those of them behind the point.
    """

    name: str
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})" if self.name == "decimal" else self.name


JSON = StoredType("json")


def stored_type(text: str) -> StoredType:
    """Read a type as YAML has it.

    Raises:
        ValueError: there is no such type; names all that there are.
    """
    word = text.strip().lower()
    if word in _WORDS:
        return StoredType(word)
    found = _DECIMAL.fullmatch(word)
    if found and 1 <= int(found[1]) <= _WIDEST and int(found[2]) <= int(found[1]):
        return StoredType("decimal", int(found[1]), int(found[2]))
    raise ValueError(
        f"types: {text!r} is not a type of the store; write {', '.join(_WORDS)} or decimal(p,s) with at most 38 digits"
    )
