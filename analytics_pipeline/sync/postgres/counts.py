"""Counts: how many rows a query has right now, or about how many.

Belongs here: the two questions. Does not: fingerprints (`sync.fingerprint`).
"""

from __future__ import annotations

import psycopg
from pydantic import SecretStr

from analytics_pipeline.sync.postgres.session import connected
from analytics_pipeline.sync.postgres.sql import subselect


def estimated_rows(connection: psycopg.Connection, query: str) -> int:
    """Rows that PostgreSQL expects a query to give; it is not run.

    Raises:
        psycopg.Error: the source refused the query.
    """
    plan = connection.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM {subselect(query)}".encode()).fetchone()
    assert plan is not None, "EXPLAIN gives one row"
    return int(plan[0][0]["Plan"]["Plan Rows"])


def count_rows(url: SecretStr, query: str) -> int:
    """Rows that a query gives.

    Raises:
        SourceError: the source could not be asked.
    """
    with connected(url) as connection:
        rows = connection.execute(f"SELECT pg_catalog.count(*) FROM {subselect(query)}".encode()).fetchall()
    return int(rows[0][0])
