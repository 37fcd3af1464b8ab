"""Parsing: texts that hold JSON, a Python literal, or neither, as JSON text.

Belongs here: that decision, for a whole column at once. Does not: what is in the JSON (`signals`, `heads`).

DuckDB judges and reads JSON, a million texts a second. What it refuses, and what only it would accept (NaN, a comma
before a bracket), is read by Python's own parsers, each distinct text once. Nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections.abc import Mapping

import polars as pl

from analytics_pipeline.human_signals.frames import asked

_NOT_STRICT = r"[:\[,]\s*-?(?i:nan|inf|infinity)\s*[,\]}]|,\s*[\]}]"
_TYPES = f"""
SELECT CASE WHEN json_valid(text) AND NOT regexp_matches(text, '{_NOT_STRICT}') THEN json_type(text) END AS type
FROM texts
"""
_OBJECT: tuple[type, ...] = (dict,)
_CONTAINER: tuple[type, ...] = (dict, list, tuple, set)
_OPENING = {_OBJECT: r"^\s*\{", _CONTAINER: r"^\s*[\[{(]"}
_OBJECT_IN_STRING = r'^\s*"(\s|\\[nrt])*\{'
_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def objects_of(values: pl.Series) -> pl.Series:
    """The JSON text of every object, also of one that was made JSON twice; null for everything else."""
    texts = _once(texts_of(values))
    types = _types_of(texts)
    parsed = texts.set(types.fill_null("") != "OBJECT", None)
    return _with_literals(texts, types, parsed, _OBJECT)


def _once(texts: pl.Series) -> pl.Series:
    """What stands in each JSON string that holds the text of an object; every other text as it is."""
    twice = texts.filter(texts.str.contains(_OBJECT_IN_STRING).fill_null(value=False)).unique()
    inner = {text: found for text in twice if isinstance(found := _string(text), str)}
    return texts.replace(list(inner), list(inner.values())) if inner else texts


def _string(text: str) -> object:
    try:
        return json.loads(text).encode("utf-8", "replace").decode()
    except (*_UNREADABLE, AttributeError):
        return None


def json_or_text(values: pl.Series) -> pl.Series:
    """The JSON text of every object and list; any other text as it stands; null for JSON's null."""
    texts = texts_of(values)
    types = _types_of(texts)
    return _with_literals(texts, types, texts.set(types == "NULL", None), _CONTAINER)


def texts_of(values: pl.Series) -> pl.Series:
    """A column as text; nested values as JSON."""
    if values.dtype == pl.String:
        return values
    if not values.dtype.is_nested():
        return values.cast(pl.String, strict=False)
    nested = {"nested": values.alias("value").to_frame()}
    return asked("SELECT to_json(value)::VARCHAR AS value FROM nested", nested)["value"]


def _types_of(texts: pl.Series) -> pl.Series:
    """JSON's type of each text, in DuckDB's words; null for what is no strict JSON."""
    if texts.null_count() == texts.len():
        return pl.Series(texts, dtype=pl.String)
    return asked(_TYPES, {"texts": texts.alias("text").to_frame()})["type"]


def _with_literals(texts: pl.Series, types: pl.Series, parsed: pl.Series, kinds: tuple[type, ...]) -> pl.Series:
    """What was parsed, and what Python can read of the rest, if it is of some kinds."""
    rest = texts.filter(types.is_null() & texts.str.contains(_OPENING[kinds]).fill_null(value=False)).unique()
    if rest.is_empty():
        return parsed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in somebody else's strings
        read = {text: json_text for text in rest if (json_text := _read(text, kinds)) is not None}
    if not read:
        return parsed
    found = texts.replace_strict(list(read), list(read.values()), default=None, return_dtype=pl.String)
    return found.zip_with(found.is_not_null(), parsed)


def _read(text: str, kinds: tuple[type, ...]) -> str | None:
    """The JSON of a Python literal, or of JSON that DuckDB refuses; None where it is neither, or of another kind."""
    try:
        try:
            value = json.loads(text, parse_constant=lambda _: None)
        except ValueError:
            value = ast.literal_eval(text.strip())
        if not isinstance(value, kinds):
            return None
        plain = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    except _UNREADABLE:
        return None
    return plain.encode("utf-8", "replace").decode()  # half a surrogate pair is no Unicode text


def _plain(value: object) -> object:
    """A literal in JSON's types; numbers that JSON lacks become null, other values their own spelling."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(item) for item in sorted(value, key=repr)]
    return str(value)
