"""Bounded validation: of a large document not everything that is wrong, but never more than memory holds.

Belongs here: how pydantic is kept from collecting errors. Does not: what is wrong with a document (`reading`).

Pydantic keeps more than a kilobyte for each error: a list of 12 MB, all wrong, took 3.6 GB and more than a minute. So a
list ends at its first wrong item here, and so many errors in mappings end it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic_core import SchemaValidator, core_schema

MOST_PROBLEMS = 10_000
"""In the mappings of a large document."""

_LISTS = ("tuple", "list")


class TooMuchIsWrong(Exception):
    """A document has more problems than anybody reads."""


def validated_in_bounds(kind: type[BaseModel], value: Mapping[str, object]) -> object:
    """The model that a value stands for.

    Raises:
        pydantic.ValidationError: some of what is wrong with it.
        TooMuchIsWrong: there is too much of it.
    """
    return _validator(kind).validate_python(value, context={"problems": 0})


@cache
def _validator(kind: type[BaseModel]) -> SchemaValidator:
    # Otherwise the validators of the inner models are taken as they were built with them, without bounds.
    return SchemaValidator(_bounded(kind.__pydantic_core_schema__), _use_prebuilt=False)


def _bounded(part: Any) -> Any:
    if isinstance(part, list):
        return [_bounded(item) for item in part]
    if not isinstance(part, dict):
        return part
    bounded = {key: item if key == "metadata" else _bounded(item) for key, item in part.items()}
    if part.get("type") in _LISTS:
        bounded["fail_fast"] = True
    if part.get("type") == "dict" and "values_schema" in part:
        bounded["values_schema"] = core_schema.with_info_wrap_validator_function(_counted, bounded["values_schema"])
    return bounded


def _counted(value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo[dict[str, int]]) -> object:
    try:
        return validate(value)
    except ValidationError as error:
        info.context["problems"] += error.error_count()
        if info.context["problems"] > MOST_PROBLEMS:
            raise TooMuchIsWrong from None
        raise
