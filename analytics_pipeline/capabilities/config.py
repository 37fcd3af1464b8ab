"""Configuration of a store: what a client hands to workers, which then write to the same place.

Belongs here: its fields, their check, building the store. Does not: sending it anywhere (`jobs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from analytics_pipeline.capabilities.backends.duckdb import DuckDBBackend
from analytics_pipeline.capabilities.backends.parquet import ParquetBackend
from analytics_pipeline.capabilities.backends.roots import checked_root, folder_of, is_object_uri
from analytics_pipeline.capabilities.records import first_problem
from analytics_pipeline.capabilities.store import AnalyticsStore
from analytics_pipeline.errors import StoreConfigInvalid


class AnalyticsStoreConfig(BaseModel):
    """Where a store is.

    Args:
        backend: what keeps the records.
        uri: folder, or URL of an object store's prefix, or DuckDB file.
        storage_options: of the object store, for fsspec; never shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    backend: Literal["parquet", "duckdb"] = "parquet"
    uri: str = Field(min_length=1)
    storage_options: Mapping[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("uri")
    @classmethod
    def _checked(cls, uri: str) -> str:
        return checked_root(uri)

    @model_validator(mode="after")
    def _in_its_place(self) -> Self:
        if self.backend == "duckdb" and (is_object_uri(self.uri) or self.storage_options):
            raise ValueError("a DuckDB file is on a local disk: use the backend parquet for an object store")
        return self


def checked_config(config: AnalyticsStoreConfig | Mapping[str, Any]) -> AnalyticsStoreConfig:
    """The configuration that somebody gave.

    Raises:
        StoreConfigInvalid: names the field; no value is repeated.
    """
    if isinstance(config, AnalyticsStoreConfig):
        return config
    try:
        return AnalyticsStoreConfig.model_validate(config)
    except ValidationError as error:
        raise StoreConfigInvalid(first_problem(error)) from None


def build_store(config: AnalyticsStoreConfig | Mapping[str, Any]) -> AnalyticsStore:
    """The store that a configuration describes.

    Raises:
        StoreConfigInvalid: it describes none.
    """
    checked = checked_config(config)
    if checked.backend == "duckdb":
        return AnalyticsStore(DuckDBBackend(folder_of(checked.uri)))
    return AnalyticsStore(ParquetBackend(checked.uri, checked.storage_options))
