"""SQL over data frames, in a DuckDB that lives for one question.

Belongs here: that. Does not: any question (the modules beside it), the store (`derivation`).
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import polars as pl


def asked(sql: str, frames: Mapping[str, pl.DataFrame], macros: str = "") -> pl.DataFrame:
    """The rows of a query.

    Args:
        sql: over the frames by their names.
        frames: by name.
        macros: statements that make what the query calls.
    """
    with duckdb.connect() as connection:
        for name, frame in frames.items():
            connection.register(name, frame)
        if macros:
            connection.execute(macros)
        answer: pl.DataFrame = connection.sql(sql).pl()
        return answer
