"""Spec files: from the attributes of a `defs.yaml` to a checked spec, with errors that name file, line and fix.

Belongs here: filling in variables, the refusals of attributes, reading every file below a folder without Dagster.
Does not: the fields' meaning (`spec`), YAML that Dagster would refuse or describe badly (`components.dataset_files`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from analytics_pipeline.errors import DatasetFileInvalid
from analytics_pipeline.settings import environment_value
from analytics_pipeline.sync.spec import SplitSyncSpec, unknown_key_message

TYPES = (
    "analytics_pipeline.components.SplitSyncComponent",
    "analytics_pipeline.components.split_sync.SplitSyncComponent",
)
"""What a file that describes a dataset says it is; the first one is the usual spelling."""

_ENVIRONMENT_TEMPLATE = re.compile(r"\{\{\s*env\.(\w+)\s*\}\}")

LineOf = Callable[[str], int | None]
"""The line in which an attribute stands; of the attributes as a whole for an empty name."""


def read_spec_files(folder: Path) -> Sequence[SplitSyncSpec]:
    """The specs of all datasets below a folder of definitions, enabled or not, by name.

    Args:
        folder: holds a `defs.yaml` for each dataset, however deep.

    Raises:
        DatasetFileInvalid: see `checked_spec`; a file that is no YAML, too.
    """
    specs = [spec for file in sorted(folder.rglob("defs.yaml")) for spec in _specs_in(file)]
    return sorted(specs, key=lambda spec: spec.name)


def checked_spec(written: Mapping[str, object], file: Path, name: str, line_of: LineOf) -> SplitSyncSpec:
    """The spec that some attributes describe, their variables filled in.

    Args:
        written: as they stand in the file.
        file: named by refusals.
        name: of the dataset where none is written.
        line_of: as refusals name it.

    Raises:
        DatasetFileInvalid: an attribute is missing, unknown or wrong, or a variable is not set.
    """
    _refuse_unset_variables(written, file, line_of)
    attributes = {key: rendered(value) for key, value in written.items()}
    problems = [
        (line_of(key), "", unknown_key_message(key, SplitSyncSpec.known_keys()))
        for key in attributes
        if key not in SplitSyncSpec.known_keys()
    ]
    if problems:
        raise DatasetFileInvalid(str(file), problems)
    try:
        return SplitSyncSpec.model_validate({"name": name, **attributes})
    except ValidationError as error:
        found = [(".".join(map(str, item["loc"])), _sentence(item["type"], item["msg"])) for item in error.errors()]
        if "name" not in attributes:
            found = [(key, f"{text}; rename the folder" if key == "name" else text) for key, text in found]
    raise DatasetFileInvalid(str(file), [(line_of(key), key, message) for key, message in found])


def rendered(value: object) -> object:
    """A value with each `{{ env.X }}` filled in, and nothing else: full templates would rewrite SQL like '{{1,2}}'."""
    if isinstance(value, str):
        return _ENVIRONMENT_TEMPLATE.sub(lambda found: environment_value(found[1]) or "", value)
    if isinstance(value, dict):
        return {key: rendered(item) for key, item in value.items()}
    return value


def _refuse_unset_variables(written: Mapping[str, object], file: Path, line_of: LineOf) -> None:
    """A query with a hole in it would be refused later, and less clearly."""
    problems = [
        (line_of(key), key, f"the environment variable {variable} is not set; set it, or write the value here")
        for key, value in written.items()
        for variable in _ENVIRONMENT_TEMPLATE.findall(str(value))
        if environment_value(variable) is None
    ]
    if problems:
        raise DatasetFileInvalid(str(file), problems)


def _sentence(kind: str, message: str) -> str:
    return "is missing; add it under attributes" if kind == "missing" else message.removeprefix("Value error, ")


def _specs_in(file: Path) -> Iterator[SplitSyncSpec]:
    try:
        with file.open(encoding="utf-8") as stream:  # from a stream, PyYAML's errors quote no line of it
            documents = list(yaml.safe_load_all(stream))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise DatasetFileInvalid(str(file), [(None, "", "not valid YAML in UTF-8")]) from None
    for document in documents:
        if isinstance(document, Mapping) and document.get("type") in TYPES:
            attributes = document.get("attributes")
            written = {str(key): value for key, value in attributes.items()} if isinstance(attributes, Mapping) else {}
            yield checked_spec(written, file, file.parent.name, lambda _key: None)
