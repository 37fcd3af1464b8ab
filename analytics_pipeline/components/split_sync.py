"""SplitSyncComponent: one `defs.yaml`, one dataset.

Belongs here: from what Dagster read of a file to definitions, and the lines that its refusals name.
Does not: the assets (`sync_assets`), checking attributes (`sync.spec_files`), what they mean (`sync.spec`).
"""

from __future__ import annotations

import logging
from pathlib import Path

import dagster as dg
from pydantic import BaseModel, ConfigDict

from analytics_pipeline.components.sync_definitions import build_sync_assets
from analytics_pipeline.settings import SOURCE_URL_VARIABLES, sample_is_in_charge, source_url
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline.sync.spec_files import checked_spec

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
        return cls(checked_spec(written, _defs_file(context), context.path.name, lambda key: _line_of(key, context)))

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


def _defs_file(context: dg.ComponentLoadContext) -> Path:
    return context.path / "defs.yaml" if context.path.is_dir() else context.path


def _line_of(key: str, context: dg.ComponentLoadContext) -> int | None:
    tree = context.resolution_context.source_position_tree
    attributes = tree.children.get("attributes") if tree else None
    if attributes is None:
        return None
    place, _ = attributes.lookup_closest_and_path([key.partition(".")[0]] if key else [], None)
    return place.start.line
