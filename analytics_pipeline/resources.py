"""Resources: what assets need of their surroundings, as plain core objects.

Belongs here: the store and the sources of this home; a read-only door to the published catalog for users' own assets.
Does not: anything an asset does with them.

The drivers, polars and the sample are imported where they are used: the UI, the daemon and every command load this
module, few of them read or write data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from analytics_pipeline.errors import ManifestUnreadable, SourceUrlMissing, StoreNotFound
from analytics_pipeline.settings import Home, find_home
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.capabilities import ParquetBackend
    from analytics_pipeline.store import Store
    from analytics_pipeline.sync.engine import SyncJob
    from analytics_pipeline.sync.status import DatasetStatus
    from analytics_pipeline.sync.summary import ViewSummary


class AnalyticsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The home of this code location: its published store, and where its datasets come from.

    Args:
        home_path: the home's folder; None finds it, see `settings.find_home`.
    """

    home_path: str | None = None

    def home(self) -> Home:
        """The home; found anew at each call, so that the environment of the run decides."""
        return Home(Path(self.home_path).resolve(), "configured") if self.home_path else find_home()

    def store(self) -> Store:
        """The published store, made where there is none yet."""
        from analytics_pipeline.store import create_store  # noqa: PLC0415 - see the module's charter

        return create_store(self.home().store)

    def capabilities(self) -> ParquetBackend:
        """The capability tables of this home."""
        from analytics_pipeline.capabilities import ParquetBackend  # noqa: PLC0415 - see the module's charter

        return ParquetBackend(self.home().capabilities)

    def sync_job(
        self, spec: SplitSyncSpec, log: Callable[[str], None], *, run_id: str | None = None, allow: str = ""
    ) -> SyncJob:
        """What syncs a dataset into the store.

        Args:
            spec: of the dataset.
            log: gets a line for progress.
            run_id: of the Dagster run that syncs; part of the dataset's status.
            allow: what the run's tag allows it, see `sync.guard`.

        Raises:
            AllowanceUnknown: `allow` has a word in it that allows nothing.
            SourceUrlMissing: the dataset's variable is not set, and no sample answers for it.
            SampleError: the sample answers for it and cannot be started.
        """
        from analytics_pipeline.sample import sources  # noqa: PLC0415 - see the module's charter
        from analytics_pipeline.sync.engine import SyncJob  # noqa: PLC0415
        from analytics_pipeline.sync.guard import allowances_of  # noqa: PLC0415

        allowed = allowances_of(allow)
        home = self.home()
        log(f"Home: {home}")
        url = sources.resolve(spec.url, home)
        if url is None:
            raise SourceUrlMissing(spec.name, spec.url)
        return SyncJob(spec, url, self.store(), log, run_id=run_id, allowed=allowed)

    def gate_job(self, spec: SplitSyncSpec) -> SyncJob | None:
        """What asks whether a dataset changed; None where nothing is published, or its source is not there to be asked.

        Unlike `sync_job` it makes, starts and fills nothing.
        """
        from analytics_pipeline.sample import sources  # noqa: PLC0415 - see the module's charter
        from analytics_pipeline.sync.engine import SyncJob  # noqa: PLC0415

        store, url = self._published(), sources.running_url(spec.url, self.home())
        return SyncJob(spec, url, store, _ignored) if store is not None and url is not None else None

    def status(self, spec: SplitSyncSpec) -> DatasetStatus:
        """What is known of a dataset; makes nothing."""
        from analytics_pipeline.sync.status import (  # noqa: PLC0415 - see the module's charter
            DatasetStatus,
            State,
            read_status,
        )

        store = self._published()
        try:
            return read_status(store, spec) if store is not None else DatasetStatus(spec.name)
        except ManifestUnreadable as error:
            return DatasetStatus(spec.name, State.ERROR, str(error))

    def holds_nothing_of(self, spec: SplitSyncSpec) -> bool:
        """Whether no half of a dataset was ever published."""
        store = self._published()
        try:
            return store is None or not any(spec.table(half) in store.manifest().tables for half in Half)
        except ManifestUnreadable:  # a refresh goes back to what can be read
            return False

    def _published(self) -> Store | None:
        from analytics_pipeline.store import open_store  # noqa: PLC0415 - see the module's charter

        try:
            return open_store(self.home().store)
        except StoreNotFound:
            return None

    def view_summary(self, spec: SplitSyncSpec) -> ViewSummary:
        """A dataset's JOIN view in numbers.

        Raises:
            ViewMissing: one of the halves was not synced yet.
        """
        from analytics_pipeline.sync.summary import summarize_view  # noqa: PLC0415 - see the module's charter

        return summarize_view(self.store(), spec)


class PublishedStoreResource(DuckDBResource):
    """The published catalog as a DuckDB resource that only reads, for users' own assets.

    dagster-duckdb's own resource opens its file read-write, which keeps every other reader out. This one attaches the
    newest version read-only and makes it the default, so that tables go by their plain names. Each connection sees
    one version, whole; a connection that stays open does not see later ones.

    Args:
        database: path of a `catalog.duckdb`; empty finds the one of this home.
    """

    database: str = ""

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own on the newest version.

        Raises:
            StoreNotFound: nothing was published yet.
        """
        from analytics_pipeline.store import open_store  # noqa: PLC0415 - see the module's charter
        from analytics_pipeline.store.schema import literal  # noqa: PLC0415

        catalog = Path(self.database) if self.database else find_home().store / "catalog.duckdb"
        if not catalog.exists():
            raise StoreNotFound(str(catalog.parent))
        open_store(catalog.parent)  # after a move or a copy of the store, the views are made anew
        with duckdb.connect(config=self.connection_config) as connection:
            connection.execute(f"ATTACH {literal(str(catalog.resolve()))} AS store (READ_ONLY)")
            connection.execute("USE store")
            yield connection


def _ignored(_line: str) -> None:
    """Ticks have no log that anybody reads."""
