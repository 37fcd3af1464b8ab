"""SplitSyncComponent: one `defs.yaml`, one dataset.

Belongs here: from YAML to a checked spec, with errors that name file, line and fix.
Does not: the assets (`sync_assets`), the meaning of the fields (`sync.spec`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from analytics_pipeline.components.sync_definitions import build_sync_assets
from analytics_pipeline.errors import DatasetFileInvalid
from analytics_pipeline.settings import SOURCE_URL_VARIABLES, environment_value, sample_is_in_charge, source_url
from analytics_pipeline.sync.spec import SplitSyncSpec, unknown_key_message

_ENVIRONMENT_TEMPLATE = re.compile(r"\{\{\s*env\.(\w+)\s*\}\}")

logger = logging.getLogger(__name__)


class SplitSyncAttributes(BaseModel):
    """What stands under `attributes` in a `defs.yaml`: the fields of `SplitSyncSpec`, `name` being the folder's.

    Deliberately unchecked: Dagster prints the offending input, which may hold a secret pasted into the wrong place.
    """

    model_config = ConfigDict(extra="allow")


class SplitSyncComponent(dg.Component):
    """Mirrors one Postgres source, as a dataset half and a results half, into the published store.

    Args:
        spec: the checked attributes.
    """

    def __init__(self, spec: SplitSyncSpec) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """What Dagster reads the attributes into."""
        return SplitSyncAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> SplitSyncComponent:
        """The component for a `defs.yaml`.

        Raises:
            DatasetFileInvalid: an attribute is missing, unknown or wrong; names file, line and fix.
        """
        written = attributes.model_extra or {} if attributes else {}
        _refuse_unset_variables(written, context)
        return cls(_checked_spec({key: _rendered(value) for key, value in written.items()}, context))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - Dagster's signature
        """The dataset's assets and job; none where it is switched off or has no source."""
        if not self.spec.enabled:
            return dg.Definitions()
        if not _has_source(self.spec.url):
            logger.warning("Dataset %s is disabled: %s is not set.", self.spec.name, self.spec.url)
            return dg.Definitions()
        return build_sync_assets(self.spec)


def _has_source(variable: str) -> bool:
    return source_url(variable) is not None or (variable in SOURCE_URL_VARIABLES and sample_is_in_charge())


def _rendered(value: object) -> object:
    """A value with each `{{ env.X }}` filled in, and nothing else: full templates would rewrite SQL like '{{1,2}}'."""
    if isinstance(value, str):
        return _ENVIRONMENT_TEMPLATE.sub(lambda found: environment_value(found[1]) or "", value)
    if isinstance(value, dict):
        return {key: _rendered(item) for key, item in value.items()}
    return value


def _refuse_unset_variables(written: Mapping[str, object], context: dg.ComponentLoadContext) -> None:
    """A query with a hole in it would be refused later, and less clearly."""
    problems = [
        (
            _line_of(key, context),
            key,
            f"the environment variable {variable} is not set; set it, or write the value here",
        )
        for key, value in written.items()
        for variable in _ENVIRONMENT_TEMPLATE.findall(str(value))
        if environment_value(variable) is None
    ]
    if problems:
        raise DatasetFileInvalid(str(_defs_file(context)), problems)


def _checked_spec(attributes: Mapping[str, object], context: dg.ComponentLoadContext) -> SplitSyncSpec:
    file = _defs_file(context)
    problems = [
        (_line_of(key, context), "", unknown_key_message(key, SplitSyncSpec.known_keys()))
        for key in attributes
        if key not in SplitSyncSpec.known_keys()
    ]
    if problems:
        raise DatasetFileInvalid(str(file), problems)
    try:
        return SplitSyncSpec.model_validate({"name": context.path.name, **attributes})
    except ValidationError as error:
        found = [(".".join(map(str, item["loc"])), _sentence(item["type"], item["msg"])) for item in error.errors()]
        if "name" not in attributes:
            found = [(key, f"{text}; rename the folder" if key == "name" else text) for key, text in found]
    raise DatasetFileInvalid(str(file), [(_line_of(key, context), key, message) for key, message in found])


def _sentence(kind: str, message: str) -> str:
    return "is missing; add it under attributes" if kind == "missing" else message.removeprefix("Value error, ")


def _defs_file(context: dg.ComponentLoadContext) -> Path:
    return context.path / "defs.yaml" if context.path.is_dir() else context.path


def _line_of(key: str, context: dg.ComponentLoadContext) -> int | None:
    tree = context.resolution_context.source_position_tree
    attributes = tree.children.get("attributes") if tree else None
    if attributes is None:
        return None
    place, _ = attributes.lookup_closest_and_path([key.partition(".")[0]] if key else [], None)
    return place.start.line
