"""Materializations: which runs an asset of Dagster holds, in each of its partitions.

Belongs here: the rows that tell it, and reading them. Does not: Dagster itself (`io_managers`).

The store keeps every run for ever; an asset holds those that it gave last. Its rows say which these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from analytics_pipeline.capabilities.backends.protocol import StorageBackend
from analytics_pipeline.capabilities.records import MATERIALIZATIONS, BaseRecord
from analytics_pipeline.store.schema import literal


class MaterializationRecord(BaseRecord, table_name=MATERIALIZATIONS):
    """A run that an asset, or a partition of it, held from `created_at` on.

    A partition that came out empty has one row without a table.
    """

    materialization_id: str
    asset_key: str
    partition_key: str | None = None
    capability_table: str | None = None


@dataclass(frozen=True)
class Held:
    """The runs of one partition of an asset.

    Args:
        asset_key: as `a/b`.
        partition_key: None where the asset has no partitions.
        runs: run_uids by table.
    """

    asset_key: str
    partition_key: str | None
    runs: Mapping[str, frozenset[str]]

    def records(self, materialization_id: str) -> Sequence[MaterializationRecord]:
        """The rows that tell it."""
        now = datetime.now(UTC)
        pairs: list[tuple[str | None, str]] = [
            (table, run_uid) for table, run_uids in sorted(self.runs.items()) for run_uid in sorted(run_uids)
        ]
        return [
            MaterializationRecord(
                run_uid=run_uid,
                created_at=now,
                materialization_id=materialization_id,
                asset_key=self.asset_key,
                partition_key=self.partition_key,
                capability_table=table,
            )
            for table, run_uid in pairs or [(None, f"none-{materialization_id}")]
        ]


def tables_ever_held(backend: StorageBackend, asset_key: str) -> frozenset[str]:
    """The tables of all runs that an asset held at any time."""
    if MATERIALIZATIONS not in backend.list_tables():
        return frozenset()
    rows = backend.query_sql(
        f"SELECT DISTINCT capability_table FROM {MATERIALIZATIONS} "
        f"WHERE asset_key = {literal(asset_key)} AND capability_table IS NOT NULL"
    )
    return frozenset(rows["capability_table"])


def held_runs(
    backend: StorageBackend, asset_key: str, partition_keys: Iterable[str | None]
) -> Mapping[str | None, Held]:
    """What some partitions of an asset held last; those that were never written are left out.

    Args:
        backend: of the store.
        asset_key: as `a/b`.
        partition_keys: None for an asset without partitions.
    """
    if MATERIALIZATIONS not in backend.list_tables():
        return {}
    wanted = " OR ".join(
        "partition_key IS NULL" if key is None else f"partition_key = {literal(key)}" for key in partition_keys
    )
    rows = backend.query_sql(
        f"SELECT partition_key, capability_table, run_uid FROM {MATERIALIZATIONS} "
        f"WHERE asset_key = {literal(asset_key)} AND ({wanted or 'false'}) "
        "QUALIFY created_at = max(created_at) OVER (PARTITION BY partition_key)"
    )
    found: dict[str | None, dict[str, set[str]]] = {}
    for partition_key, table, run_uid in rows.iter_rows():
        tables = found.setdefault(partition_key, {})
        if table is not None:
            tables.setdefault(table, set()).add(run_uid)
    return {
        key: Held(asset_key, key, {table: frozenset(run_uids) for table, run_uids in tables.items()})
        for key, tables in found.items()
    }
