"""Secrets: the values of storage options, kept out of every text that is shown, logged or sent.

Belongs here: finding them in a text, as they are or escaped. Does not: refusing them in a URI (`backends.roots`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, quote_plus

SHORTEST_SECRET = 3
"""Shorter values, such as a flag or an empty text, stand everywhere and hide nothing."""

_ESCAPES: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: repr(text)[1:-1],
    lambda text: repr(text.encode(errors="replace"))[2:-1],
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: quote(text, safe="", errors="replace"),
    lambda text: quote(text, errors="replace"),
    lambda text: quote_plus(text, errors="replace"),
)


def without_secrets(text: str, options: Mapping[str, object]) -> str:
    """The text without any value of storage options: as it is, as bytes, or escaped, also twice over.

    Errors quote what they were given, and errors about errors quote the quotation. Values of one or two characters
    stay.

    Args:
        text: to be shown.
        options: as fsspec takes them, however deep.
    """
    for form in sorted(_forms(options), key=len, reverse=True):
        text = text.replace(form, "…")
    return text


def _forms(options: Mapping[str, object]) -> set[str]:
    once = {escape(secret) for secret in set(_texts(options)) for escape in _ESCAPES}
    return once | {escape(form) for form in once for escape in _ESCAPES}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (bytes, bytearray)):
        yield from _texts(bytes(value).decode(errors="replace"))
        yield from _texts(repr(bytes(value))[2:-1])
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= SHORTEST_SECRET:
        yield str(value)
