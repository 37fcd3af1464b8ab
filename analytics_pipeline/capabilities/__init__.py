"""The capability store: results of ML-testing capabilities as flat, typed rows in plain Parquet, queryable by SQL.

Belongs here: records, runs and their provenance, the store and its backends, extraction from outputs, arriving
documents. Does not: how files are written once and whole (`store.append`), or Dagster (`io_managers`, `components`).
"""

from analytics_pipeline.capabilities.backends.duckdb import DuckDBBackend
from analytics_pipeline.capabilities.backends.parquet import ParquetBackend
from analytics_pipeline.capabilities.backends.protocol import StorageBackend, StorageWriteReceipt
from analytics_pipeline.capabilities.config import AnalyticsStoreConfig, build_store
from analytics_pipeline.capabilities.provenance import (
    Provenance,
    ProvenanceLike,
    configure_provenance,
    get_provenance_defaults,
    reset_provenance,
)
from analytics_pipeline.capabilities.records import BaseRecord
from analytics_pipeline.capabilities.runs import CapabilityRun, Record, RunRecord
from analytics_pipeline.capabilities.store import AnalyticsStore

__all__ = [
    "AnalyticsStore",
    "AnalyticsStoreConfig",
    "BaseRecord",
    "CapabilityRun",
    "DuckDBBackend",
    "ParquetBackend",
    "Provenance",
    "ProvenanceLike",
    "Record",
    "RunRecord",
    "StorageBackend",
    "StorageWriteReceipt",
    "build_store",
    "configure_provenance",
    "get_provenance_defaults",
    "reset_provenance",
]
