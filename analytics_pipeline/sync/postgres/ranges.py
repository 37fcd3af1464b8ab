"""Ranges: how one read is cut into several that together give every row exactly once.

Belongs here: choosing boundaries in the source, and the predicates between them.
Does not: reading the ranges (`readers`).
"""

from __future__ import annotations

import itertools

import psycopg

from analytics_pipeline.sync.postgres.sql import LESS, NOT_LESS, column, quote_literal, subselect

_SAMPLE = 20_000
# Some styles print zones and orders of day and month that nothing reads back; JSON prints ISO in any.
_SHOWN = (
    "CASE WHEN f.type OPERATOR(pg_catalog.~) '^(date|timestamp.*)\\[\\]$' "
    "THEN pg_catalog.translate(pg_catalog.to_json(f.bounds)::pg_catalog.text, '[]', '{}') "
    "ELSE f.bounds::pg_catalog.text END"
)


def split(connection: psycopg.Connection, query: str, name: str, workers: int, where: str | None) -> list[str]:
    """Predicates over q, one a worker; fewer than two where the column has too few values to split by.

    Every type works that the built-in operators order, even by a cast, as they sort its boundaries: a type that has an
    order of its own, such as citext, may not. NULLs go with the first range.

    Args:
        connection: inside the snapshot.
        query: the wrapped one.
        name: of the column to split by.
        workers: how many ranges at most.
        where: predicate over q that all ranges share.

    Raises:
        psycopg.errors.UndefinedFunction: the column's type has no order, or another one than the built-in operators.
    """
    boundaries, array_type = _boundaries(connection, query, name, workers, where)
    if boundaries is None:
        return []
    value = column(name)
    array = f"CAST({quote_literal(boundaries)} AS {array_type})"
    edges = [f"({array})[{i}]" for i in range(1, workers)]
    first = f"({value} {LESS} {edges[0]} OR {value} IS NULL)"
    middle = [f"({value} {NOT_LESS} {low} AND {value} {LESS} {high})" for low, high in itertools.pairwise(edges)]
    return [first, *middle, f"({value} {NOT_LESS} {edges[-1]})"]


def _boundaries(
    connection: psycopg.Connection, query: str, name: str, workers: int, where: str | None
) -> tuple[str | None, str]:
    """The boundaries as the text of one array, and that array's type."""
    source = f"SELECT {column(name)} AS v FROM {subselect(query)} WHERE {where or 'true'}"
    fractions = ", ".join(str(i / workers) for i in range(1, workers))
    # Sorting all values would cost as much as reading them: boundaries need only be roughly fair.
    share = min(1.0, _SAMPLE / max(1, _estimate(connection, source)))
    sample = "" if share == 1.0 else f" WHERE pg_catalog.random() OPERATOR(pg_catalog.<) {share}"
    found = f"pg_catalog.percentile_disc(ARRAY[{fractions}]::pg_catalog.float8[]) WITHIN GROUP (ORDER BY s.v)"
    bounds = f"SELECT {found} AS bounds FROM ({source}\n) AS s{sample}"
    type_ = "pg_catalog.format_type(pg_catalog.pg_typeof(g.bounds), NULL) AS type"
    typed = f"SELECT g.bounds, {type_} FROM ({bounds}) AS g"
    # Between boundaries in the wrong order, a row would belong to several ranges.
    pairs = itertools.pairwise([1, *range(1, workers)])
    ordered = " AND ".join(f"f.bounds[{high}] {NOT_LESS} f.bounds[{low}]" for low, high in pairs)
    statement = f"SELECT {_SHOWN}, f.type, {ordered} FROM ({typed}) AS f"
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None, "an aggregate gives one row"
    boundaries, array_type, is_ordered = row
    if is_ordered is False:
        raise psycopg.errors.UndefinedFunction(f"{name} is sorted by operators that are not built in")
    return boundaries, array_type


def _estimate(connection: psycopg.Connection, source: str) -> float:
    row = connection.execute(f"EXPLAIN (FORMAT JSON) {source}".encode()).fetchone()
    assert row is not None, "EXPLAIN gives one row"
    return float(row[0][0]["Plan"]["Plan Rows"])
