"""The JOIN view of a dataset: results with their records.

Belongs here: which columns it joins by, and whether it has to choose among several rows of one record.
Does not: its SQL (`store.catalog`), what people want to know of it (`summary`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analytics_pipeline.store import Change, JoinView, Stage, Store, TableChange
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.plan import KEY, HalfPlan
from analytics_pipeline.sync.spec import Half, SplitSyncSpec


def joined_view(spec: SplitSyncSpec, plans: Mapping[Half, HalfPlan], *, doubled: bool) -> JoinView:
    """The view of a dataset.

    Args:
        spec: of the dataset.
        plans: of both halves.
        doubled: some record has several rows, of which the view is to join the newest.
    """
    dataset, results = plans[Half.DATASET], plans[Half.RESULTS]
    order = dataset.names[spec.incremental_column] if spec.incremental_column else KEY
    return JoinView(
        name=spec.view,
        left=results.table,
        right=dataset.table,
        key=KEY,
        prefix="dataset",
        kind=spec.join,
        newest_by=order if doubled else None,
    )


def has_doubled_records(spec: SplitSyncSpec, store: Store, stage: Stage, tables: Sequence[TableChange]) -> bool:
    """Whether some record will have several rows once a change is committed.

    That happens where a row moved from a partition that is not replaced to one that is, or where the source doubles it.
    """
    dataset = spec.table(Half.DATASET)
    if all(table.name != dataset for table in tables):
        view = store.manifest().views.get(spec.view)
        return view is not None and view.newest_by is not None
    with store.preview(stage, Change(tables)) as preview:
        counted = f"SELECT count({KEY}) > count(DISTINCT {KEY}) FROM {identifier(dataset)}"
        return bool(preview.rows(counted)[0][0])
