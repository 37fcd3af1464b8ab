"""The JOIN view of a dataset: results with their records.

Belongs here: which columns it joins by. Does not: its SQL (`store.catalog`), whether it has to choose among several
rows of one record (`records`), what people want to know of it (`summary`).
"""

from __future__ import annotations

from analytics_pipeline.store import JoinView
from analytics_pipeline.sync.plan import KEY
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
