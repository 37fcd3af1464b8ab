"""The analytics store: runs in, SQL out.

Belongs here: what a run becomes, payload and `runs` together. Does not: where it is kept (`backends`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from analytics_pipeline.capabilities.backends.protocol import (
    CompletedBackend,
    CustomBackend,
    StorageBackend,
    StorageWriteReceipt,
    query_within,
)
from analytics_pipeline.capabilities.provenance import Provenance, ProvenanceLike, as_provenance
from analytics_pipeline.capabilities.records import RESERVED
from analytics_pipeline.capabilities.runs import CapabilityRun, Record, RunRecord, run_records, table_of, values_of
from analytics_pipeline.errors import RunRefused


class AnalyticsStore:
    """Results of capability runs, over a backend.

    Args:
        backend: keeps the records; four methods are enough, and it keeps those of the others that it has.
    """

    def __init__(self, backend: CustomBackend) -> None:
        self.backend = backend if isinstance(backend, StorageBackend) else CompletedBackend(backend)

    def write(self, runs: Sequence[CapabilityRun], *, provenance: ProvenanceLike = None) -> None:
        """Store runs; see `write_with_receipt`."""
        self.write_with_receipt(runs, provenance=provenance)

    def write_with_receipt(
        self, runs: Sequence[CapabilityRun], *, provenance: ProvenanceLike = None
    ) -> StorageWriteReceipt:
        """Store the records of runs, and a row of `runs` for each of their entities. Runs that are there are left out.

        Args:
            runs: any objects like `CapabilityRun`; of several with one run_uid and table, the first gives the results.
            provenance: for all of them.

        Raises:
            RunRefused: a run's records go to several tables or belong to another run, or an entity has no id.
            ProvenanceRefused: `provenance` has an unknown field, or a timestamp without a time zone.
            AnalyticsError: see the backend.
        """
        given = as_provenance(provenance)
        records = list(_each_once(runs, given))
        return self.backend.write_with_receipt(records) if records else StorageWriteReceipt()

    def list_tables(self) -> list[str]:
        """Names of the tables that hold rows, sorted."""
        return self.backend.list_tables()

    def describe_table(self, table_name: str) -> dict[str, str]:
        """Columns of a table, with the names of their Polars types.

        Raises:
            TableNotFound: there is no such table.
        """
        return self.backend.describe_table(table_name)

    def get_run_uri(self, run_uid: str) -> str:
        """Where a run's rows are.

        Raises:
            RunNotFound: nowhere.
        """
        return self.backend.get_run_uri(run_uid)

    def query_sql(self, sql: str, **limits: float | None) -> pl.DataFrame:
        """The rows of a query over all tables.

        Args:
            sql: in DuckDB's dialect, for the backends here.
            limits: `timeout` in seconds and `max_rows`, where the backend has them: those here do.

        Raises:
            AnalyticsError: see the backend.
        """
        return query_within(self.backend, sql, limits)


def _each_once(runs: Iterable[CapabilityRun], provenance: Provenance) -> Iterator[Record]:
    """The records of runs, without the results and the entities that an earlier one of the same run_uid had."""
    stored: set[tuple[str, ...]] = set()
    for run in runs:
        keyed = [(_key(run, record), record) for record in records_of(run, provenance)]
        yield from (record for key, record in keyed if key not in stored)
        stored.update(key for key, _ in keyed)


def _key(run: CapabilityRun, record: Record) -> tuple[str, ...]:
    if isinstance(record, RunRecord):
        return (record.table_name, run.run_uid, record.capability_table, record.entity_type, record.entity_id)
    return (record.table_name, run.run_uid)


def records_of(run: CapabilityRun, provenance: Provenance) -> Sequence[Record]:
    """The records of a run, and the rows of `runs` for its entities; nothing for a run without results.

    Raises:
        RunRefused: it gives no sequence of records, these go to several tables or belong to another run, or an entity
            has no id.
        RecordRefused: what it gives is no record.
    """
    given: object = run.extract()
    if not isinstance(given, Iterable):
        raise RunRefused(run.run_uid, f"gives a {type(given).__name__} from extract(), not a sequence of records")
    extracted = list(given)
    if not extracted:
        return []
    tables = sorted({table_of(record) for record in extracted})
    if len(tables) > 1 or tables[0] in RESERVED:
        raise RunRefused(run.run_uid, f"extracts records for {', '.join(tables)}: one capability, one table of its own")
    strange = {str(values_of(record).get("run_uid")) for record in extracted} - {run.run_uid}
    if strange:
        raise RunRefused(run.run_uid, f"extracts records of other runs: {', '.join(sorted(strange))}")
    return [*extracted, *run_records(run, tables[0], provenance)]
