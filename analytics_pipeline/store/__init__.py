"""The published store: immutable Parquet files, a versioned manifest as the truth, a derived DuckDB catalog.

Belongs here: committing, opening, querying and maintaining the store; the only code that knows its files.
Does not: where rows come from (`sync`), or what they mean.
"""

from analytics_pipeline.store.backup import Restored
from analytics_pipeline.store.compaction import CompactedTable
from analytics_pipeline.store.digest import FileCheck
from analytics_pipeline.store.files import PartitionedWriter
from analytics_pipeline.store.manifest import (
    Change,
    JoinView,
    JsonObject,
    JsonValue,
    Manifest,
    Metadata,
    Replace,
    Table,
    TableChange,
)
from analytics_pipeline.store.merge_plan import CompactionRules
from analytics_pipeline.store.partition import DataFile, Partition
from analytics_pipeline.store.preview import Preview
from analytics_pipeline.store.reader import Reading
from analytics_pipeline.store.schema import Column
from analytics_pipeline.store.sealed import Parameter, Parameters
from analytics_pipeline.store.stage import ResumableStage, Stage
from analytics_pipeline.store.store import Store, create_store, open_store, unopened_store
from analytics_pipeline.store.sweep import Swept

__all__ = [
    "Change",
    "Column",
    "CompactedTable",
    "CompactionRules",
    "DataFile",
    "FileCheck",
    "JoinView",
    "JsonObject",
    "JsonValue",
    "Manifest",
    "Metadata",
    "Parameter",
    "Parameters",
    "Partition",
    "PartitionedWriter",
    "Preview",
    "Reading",
    "Replace",
    "Restored",
    "ResumableStage",
    "Stage",
    "Store",
    "Swept",
    "Table",
    "TableChange",
    "create_store",
    "open_store",
    "unopened_store",
]
