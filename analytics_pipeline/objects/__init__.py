"""The object store: rich objects (arrays, frames, trees of values) outside the tables, each under a URL.

Belongs here: storing and loading them without pickle, their checksums, their life with an experiment. Does not: the
tables of runs and metrics, or Dagster (`io_managers`).
"""

from analytics_pipeline.objects.base import Base, Durability, open_base, using_base
from analytics_pipeline.objects.datastore import DataStore, DataStoreIO
from analytics_pipeline.objects.experiment import Experiment, Run, Runs, create_experiment, load_experiment
from analytics_pipeline.objects.mapping import AttributeMapping
from analytics_pipeline.objects.scratch import tmpdir_ctx
from analytics_pipeline.objects.serialization import deserialize, serialize
from analytics_pipeline.objects.sweep import Swept, sweep

__all__ = [
    "AttributeMapping",
    "Base",
    "DataStore",
    "DataStoreIO",
    "Durability",
    "Experiment",
    "Run",
    "Runs",
    "Swept",
    "create_experiment",
    "deserialize",
    "load_experiment",
    "open_base",
    "serialize",
    "sweep",
    "tmpdir_ctx",
    "using_base",
]
