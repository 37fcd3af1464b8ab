"""Summaries: what people want to know of a published dataset, asked of the store.

Belongs here: counts and columns of the JOIN view, from its metadata where that is of this version.
Does not: what a sync did (`engine`), computing metadata (`metadata`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analytics_pipeline.errors import ViewMissing
from analytics_pipeline.store import Column, Store
from analytics_pipeline.store.schema import identifier, literal
from analytics_pipeline.sync.metadata import stored_figures
from analytics_pipeline.sync.plan import KEY
from analytics_pipeline.sync.spec import Half, SplitSyncSpec


@dataclass(frozen=True)
class ViewSummary:
    """A JOIN view in numbers.

    Args:
        rows: of the view.
        orphans: results whose dataset row is not there.
        columns: of the view.
    """

    rows: int
    orphans: int
    columns: tuple[Column, ...]


def summarize_view(store: Store, spec: SplitSyncSpec) -> ViewSummary:
    """The rows of a dataset's JOIN view, and the results that have no partner.

    Raises:
        ViewMissing: one of the halves was not synced yet.
    """
    manifest = store.manifest()
    missing = [spec.table(half) for half in Half if spec.table(half) not in manifest.tables]
    if missing or spec.view not in manifest.views:
        raise ViewMissing(spec.view, missing)
    stored = stored_figures(manifest, spec)
    return _asked(store, spec) if stored is None else _of_metadata(stored)


def _of_metadata(stored: Mapping[str, Any]) -> ViewSummary:
    columns = tuple(Column(column["column_name"], column["column_type"]) for column in stored["columns"])
    return ViewSummary(stored["row_count"], stored["results_without_record"], columns)


def _asked(store: Store, spec: SplitSyncSpec) -> ViewSummary:
    """For tables that were committed without metadata, such as by an earlier version of this package."""
    dataset, results = identifier(spec.table(Half.DATASET)), identifier(spec.table(Half.RESULTS))
    columns = store.query(
        f"SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = {literal(spec.view)} "
        f"ORDER BY column_index"
    )
    counts = store.query(
        f"SELECT (SELECT count(*) FROM {identifier(spec.view)}), "
        f"(SELECT count(*) FROM {results} WHERE NOT coalesce({KEY} IN (SELECT {KEY} FROM {dataset}), false))"
    )
    rows, orphans = counts.row(0)
    return ViewSummary(int(rows), int(orphans), tuple(Column(*row) for row in columns.iter_rows()))
