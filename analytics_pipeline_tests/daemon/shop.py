"""A user's own code location: datasets of the orders in a package `shop`, as YAML files."""

from __future__ import annotations

from pathlib import Path

from analytics_pipeline.sync.spec import SplitSyncSpec

MODULE = "shop.definitions"
_DEFINITIONS = """
import dagster as dg
import shop.defs
from analytics_pipeline.components import load_datasets
from analytics_pipeline.resources import AnalyticsResource

defs = dg.Definitions.merge(
    load_datasets(shop.defs),
    dg.Definitions(resources={"analytics": AnalyticsResource()}, executor=dg.in_process_executor),
)
"""
_WORKSPACE = f"""\
load_from:
  - python_module:
      module_name: {MODULE}
      working_directory: .
"""


def open_shop(folder: Path, *specs: SplitSyncSpec) -> None:
    """Write the package and its `workspace.yaml` into a folder.

    Args:
        folder: a working folder.
        specs: of the datasets.
    """
    for spec in specs:
        place = folder / "shop" / "defs" / spec.name
        place.mkdir(parents=True)
        attributes = spec.model_dump_json(exclude_defaults=True, exclude={"name"})
        (place / "defs.yaml").write_text(
            f"type: analytics_pipeline.components.SplitSyncComponent\nattributes: {attributes}\n"
        )
    for module in (folder / "shop" / "defs", folder / "shop"):
        (module / "__init__.py").touch()
    (folder / "shop" / "definitions.py").write_text(_DEFINITIONS)
    (folder / "workspace.yaml").write_text(_WORKSPACE)
