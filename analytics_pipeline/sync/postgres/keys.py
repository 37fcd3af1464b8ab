"""Keys: whether a type's equality in PostgreSQL is identity, by which the store joins.

Belongs here: the types of which it is known, the question about a collation. Does not: which column is a key, or
refusing one (`plan`).

PostgreSQL calls 1.0 and 1.00, 1 day and 24 hours, 'a' and 'A' of a case-insensitive type equal; the store's values,
which keep all that tells them apart, are not. A type that is not listed here, such as one of an extension, counts as
one of these.
"""

from __future__ import annotations

import psycopg

from analytics_pipeline.sync.postgres.describe import SourceColumn, TypeKind
from analytics_pipeline.sync.postgres.sql import column as q_column
from analytics_pipeline.sync.postgres.sql import subselect

_IDENTICAL = frozenset(
    """
    bit bool bpchar bytea char cidr date inet int2 int4 int8 json macaddr macaddr8 money name numeric oid pg_lsn text
    time timestamp timestamptz timetz uuid varbit varchar xid xid8 xml
    int4range int8range daterange tsrange tstzrange
    int4multirange int8multirange datemultirange tsmultirange tstzmultirange
    """.split()  # noqa: SIM905 - one a line would be a page
)
"""Equal values of these print alike. Of numeric, this holds within one scale; json and xml have no equality at all."""
_COLLATED = frozenset({"bpchar", "name", "text", "varchar"})
_COLLATION = """
SELECT c.collisdeterministic FROM pg_catalog.pg_collation AS c
WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regcollation(
  pg_catalog.pg_collation_for((SELECT {value} FROM {query} LIMIT 0)))
"""


def has_wider_equality(connection: psycopg.Connection, query: str, column: SourceColumn) -> bool:
    """Whether PostgreSQL may call two values of a column equal that the store tells apart; the query is not run.

    Args:
        connection: to the source.
        query: the column's.
        column: as `describe` gave it.

    Raises:
        psycopg.Error: the source refused the question.
    """
    inner = column
    while inner.element is not None:
        inner = inner.element
    if inner.kind is TypeKind.ENUM:
        return False
    if not inner.builtin or inner.typname not in _IDENTICAL:
        return True
    if inner.typname == "numeric" and inner.typmod == -1:
        return True
    if inner.typname not in _COLLATED:
        return False
    asked = _COLLATION.format(value=q_column(column.name), query=subselect(query))
    row = connection.execute(asked.encode()).fetchone()
    return row == (False,)
