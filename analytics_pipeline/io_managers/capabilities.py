"""IO managers: results of assets into the stores, and back into the assets below them.

Belongs here: what an asset may return, which rows it gets back, what the UI shows of it.
Does not: what a record is, or where it is kept (`capabilities`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from analytics_pipeline.display import displayed
from analytics_pipeline.errors import AssetInputRefused, AssetOutputRefused, StoreConfigInvalid
from analytics_pipeline.io_managers.partition_keys import output_partitions
from analytics_pipeline.settings import find_home

if TYPE_CHECKING:
    import polars as pl

    from analytics_pipeline.capabilities import AnalyticsStore, Record, StorageWriteReceipt
    from analytics_pipeline.capabilities.materializations import Held

_SHOWN_RUNS = 20
_SHOWN_ROWS = 5
_LONGEST_CELL = 200


class CapabilityStoreIOManager(dg.ConfigurableIOManager):
    """Stores what an asset returns as capability records: a run, a record, or a sequence of either.

    An asset of several partitions that are made at once returns a mapping of partition keys to these. Each partition
    holds the runs that it gave last; the store keeps all others, too. An asset below gets the rows as `pl.DataFrame`,
    or `pl.LazyFrame` where it is annotated so, of its partitions alone. Where an asset fills several tables, the input
    names one in its metadata: `dg.AssetIn(metadata={"table": "maite_evaluation"})`.

    Args:
        backend: what keeps the records.
        uri: folder, URL of an object store's prefix, or DuckDB file; empty for the capabilities of this home, which
            are in the published catalog.
        storage_options: of the object store. The UI shows them: give secrets as `dg.EnvVar`.

    Raises:
        StoreConfigInvalid: when it is used with the DuckDB backend and no file.
    """

    backend: Literal["parquet", "duckdb"] = "parquet"
    uri: str = ""
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)

    def store(self) -> AnalyticsStore:
        """The store, made where there is none yet."""
        from analytics_pipeline.capabilities import build_store  # noqa: PLC0415 - few commands touch data
        from analytics_pipeline.store import create_store  # noqa: PLC0415

        if not self.uri:
            if self.backend != "parquet":
                raise StoreConfigInvalid(f"the backend {self.backend} needs a uri, the path of its file")
            create_store(find_home().store)
        uri = self.uri or str(find_home().capabilities)
        return build_store({"backend": self.backend, "uri": uri, "storage_options": self.storage_options})

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store what the asset returned.

        Raises:
            AssetOutputRefused: it is nothing that can be stored.
            AnalyticsError: see `AnalyticsStore.write_with_receipt`.
        """
        from analytics_pipeline.capabilities.materializations import held_runs  # noqa: PLC0415

        store, asset = self.store(), context.asset_key.to_user_string()
        records: list[Record] = []
        given: list[Held] = []
        rows: list[Mapping[str, Any]] = []
        for key, value in _by_partition(context, obj).items():
            found = _records(asset, value, job_id=context.run_id)
            payload = [(record.table_name, record.model_dump(mode="python")) for record in _payload(found)]
            records += found
            given.append(_held(asset, key, payload))
            rows += [row for _, row in payload[: _SHOWN_ROWS - len(rows)]]
        before = held_runs(store.backend, asset, [held.partition_key for held in given])
        changed = [held for held in given if before.get(held.partition_key) != held]
        news = [record for held in changed for record in held.records(context.run_id)]
        receipt = store.backend.write_with_receipt([*records, *news])
        stored = sum(rows for table, rows in receipt.rows.items() if table in _tables(given))
        if not stored:
            context.log.info("%s: nothing new was stored, the store has all of these runs already.", asset)
        counts = {"dagster/row_count": len(_payload(records)), "new_rows": stored}
        shown = displayed("preview", lambda: _shown(receipt, rows, given), context.log)
        context.add_output_metadata({**counts, **shown})

    def load_input(self, context: dg.InputContext) -> pl.DataFrame | pl.LazyFrame:
        """The rows of the asset above, of the partitions that this one needs.

        Raises:
            AssetInputRefused: the input's annotation is no data frame, or it does not say which of several tables.
        """
        import polars as pl  # noqa: PLC0415

        from analytics_pipeline.capabilities.materializations import held_runs, tables_ever_held  # noqa: PLC0415

        asset = context.asset_key.to_user_string()
        wanted = context.dagster_type.typing_type
        if wanted not in {Any, pl.DataFrame, pl.LazyFrame}:
            raise AssetInputRefused(asset, f"is annotated as {wanted}; it can be pl.DataFrame or pl.LazyFrame")
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else [None]
        backend = self.store().backend
        held = held_runs(backend, asset, keys)
        table = _one_table(context, asset, {name for one in held.values() for name in one.runs})
        if table is None:  # it holds nothing now; what it held before says of which table
            table = _one_table(context, asset, tables_ever_held(backend, asset))
        if table is None:
            raise AssetInputRefused(asset, "has never held any rows: materialize it first")
        run_uids = sorted({run_uid for one in held.values() for run_uid in one.runs.get(table, ())})
        rows = backend.scan_table(table).filter(pl.col("run_uid").is_in(run_uids))
        return rows if wanted is pl.LazyFrame else rows.collect()


