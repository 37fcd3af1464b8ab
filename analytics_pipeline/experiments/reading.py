"""Queries over the views of a lakehouse as they are now, without a file of views.

Belongs here: the connection that has them. Does not: the questions (`queries`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl

from analytics_pipeline.arrow_frames import data_frame
from analytics_pipeline.errors import QueryFailed
from analytics_pipeline.experiments.database import ranking_of
from analytics_pipeline.experiments.ranking import Best, checked_ranking
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline.experiments.views import LEADERBOARD, RAW, TABLES, views_sql
from analytics_pipeline.store.append.index import TableFiles
from analytics_pipeline.store.append.views import moment_sql, with_columns
from analytics_pipeline.store.schema import identifier


@contextmanager
def opened(
    root: Path, views: Collection[str], ranking: Sequence[Best] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that has some of the views; whatever it is asked, it answers of one moment.

    Args:
        root: of the lakehouse.
        views: that will be asked for: each takes DuckDB some milliseconds.
        ranking: what the leaderboard ranks by; None for what the lakehouse has.

    Raises:
        RankingRefused: no leaderboard can be made of it.
        AppendedFileUnreadable: a table has a damaged file.
    """
    chosen = ranking_of(root) if ranking is None else checked_ranking(ranking)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _create_views(connection, root, set(views), chosen)
        yield connection


def frame(connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object] | None = None) -> pl.DataFrame:
    """The rows of a SELECT of ours.

    Raises:
        QueryFailed: DuckDB could not run it.
    """
    try:
        return data_frame(connection.sql(sql, params=params).to_arrow_table())
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error


def _create_views(connection: duckdb.DuckDBPyConnection, root: Path, wanted: set[str], ranking: Sequence[Best]) -> None:
    if LEADERBOARD in wanted:
        wanted |= {"configs"}
    tables = tables_at(root)
    files = tables.snapshot()
    connection.execute(f"CREATE SCHEMA {RAW}")
    for table, columns in TABLES.items():
        if table in wanted or (table in {"runs", "metrics"} and LEADERBOARD in wanted):
            content = with_columns(files.get(table, TableFiles((), (), (), None, 0)), columns)
            select = moment_sql(content, tables.layout, table)
            connection.execute(f"CREATE VIEW {RAW}.{identifier(table)} AS {select}")
    for name, select in views_sql(ranking).items():
        if name in wanted:
            connection.execute(f"CREATE VIEW {identifier(name)} AS {select}")
