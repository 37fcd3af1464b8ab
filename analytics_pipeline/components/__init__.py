"""Dagster components: YAML in, definitions out.

Belongs here: thin classes that turn a `defs.yaml` into a spec, and the factories that make definitions of it.
Does not: domain logic (`sync`, `store`), Dagster's own upkeep (`housekeeping`).
"""

from analytics_pipeline.components.dataset_files import load_datasets
from analytics_pipeline.components.split_sync import SplitSyncComponent
from analytics_pipeline.components.sync_definitions import build_sync_assets

__all__ = ["SplitSyncComponent", "build_sync_assets", "load_datasets"]
