"""The JOIN view of a dataset: results with their records.

Belongs here: which columns it joins by, and the unit of its integer time column. Does not: its SQL (`store.catalog`),
whether it has to choose among several rows of one record (`records`), what people want to know of it (`summary`).
"""

from __future__ import annotations

from analytics_pipeline.store import JoinView, Manifest
from analytics_pipeline.sync.plan import KEY
from analytics_pipeline.sync.spec import Epoch, Half, SplitSyncSpec

INCREMENTAL_COLUMN = "incremental_column"
"""In a table's metadata: the published name of the column that assigned its rows to partitions."""


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


def epoch_of(manifest: Manifest, spec: SplitSyncSpec, column: str) -> Epoch | None:
    """The unit in which a column of the view counts time; None where it is not the incremental column.

    Args:
        manifest: of the version that is read.
        spec: of the dataset.
        column: of the view; an integer where this matters.
    """
    results = manifest.metadata.get(spec.table(Half.RESULTS))
    incremental = results.value.get(INCREMENTAL_COLUMN) if results else None
    return spec.epoch if str(incremental).lower() == column.lower() else None
