"""Describe: what a query gives and what it reads, asked of Postgres without running it.

Belongs here: the columns of a query with all that the type rules need, the tables behind it, refusing what is not
one SELECT. Does not: choosing types (`types`), locking (`snapshot`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import psycopg
from psycopg import pq
from psycopg.generators import execute
from psycopg.rows import class_row

from analytics_pipeline.errors import SourceQueryRefused
from analytics_pipeline.sync.postgres.failures import translated, url_of
from analytics_pipeline.sync.postgres.sql import bare, subselect

_UNNAMED = "?column?"


class TypeKind(StrEnum):
    """What sort of type a column has, in pg_type's own terms."""

    BASE = "base"
    ENUM = "enum"
    COMPOSITE = "composite"
    RANGE = "range"
    MULTIRANGE = "multirange"
    ARRAY = "array"
    PSEUDO = "pseudo"


@dataclass(frozen=True)
class SourceColumn:
    """One output column of a query. Domains are resolved: the type is the one below them.

    Args:
        oid: of the type; compare it only within one server.
        spelled: as format_type() writes it, e.g. numeric(10,2).
        typname: its bare name; `builtin` tells whether it is PostgreSQL's own type of that name.
        server: the server's major version.
        element: of an array, its element's type; `element.name` is this column's name.
    """

    name: str
    oid: int
    typmod: int
    spelled: str
    typname: str
    kind: TypeKind
    builtin: bool
    server: int
    element: SourceColumn | None = None


@dataclass(frozen=True)
class BaseTable:
    """A relation that a query reads, directly or through a view.

    Args:
        kind: pg_class.relkind: r table, p partitioned table, v view, m materialised view, f foreign table.
        selectable: whether this role may SELECT from it (a view's owner may where we may not).
        covered: whether a lock on a selectable one locks it, too: it is a partition, a child or below a view.
    """

    oid: int
    schema: str
    name: str
    kind: str
    selectable: bool
    covered: bool = False


def describe(connection: psycopg.Connection, query: str) -> tuple[SourceColumn, ...]:
    """The output columns of a query, in order; the query is not run.

    Raises:
        SourceQueryRefused: it is more or less than one SELECT, or has unnamed, doubled or no columns.
        SourceError: Postgres refused it.
    """
    with translated(url_of(connection)):
        _prepare(connection, bare(query))
        described = _prepare(connection, f"SELECT * FROM {subselect(query)} LIMIT 0")
        encoding = connection.info.encoding
        names = [(described.fname(i) or b"").decode(encoding) for i in range(described.nfields)]
        _check_names(names)
        types = [(described.ftype(i), described.fmod(i)) for i in range(described.nfields)]
        known = _known_types(connection, types)
        server = connection.info.server_version // 10_000
        return tuple(_column(name, known, type_, server) for name, type_ in zip(names, types, strict=True))


_TOUCHED = """
WITH RECURSIVE touched AS (
  SELECT c.oid, n.nspname, c.relname, c.relkind, pg_catalog.has_table_privilege(c.oid, 'SELECT') AS selectable
  FROM pg_catalog.pg_locks AS l
  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.locktype OPERATOR(pg_catalog.=) 'relation'
    AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v', 'm', 'f'])
    AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema', 'pg_toast'])
    AND l.database OPERATOR(pg_catalog.=) (
      SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
), below AS (
  SELECT i.inhparent AS parent, i.inhrelid AS child FROM pg_catalog.pg_inherits AS i
  UNION ALL
  SELECT r.ev_class, d.refobjid
  FROM touched AS v
  JOIN pg_catalog.pg_rewrite AS r ON r.ev_class OPERATOR(pg_catalog.=) v.oid
  JOIN pg_catalog.pg_depend AS d ON d.objid OPERATOR(pg_catalog.=) r.oid
  WHERE v.relkind OPERATOR(pg_catalog.=) 'v'
    AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
), covered AS (
  SELECT t.oid FROM touched AS t
  WHERE t.selectable AND t.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'v'])
    AND EXISTS (SELECT FROM touched AS u WHERE NOT u.selectable)
  UNION
  SELECT b.child FROM covered JOIN below AS b ON b.parent OPERATOR(pg_catalog.=) covered.oid
)
SELECT t.oid::pg_catalog.int8 AS oid, t.nspname AS schema, t.relname AS name, t.relkind AS kind, t.selectable,
       NOT t.selectable AND t.oid OPERATOR(pg_catalog.=) ANY (SELECT c.oid FROM covered AS c) AS covered
FROM touched AS t
ORDER BY t.nspname, t.relname
"""


def base_tables(connection: psycopg.Connection, query: str) -> tuple[BaseTable, ...]:
    """Every relation that the query reads, views and partitioned parents included, by schema and name.

    EXPLAIN alone names only what is scanned in the end; but it locks whatever it looks at until its transaction ends,
    so the backend's own locks are the whole list. Tables read inside functions stay unseen.

    The connection is to be in autocommit and outside a transaction, so that it holds no other locks.

    Raises:
        SourceError: Postgres refused the query.
    """
    with translated(url_of(connection)), connection.transaction(force_rollback=True):
        # Binary, and so by the extended protocol, which refuses a second statement in the query.
        connection.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM {subselect(query)}".encode(), binary=True)
        return tuple(connection.cursor(row_factory=class_row(BaseTable)).execute(_TOUCHED).fetchall())


