"""`analytics.duckdb`: a file of views beside the tables, which any DuckDB opens; always rebuildable, never the truth.

Belongs here: the file, and the one by which the published catalog has the same views. Does not: their SQL (`views`), or
when both are made (`tables`, `build`).

Whoever adds a column, or copies many small files into one, renews both. In between they see every later row by
themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from analytics_pipeline.errors import LakehouseUnusable
from analytics_pipeline.experiments.ranking import Best, checked_ranking, settings_of, stored_ranking
from analytics_pipeline.experiments.views import RAW, TABLES, views_sql
from analytics_pipeline.forks import without_fork
from analytics_pipeline.store.append.derived import DerivedViews, read_derived, write_derived
from analytics_pipeline.store.append.layout import AppendLayout
from analytics_pipeline.store.append.published import create_views_of
from analytics_pipeline.store.catalog import STORAGE_VERSION
from analytics_pipeline.store.layout import fsync_path
from analytics_pipeline.store.locks import exclusive
from analytics_pipeline.store.schema import literal

logger = logging.getLogger(__name__)

DATABASE = "analytics.duckdb"


def write_views(root: Path, ranking: Sequence[Best] | None = None) -> Sequence[Best]:
    """Write down which views the lakehouse has, where that is not what stands there; gives what its runs rank by.

    Args:
        root: of the lakehouse.
        ranking: to rank by from now on; None leaves it as it is.

    Raises:
        RankingRefused: no leaderboard can be made of it.
        LakehouseUnusable: the disk refused.
    """
    path = AppendLayout(root).views
    stored = _stored(path)
    chosen = stored_ranking(stored.settings if stored else None) if ranking is None else checked_ranking(ranking)
    wanted = DerivedViews(TABLES, views_sql(chosen), settings_of(chosen))
    if stored != wanted:
        with failures_named(path):
            root.mkdir(parents=True, exist_ok=True)
            write_derived(path, wanted)
    return chosen


def ranking_of(root: Path) -> Sequence[Best]:
    """What the runs of a lakehouse rank by.

    Raises:
        LakehouseUnusable: the disk refused.
    """
    stored = _stored(AppendLayout(root).views)
    return stored_ranking(stored.settings if stored else None)


def has_lakehouse(root: Path) -> bool:
    """Whether anything was ever logged there, or its views made."""
    return AppendLayout(root).views.is_file() or any((root / table).is_dir() for table in TABLES)


def check_views(root: Path) -> None:
    """Refuse a lakehouse that cannot have all of its views.

    Raises:
        LakehouseUnusable: names those that it cannot have, and why.
    """
    with failures_named(root), duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        refused = create_views_of(connection, AppendLayout(root), "", "main", RAW)
    if refused:
        told = "; ".join(f"the view {name} cannot be made ({reason})" for name, reason in refused.items())
        raise LakehouseUnusable(str(root / DATABASE), told)


def publish_views(root: Path) -> None:
    """Make `analytics.duckdb` anew, in one step for all readers; who has it open keeps the former one.

    Raises:
        LakehouseUnusable: the disk refused.
    """
    target = root / DATABASE
    draft = root / f".{DATABASE}.new"
    # Under a lock: a slower one would put older views in place of newer ones.
    with failures_named(target), exclusive(root / ".views.lock", logger.debug), without_fork():
        _discard(draft)  # of a process that was killed
        try:
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute(f"ATTACH {literal(str(draft))} AS target (STORAGE_VERSION '{STORAGE_VERSION}')")
                create_views_of(connection, AppendLayout(root), "target.", "main", RAW)
                connection.execute("DETACH target")
            fsync_path(draft)
            draft.replace(target)
            target.with_name(f"{DATABASE}.wal").unlink(missing_ok=True)
            fsync_path(root)
        finally:
            _discard(draft)


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """What the disk refuses in a `with` block, as an error that names a file.

    Raises:
        LakehouseUnusable: it refused.
    """
    try:
        yield
    except (OSError, duckdb.Error) as error:
        raise LakehouseUnusable(str(path), str(error)) from error


def _discard(draft: Path) -> None:
    for path in (draft, draft.with_name(f"{draft.name}.wal")):
        path.unlink(missing_ok=True)


def _stored(path: Path) -> DerivedViews | None:
    try:
        with failures_named(path):
            return read_derived(path)
    except ValueError as error:
        logger.warning("The views of %s are written anew: %s", path.parent, error)
        return None