def _shown(receipt: StorageWriteReceipt, rows: Sequence[Mapping[str, Any]], given: Sequence[Held]) -> Mapping[str, Any]:
    files = {path for of_run in receipt.run_table_files.values() for path in of_run.values()}
    return {
        "files": dg.MetadataValue.json(sorted(Path(path).name for path in files)),
        "preview": dg.MetadataValue.json([_cells(row) for row in rows]),
        **_runs_metadata(given),
    }


def _by_partition(context: dg.OutputContext, obj: object) -> Mapping[str | None, object]:
    asset = context.asset_key.to_user_string()
    if not context.has_asset_partitions:
        return {None: obj}
    keys = output_partitions(context)
    if isinstance(obj, Mapping):
        if set(obj) != set(keys):
            raise AssetOutputRefused(asset, f"returned partitions {sorted(obj)} where {keys} were to be made")
        return obj
    if len(keys) > 1:
        raise AssetOutputRefused(asset, f"made {len(keys)} partitions at once: return a mapping of their keys to runs")
    return {keys[0]: obj}


def _records(asset: str, value: object, *, job_id: str) -> Sequence[Record]:
    """The records of what was returned, with the rows of `runs` for each run."""
    from analytics_pipeline.capabilities import CapabilityRun, Provenance, Record  # noqa: PLC0415
    from analytics_pipeline.capabilities.store import records_of  # noqa: PLC0415

    provenance = Provenance(job_id=job_id, executor="dagster")
    found: list[Record] = []
    for item in value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]:
        if isinstance(item, CapabilityRun):
            found += records_of(item, provenance)
        elif isinstance(item, Record):
            found.append(item)
        else:
            raise AssetOutputRefused(asset, f"returned a {type(item).__name__}")
    return found


def _payload(records: Sequence[Record]) -> Sequence[Record]:
    """The records that are not of the store's own tables."""
    from analytics_pipeline.capabilities.records import RESERVED  # noqa: PLC0415

    return [record for record in records if record.table_name not in RESERVED]


def _held(asset: str, key: str | None, payload: Sequence[tuple[str, Mapping[str, Any]]]) -> Held:
    from analytics_pipeline.capabilities.materializations import Held  # noqa: PLC0415

    runs: dict[str, set[str]] = {}
    for table, row in payload:
        runs.setdefault(table, set()).add(row["run_uid"])
    return Held(asset, key, {table: frozenset(run_uids) for table, run_uids in runs.items()})


def _tables(given: Sequence[Held]) -> Sequence[str]:
    return sorted({table for held in given for table in held.runs})


def _runs_metadata(given: Sequence[Held]) -> Mapping[str, Any]:
    runs = sorted({run_uid for held in given for run_uids in held.runs.values() for run_uid in run_uids})
    return {
        "tables": ", ".join(_tables(given)) or "none",
        "runs": len(runs),
        "run_uids": ", ".join(runs[:_SHOWN_RUNS]) + (" …" if len(runs) > _SHOWN_RUNS else ""),
    }


def _cells(row: Mapping[str, Any]) -> Mapping[str, str | int | float | bool | None]:
    """A row as the UI shows it: what JSON cannot hold as text, and long texts cut."""
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]} …"


def _one_table(context: dg.InputContext, asset: str, tables: Collection[str]) -> str | None:
    """The table that an input means; None where there is none to choose."""
    named = (context.definition_metadata or {}).get("table")
    if named is not None:
        return str(named)
    if len(tables) > 1:
        listed = ", ".join(sorted(tables))
        raise AssetInputRefused(
            asset, f'holds the tables {listed}: name one in the input\'s metadata, {{"table": "…"}}'
        )
    return next(iter(tables), None)