def _prepare(connection: psycopg.Connection, query: str) -> pq.abc.PGresult:
    """Parse and describe by the extended protocol, which knows one statement only and runs nothing."""
    raw = connection.pgconn
    encoding = connection.info.encoding
    # Sent and waited for, because libpq's blocking calls keep the whole process waiting for a frozen network.
    raw.send_prepare(b"", query.encode(encoding))
    results: list[pq.abc.PGresult] = connection.wait(execute(raw))
    if results[-1].status == pq.ExecStatus.COMMAND_OK:
        raw.send_describe_prepared(b"")
        results += connection.wait(execute(raw))
    for result in results:
        if result.status != pq.ExecStatus.COMMAND_OK:
            error = psycopg.errors.error_from_result(result, encoding=encoding)
            if isinstance(error, psycopg.errors.FeatureNotSupported):
                raise SourceQueryRefused(str(error.diag.message_primary), "Write one SELECT that changes nothing.")
            raise error
    described = results[-1]
    if described.nparams:
        raise SourceQueryRefused("it has parameters ($1)", "Write the values into the query.")
    return described


def _check_names(names: list[str]) -> None:
    if not names:
        raise SourceQueryRefused("it gives no columns", "Select at least one.")
    if _UNNAMED in names:
        raise SourceQueryRefused(
            f"column {names.index(_UNNAMED) + 1} has no name", "Name every expression: SELECT a + b AS total."
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SourceQueryRefused(
            f"it gives {', '.join(doubled)} more than once", "Name each column once, with AS or a column list."
        )


_TYPES = """
WITH RECURSIVE base AS (
  SELECT given.oid AS given_oid, given.typmod AS given_typmod, t.oid, given.typmod
  FROM ROWS FROM (
    pg_catalog.unnest(%(oids)s::pg_catalog.oid[]), pg_catalog.unnest(%(typmods)s::pg_catalog.int4[])
  ) AS given (oid, typmod)
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) given.oid
  UNION ALL
  SELECT base.given_oid, base.given_typmod, t.typbasetype,
         CASE WHEN base.typmod OPERATOR(pg_catalog.=) -1 THEN t.typtypmod ELSE base.typmod END
  FROM base JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) base.oid
    WHERE t.typtype OPERATOR(pg_catalog.=) 'd'
)
SELECT base.given_oid::pg_catalog.int8, base.given_typmod, t.oid::pg_catalog.int8, base.typmod,
       pg_catalog.format_type(t.oid, base.typmod), t.typname::pg_catalog.text, t.typtype::pg_catalog.text,
       t.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace,
       CASE WHEN e.typarray OPERATOR(pg_catalog.=) t.oid THEN e.oid::pg_catalog.int8 END
FROM base JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) base.oid
LEFT JOIN pg_catalog.pg_type AS e ON e.oid OPERATOR(pg_catalog.=) t.typelem
WHERE t.typtype OPERATOR(pg_catalog.<>) 'd'
"""
_KINDS = {
    "b": TypeKind.BASE,
    "e": TypeKind.ENUM,
    "c": TypeKind.COMPOSITE,
    "r": TypeKind.RANGE,
    "m": TypeKind.MULTIRANGE,
    "p": TypeKind.PSEUDO,
}


class _KnownType(NamedTuple):
    """A type as PostgreSQL describes it, domains resolved."""

    oid: int
    typmod: int
    spelled: str
    typname: str
    typtype: str
    builtin: bool
    element: int | None


_TypeOf = tuple[int, int]  # oid and typmod


def _known_types(connection: psycopg.Connection, types: Sequence[_TypeOf]) -> Mapping[_TypeOf, _KnownType]:
    """All of these types and the elements of arrays among them; an element is known by its array's typmod."""
    known: dict[_TypeOf, _KnownType] = {}
    wanted = set(types)
    while wanted:
        asked = {"oids": [oid for oid, _ in wanted], "typmods": [typmod for _, typmod in wanted]}
        rows = connection.execute(_TYPES, asked).fetchall()
        found = {(oid, typmod): _KnownType(*rest) for oid, typmod, *rest in rows}
        assert found.keys() == wanted, "pg_type lacks types that the server itself named"
        known |= found
        wanted = {(each.element, each.typmod) for each in found.values() if each.element is not None} - known.keys()
    return known


def _column(name: str, known: Mapping[_TypeOf, _KnownType], type_: _TypeOf, server: int) -> SourceColumn:
    found = known[type_]
    inner = None if found.element is None else _column(name, known, (found.element, found.typmod), server)
    kind = TypeKind.ARRAY if inner is not None else _KINDS[found.typtype]
    return SourceColumn(name, found.oid, found.typmod, found.spelled, found.typname, kind, found.builtin, server, inner)
