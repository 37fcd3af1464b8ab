"""A store with the two halves of a dataset, written without Postgres, and its cases derived as a sync does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from analytics_pipeline.human_signals.derivation import CasesDerivation
from analytics_pipeline.store import Change, JoinView, Manifest, Partition, Replace, Store, TableChange

Columns = dict[str, pl.DataType | type[pl.DataType]]
RESULTS: Columns = {
    "dataset_id": pl.String,
    "timestamp": pl.Datetime("us"),
    "metric_name": pl.String,
    "metric_category": pl.String,
    "signals": pl.String,
    "explanation": pl.String,
}
RECORDS: Columns = {
    "dataset_id": pl.String,
    "revision": pl.Int64,
    "zone": pl.String,
    "timestamp": pl.Datetime("us"),
    "source_name": pl.String,
    "environment": pl.String,
    "conversation": pl.String,
    "conversation_stats": pl.String,
    "additional_input": pl.String,
    "evaluation_metadata": pl.String,
}
VIEW = JoinView("hs_data", "hs_results", "hs_dataset", "dataset_id", "dataset", "inner")
Rows = Sequence[Mapping[str, Any]]


@dataclass
class Synced:
    """A dataset `hs` in a store.

    Args:
        store: that it is in.
        said: lines of the log.
    """

    store: Store
    said: list[str] = field(default_factory=list)
    number: int = 0

    def derivation(self, **changes: Any) -> CasesDerivation:
        values: dict[str, Any] = {"visible_metrics": None, "filter_columns": (), "log": self.said.append} | changes
        return CasesDerivation("hs", **values)

    def sync(
        self,
        results: Mapping[str, Rows] | None = None,
        records: Mapping[str, Rows] | None = None,
        view: JoinView = VIEW,
        replace: Replace = Replace.PARTITIONS,
        before_commit: Callable[[], None] = lambda: None,
        **asked: Any,
    ) -> Manifest:
        """Replace partitions of the halves, by key, and bring the cases up to date in the same commit."""
        self.number += 1
        self.said.clear()
        sync_id = f"hs-{self.number}"
        with self.store.stage(sync_id) as stage:
            tables = []
            for name, schema, partitions in (
                ("hs_results", RESULTS, results or {}),
                ("hs_dataset", RECORDS, records or {}),
            ):
                if not partitions:
                    continue
                writer = stage.writer(name, pl.DataFrame(schema=schema).to_arrow().schema)
                for key, rows in partitions.items():
                    frame = pl.DataFrame(list(rows), schema=schema, orient="row")
                    for batch in frame.to_arrow().to_batches():
                        writer.write(key, batch)
                files = writer.close()
                made = [
                    Partition(key, None, None, tuple(files.get(key, ())), None, "", sync_id, datetime.now(UTC))
                    for key in partitions
                ]
                tables.append(TableChange(name, writer.columns, made, replace))
            change = Change(tables, [view])
            derived = self.derivation(**asked).derive(self.store, stage, change, view, sync_id)
            before_commit()
            return self.store.commit(stage, Change([*tables, *derived.tables], [view], derived.metadata))

    def cases(self) -> pl.DataFrame:
        return self.store.query('SELECT * FROM hs_cases ORDER BY "Case_ID"')

    def schema(self) -> Mapping[str, Any]:
        found: Any = self.store.manifest().metadata["hs_cases"].value["metric_schema"]
        return dict(found)

    def rows(
        self, order: str = "dataset_id, timestamp NULLS LAST, metric_name, metric_category, signals"
    ) -> pl.DataFrame:
        return self.store.query(f"SELECT * FROM hs_data WHERE dataset_id IS NOT NULL ORDER BY {order}")


def result(case: str, metric: str | None, signals: str | None, **others: Any) -> Mapping[str, Any]:
    """One row of the results."""
    return {"dataset_id": case, "metric_name": metric, "signals": signals} | others
