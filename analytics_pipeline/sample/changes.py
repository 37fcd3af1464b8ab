"""Changes to the sample that a sync has to notice: new rows, late rows, updates and deletes.

Belongs here: choosing cases and changing both halves of them in one transaction.
Does not: what a row looks like (the sources' own modules), the commands that call this (`__main__`).

The same seed on the same database gives the same cases; a second call gives others, for each changes different ones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from analytics_pipeline.sample import data
from analytics_pipeline.sample.data import Changed, Half, Source

LATE_DAYS = 20
"""Late rows belong to days from yesterday back to this many."""

EXTRA_CASES = """
CREATE TEMPORARY TABLE new_cases ON COMMIT DROP AS
SELECT case_number, happened_at FROM sample.extra_cases(%(since)s, %(until)s, %(rows)s, %(seed)s)
"""
CHOSEN_CASES = """
CREATE TEMPORARY TABLE chosen_cases ON COMMIT DROP AS
SELECT {key} AS id
FROM {table}
ORDER BY hashtextextended({key}::text, {draw}), {key}
LIMIT {rows}
"""
DELETE_ROWS = "DELETE FROM {table} USING chosen_cases WHERE {table}.{key} = chosen_cases.id"


def add_rows(connection: psycopg.Connection, source: Source, rows: int, seed: int = 0) -> Changed:
    """Add cases of today, with their results; none lies in the future."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return _add(connection, source, rows, seed, (midnight, max(midnight, now - data.LAG)))


def add_late_rows(connection: psycopg.Connection, source: Source, rows: int, seed: int = 0) -> Changed:
    """Add cases of past days, which a watermark would never see."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return _add(connection, source, rows, seed, (midnight - timedelta(days=LATE_DAYS), midnight - data.LAG))


def update_rows(connection: psycopg.Connection, source: Source, rows: int, seed: int = 0) -> Changed:
    """Change cases and their results in place; their times stay as they are."""
    with connection.transaction():
        _choose(connection, source.dataset, rows, seed)
        results_rows = connection.execute(source.results.update.encode()).rowcount
        return Changed(connection.execute(source.dataset.update.encode()).rowcount, results_rows)


def delete_rows(connection: psycopg.Connection, source: Source, rows: int, seed: int = 0) -> Changed:
    """Delete cases and all their results."""
    with connection.transaction():
        _choose(connection, source.dataset, rows, seed)
        results_rows = connection.execute(_delete(source.results)).rowcount
        return Changed(connection.execute(_delete(source.dataset)).rowcount, results_rows)


def _add(
    connection: psycopg.Connection, source: Source, rows: int, seed: int, window: tuple[datetime, datetime]
) -> Changed:
    parameters = {"since": window[0], "until": window[1], "rows": rows, "seed": seed}
    with connection.transaction():
        data.make_new_cases(connection, EXTRA_CASES, parameters)
        return data.insert_cases(connection, source)


def _choose(connection: psycopg.Connection, half: Half, rows: int, seed: int) -> None:
    """Draw cases into the temporary table `chosen_cases`."""
    drawn = connection.execute("SELECT nextval('sample.change_number')").fetchone()
    assert drawn is not None
    connection.execute("DROP TABLE IF EXISTS chosen_cases")
    connection.execute(
        sql.SQL(CHOSEN_CASES).format(
            key=sql.Identifier(half.key),
            table=sql.Identifier(half.table),
            draw=sql.Literal(seed * 1_000_000 + drawn[0]),
            rows=sql.Literal(rows),
        )
    )


def _delete(half: Half) -> sql.Composed:
    return sql.SQL(DELETE_ROWS).format(table=sql.Identifier(half.table), key=sql.Identifier(half.key))
