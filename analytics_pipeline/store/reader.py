"""The store's SQL: sealed queries over one version of it.

Belongs here: the session of one version, what a lost file means to its readers.
Does not: how a session is sealed (`sealed`), what the tables hold, or how they got there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from analytics_pipeline.errors import QueryFailed, QueryRefused, StaleReader
from analytics_pipeline.store.append.published import append_folders
from analytics_pipeline.store.catalog import attach_catalog, build_catalog
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Manifest
from analytics_pipeline.store.query_check import STORE_INFO
from analytics_pipeline.store.schema import literal
from analytics_pipeline.store.sealed import DEFAULT_MEMORY, DEFAULT_TIMEOUT, Parameters, SealedSql

_WITHOUT_ROOT = f"CREATE TEMP VIEW {STORE_INFO} AS SELECT version, committed_at FROM store.{STORE_INFO}"
"""What a query finds by the plain name: the table itself has the store's path, which is nothing for a query."""

_FAULTS_OF_A_QUERY = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""Not those of a lost file."""


class SqlSession:
    """A sealed DuckDB instance on one version of the store.

    It attaches the version's catalog. Where that is missing, damaged, of another folder or locked by somebody who
    opened it read-write, it builds one of its own in a temporary folder: reading never waits for writing.

    Args:
        layout: the store.
        manifest: the version; the session can open its data files, append-only tables, and nothing else.
        memory_limit: for all queries of the session together, as DuckDB spells it.
    """

    def __init__(self, layout: Layout, manifest: Manifest, *, memory_limit: str = DEFAULT_MEMORY) -> None:
        self.manifest = manifest
        self.catalog_state = layout.catalog_state(manifest.version)
        self._files = [f"{layout.root}/{file.path}" for file in manifest.live_files]

        def attach(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[str]:
            return _attach(connection, layout, manifest, folder)

        self._sql = SealedSql(
            attach,
            root=str(layout.root),
            files=self._files,
            folders=[str(folder) for folder in append_folders(layout)],
            database="store",
            per_query=_WITHOUT_ROOT,
            memory_limit=memory_limit,
        )

    def shows(self, version: int, layout: Layout) -> bool:
        """Whether this is the session of a version, with its catalog as it is now: new tables of runs renew it."""
        return self.manifest.version == version and self.catalog_state == layout.catalog_state(version)

    def close(self) -> None:
        """Close the instance; running queries of other threads fail."""
        self._sql.close()

    def query(self, sql: str, params: Parameters, timeout: float, *, untrusted: bool = False) -> pl.DataFrame:
        """The rows of one SELECT; see `SealedSql.query`.

        Raises:
            QueryRefused, QueryFailed, QueryTimedOut, ResultTooLarge: see `SealedSql.query`.
            StaleReader: its version was swept while it ran.
        """
        try:
            return self._sql.query(sql, params, timeout=timeout, untrusted=untrusted)
        except (QueryFailed, QueryRefused) as error:
            if not isinstance(error.__cause__, _FAULTS_OF_A_QUERY) and self._is_swept():
                raise StaleReader from error
            raise

    def _is_swept(self) -> bool:
        """Whether a file of this version is gone; DuckDB's own words for it differ from version to version."""
        return not all(Path(path).exists() for path in self._files)


def _attach(connection: duckdb.DuckDBPyConnection, layout: Layout, manifest: Manifest, folder: Path) -> list[str]:
    """The statement that attaches a catalog of the version: its own, or one that is built in a folder."""
    catalog = layout.catalog_of(manifest.version)
    if not attach_catalog(connection, catalog, manifest.version, layout):
        catalog = folder / "catalog.duckdb"
        build_catalog(manifest, layout, catalog)
        if not attach_catalog(connection, catalog, manifest.version, layout):
            raise QueryFailed(f"DuckDB cannot open the catalog of version {manifest.version}.")
    connection.execute("DETACH store")
    return [f"ATTACH {literal(str(catalog))} AS store (READ_ONLY)"]


@dataclass(frozen=True)
class Reading:
    """One version of the store, while somebody reads it: see `Store.reading`."""

    session: SqlSession

    @property
    def manifest(self) -> Manifest:
        """The state that the queries see."""
        return self.session.manifest

    def query(
        self, sql: str, params: Parameters = None, *, timeout: float = DEFAULT_TIMEOUT, untrusted: bool = False
    ) -> pl.DataFrame:
        """The rows of one SELECT; see `Store.query`."""
        return self.session.query(sql, params, timeout, untrusted=untrusted)
