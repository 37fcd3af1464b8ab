"""The published schemas of run documents, one a capability, as JSON Schema.

Belongs here: what pydantic leaves out: the words for each field, which stand in the docstrings. Does not: the rules
themselves (`document`, `extraction`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from pydantic import JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from analytics_pipeline.capabilities.documents.document import DOCUMENTS

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
    schema = DOCUMENTS[capability].model_json_schema(schema_generator=_DescribedSchema)
    return {"$schema": _DescribedSchema.schema_dialect, **{key: _corrected(value) for key, value in schema.items()}}


class _DescribedSchema(GenerateJsonSchema):
    """Docstrings taken apart: a sentence for the object, one for each of its fields, inherited ones included."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        for kind in schema["cls"].__mro__:
            summary, _, arguments = (inspect.cleandoc(kind.__doc__ or "")).partition("\n\nArgs:\n")
            if kind is schema["cls"]:
                found["description"] = " ".join(summary.split())
            for name, said in _FIELD.findall(arguments):
                if name in found["properties"]:
                    found["properties"][name].setdefault("description", " ".join(said.split()))
        return found


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
