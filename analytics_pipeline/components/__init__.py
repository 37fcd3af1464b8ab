"""Dagster components: YAML in, definitions out.

Belongs here: thin classes that turn a `defs.yaml` into a spec, and the factories that make assets and jobs of it.
Does not: domain logic (`sync`, `store`).
"""

from analytics_pipeline.components.split_sync import SplitSyncComponent

__all__ = ["SplitSyncComponent"]
