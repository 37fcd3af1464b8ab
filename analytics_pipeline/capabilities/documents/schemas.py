"""The published schemas of run documents, one a capability, as JSON Schema.

Belongs here: what pydantic leaves out: the words for each field, which stand in the docstrings. Does not: the rules
themselves (`document`, `extraction`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

from analytics_pipeline.capabilities.documents.document import DOCUMENTS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FIELD = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def json_schema(capability: str) -> Mapping[str, JsonValue]:
    """The JSON Schema of a capability's documents.

    It tells names, types and ranges. What two fields must have in common, only reading tells: that a label is among the
    classes, that a place is not beyond the last image.

    Args:
        capability: its table.

    Raises:
        KeyError: there is no such capability.
    """
    schema: dict[str, JsonValue] = DOCUMENTS[capability].model_json_schema()
    parts = schema["$defs"]
    assert isinstance(parts, dict)
    described: dict[str, JsonValue] = {name: _described(part) for name, part in parts.items()}
    return {
        "$schema": _DIALECT,
        **{key: _corrected(value) for key, value in (_described(schema) | {"$defs": described}).items()},
    }


def _described(part: JsonValue) -> dict[str, JsonValue]:
    """An object's schema with its docstring taken apart: a sentence for itself, one for each field."""
    assert isinstance(part, dict)
    text, properties = part.get("description"), part.get("properties")
    if not isinstance(text, str) or not isinstance(properties, dict):
        return part
    summary, _, arguments = text.partition("\n\nArgs:\n")
    words = {name: " ".join(said.split()) for name, said in _FIELD.findall(arguments)}
    fields: dict[str, JsonValue] = {
        name: field | {"description": words[name]} if isinstance(field, dict) and name in words else field
        for name, field in properties.items()
    }
    return part | {"description": " ".join(summary.split()), "properties": fields}


def _corrected(value: JsonValue) -> JsonValue:
    """Without titles, which repeat names; a length of an array, which pydantic takes for a text's, as what it is."""
    if isinstance(value, list):
        return [_corrected(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _corrected(item) for key, item in value.items() if key != "title" or not isinstance(item, str)}
    if kept.get("type") == "array" and "minLength" in kept:
        kept["minItems"] = kept.pop("minLength")
    return kept
