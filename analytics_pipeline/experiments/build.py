"""Making everything anew that is derived from a lakehouse's tables.

Belongs here: that command. Does not: what it makes (`database`), or the exports (`exports`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analytics_pipeline.experiments.database import DATABASE, check_views, failures_named, write_views
from analytics_pipeline.experiments.ranking import Best
from analytics_pipeline.experiments.tables import tables_at


def build(root: Path, ranking: Sequence[Best] | None = None) -> Path:
    """Make `analytics.duckdb` anew, and the views of the catalog that the lakehouse is published in.

    Args:
        root: of the lakehouse.
        ranking: what the leaderboard ranks by from now on; None leaves it as it is.

    Raises:
        RankingRefused: no leaderboard can be made of it.
        LakehouseUnusable: the disk refused a file of views, or one of the views cannot be made.
        StoreError: see `AppendTables.append`.
    """
    write_views(root, ranking)
    with failures_named(root):
        tables_at(root).renew_views()
    check_views(root)
    return root / DATABASE
