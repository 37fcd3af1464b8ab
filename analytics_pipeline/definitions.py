"""The Dagster code location: everything under `defs/`, bound to the resources of this home.

Belongs here: loading definitions, binding resources, the executor. Does not: any definition of its own.
"""

import dagster as dg

import analytics_pipeline.defs
from analytics_pipeline.components import load_datasets
from analytics_pipeline.components.all_datasets import all_datasets
from analytics_pipeline.components.experiments import experiments
from analytics_pipeline.components.maintenance import maintenance
from analytics_pipeline.components.run_documents import run_documents
from analytics_pipeline.io_managers.capabilities import CapabilityStoreIOManager
from analytics_pipeline.io_managers.objects import ObjectStoreIOManager
from analytics_pipeline.resources import AnalyticsResource, PublishedStoreResource


def _definitions() -> dg.Definitions:
    loaded = load_datasets(analytics_pipeline.defs)
    return dg.Definitions.merge(
        loaded,
        all_datasets(loaded),
        maintenance(),
        experiments(),
        run_documents(),
        dg.Definitions(
            resources={
                "analytics": AnalyticsResource(),
                "published": PublishedStoreResource(),
                "capability_store": CapabilityStoreIOManager(),
                "object_store": ObjectStoreIOManager(),
            },
            # One process a step costs seconds of CPU each; a sync's own threads are what keeps both cores busy.
            executor=dg.in_process_executor,
        ),
    )


defs = _definitions()
