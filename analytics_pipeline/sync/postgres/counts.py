"""Counts: how many rows a query has right now.

Belongs here: the one question. Does not: fingerprints (`sync.fingerprint`).
"""

from __future__ import annotations

from pydantic import SecretStr

from analytics_pipeline.sync.postgres.failures import translated
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline.sync.postgres.sql import subselect


def count_rows(url: SecretStr, query: str) -> int:
    """Rows that a query gives.

    Raises:
        SourceError: the source could not be asked.
    """
    connection = connect(url)
    try:
        with translated(url):
            rows = connection.execute(f"SELECT count(*) FROM {subselect(query)}".encode()).fetchall()
    finally:
        connection.close()
    return int(rows[0][0])
