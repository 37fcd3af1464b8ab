"""The JOIN view of a dataset: results with their records.

Belongs here: which columns it joins by, and whether it has to choose among several rows of one record.
Does not: its SQL (`store.catalog`), what people want to know of it (`summary`).
"""

from __future__ import annotations

from collections.abc import Sequence

from analytics_pipeline.store import Change, JoinView, Stage, Store, TableChange
from analytics_pipeline.sync.plan import KEY, HalfPlan
from analytics_pipeline.sync.records import changed_records
from analytics_pipeline.sync.spec import Half, SplitSyncSpec


def joined_view(spec: SplitSyncSpec, newest_by: str | None) -> JoinView:
    """The view of a dataset.

    Args:
        spec: of the dataset.
        newest_by: the column by which the newest of a record's several rows is found; None while each has one.
    """
    return JoinView(
        name=spec.view,
        left=spec.table(Half.RESULTS),
        right=spec.table(Half.DATASET),
        key=KEY,
        prefix="dataset",
        kind=spec.join,
        newest_by=newest_by,
    )


def order_of_doubles(
    spec: SplitSyncSpec, store: Store, stage: Stage, tables: Sequence[TableChange], dataset: HalfPlan
) -> str | None:
    """The column to find a record's newest row by, if some record will have several rows once a change is committed.

    That happens where a row moved from a partition that is not replaced to one that is, or where the source doubles it.
    """
    if all(table.name != dataset.table for table in tables):
        view = store.manifest().views.get(spec.view)
        return view.newest_by if view else None
    with store.preview(stage, Change(tables)) as preview:
        if not changed_records(preview, spec, ()).doubled:
            return None
    return dataset.names[spec.incremental_column] if spec.incremental_column else KEY
