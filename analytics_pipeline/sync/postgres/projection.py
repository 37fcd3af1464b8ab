"""Projection: whether the row versions of one table can stand for the rows of a query, and under which identity.

Belongs here: refusing every query, table and column of which a value may change while xmin stays. Does not: the SQL of
a row version (`row_version`), or choosing the kind of a fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

from analytics_pipeline.errors import XminUnfit
from analytics_pipeline.sync.postgres.describe import SourceColumn, describe
from analytics_pipeline.sync.postgres.explain import Step, explain
from analytics_pipeline.sync.postgres.expressions import tokens
from analytics_pipeline.sync.postgres.failures import translated, url_of
from analytics_pipeline.sync.postgres.sql import quote_identifier


@dataclass(frozen=True)
class Projection:
    """A query that gives columns of one table as they are, a row for a row.

    Args:
        schema: of the table.
        table: its name.
        columns: the table's column behind each column of the query, in order.
        identity: everything but the row versions that the values depend on. When it differs, nothing is known.
    """

    schema: str
    table: str
    columns: Mapping[str, str]
    identity: tuple[str, ...]


def plain_projection(connection: psycopg.Connection, query: str, table: str) -> Projection:
    """The projection that a query is; it is not run. The connection may be in autocommit or inside a transaction.

    Args:
        connection: its search_path finds the table.
        query: one SELECT.
        table: as SQL spells it, with its schema or without.

    Raises:
        XminUnfit: it is none, or a value in it can change without a new row version.
        SourceError: Postgres refused the query.
    """
    described = describe(connection, query)
    with translated(url_of(connection)), connection.transaction(force_rollback=True):
        source = _source(connection, table)
        columns = _columns_of(connection, source.oid)
        scanned = tuple(_scanned(explain(connection, query).root, source, columns))
        plain = describe(connection, _select(source, dict.fromkeys(scanned)))
        _refuse_conversions(source, described, scanned, plain)
        named = {found.name: name for found, name in zip(described, scanned, strict=True)}
        identity = _identity(connection, source, [columns[name] for name in dict.fromkeys(scanned)])
        return Projection(source.schema, source.name, named, identity)


@dataclass(frozen=True)
class _Source:
    given: str
    oid: int
    schema: str
    name: str

    def unfit(self, reason: str) -> XminUnfit:
        return XminUnfit(self.given, reason)


@dataclass(frozen=True)
class _TableColumn:
    """A column of the table; its type is the one below domains and arrays."""

    name: str
    number: int
    type_: str
    typmod: int
    element: str
    element_oid: int
    kind: str
    builtin: bool
    labels: str | None


_SOURCE = """
SELECT c.oid::pg_catalog.int8,
       CASE WHEN n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname END,
         c.relname,
       c.relkind::pg_catalog.text, c.relpersistence OPERATOR(pg_catalog.=) 't',
         coalesce(a.amname OPERATOR(pg_catalog.=) 'heap', false),
       pg_catalog.row_security_active(c.oid), c.relispartition,
       EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
LEFT JOIN pg_catalog.pg_am AS a ON a.oid OPERATOR(pg_catalog.=) c.relam
WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s)
"""
_KINDS = {
    "v": "it is a view; name the table below it",
    "m": "it is a materialised view, whose rows are all new after each refresh",
    "f": "it is a foreign table, which has no row versions here",
    "p": "it is partitioned, so its rows are those of several tables",
}


def _source(connection: psycopg.Connection, table: str) -> _Source:
    try:
        with connection.transaction():
            row = connection.execute(_SOURCE, [table]).fetchone()
    except (psycopg.errors.SyntaxError, psycopg.errors.InvalidName, psycopg.errors.FeatureNotSupported):
        row = None
    if row is None:
        raise XminUnfit(table, "there is no such table; give it as schema.table, in double quotes where SQL needs them")
    oid, schema, name, kind, temporary, heap, secured, partition, parent = row
    source = _Source(table, oid, schema, name)
    if kind != "r":
        raise source.unfit(_KINDS.get(kind, "it is not a table"))
    for found, reason in (
        (temporary, "it is temporary"),
        (not heap, "its access method keeps no row versions"),
        (secured, "its row-level security decides which rows this role sees"),
        (partition, "it is a partition, which a plan cannot tell from the whole as long as it is the only one"),
        (parent, "other tables inherit from it"),
        (schema == "pg_catalog", "it is a system catalog, which Postgres changes in place"),
    ):
        if found:
            raise source.unfit(reason)
    return source


_COLUMNS = """
WITH RECURSIVE below AS (
  SELECT a.attnum, a.atttypid AS oid FROM pg_catalog.pg_attribute AS a
  WHERE a.attrelid OPERATOR(pg_catalog.=) %(table)s AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  UNION ALL
  SELECT below.attnum, CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype ELSE e.oid END
  FROM below
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) below.oid
  LEFT JOIN pg_catalog.pg_type AS e ON e.oid OPERATOR(pg_catalog.=) t.typelem
    AND e.typarray OPERATOR(pg_catalog.=) t.oid
  WHERE t.typtype OPERATOR(pg_catalog.=) 'd' OR e.oid IS NOT NULL
)
SELECT a.attname, a.attnum, a.atttypid::pg_catalog.text, a.atttypmod,
       t.typname, t.oid::pg_catalog.int8, t.typtype::pg_catalog.text,
       t.oid OPERATOR(pg_catalog.<) 16384
         AND t.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace,
       (SELECT pg_catalog.json_agg(l.enumlabel ORDER BY l.enumsortorder)::pg_catalog.text
        FROM pg_catalog.pg_enum AS l WHERE l.enumtypid OPERATOR(pg_catalog.=) t.oid)
FROM below
JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) %(table)s
  AND a.attnum OPERATOR(pg_catalog.=) below.attnum
JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) below.oid
WHERE t.typtype OPERATOR(pg_catalog.<>) 'd'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS e WHERE e.oid OPERATOR(pg_catalog.=) t.typelem
    AND e.typarray OPERATOR(pg_catalog.=) t.oid)
"""


def _columns_of(connection: psycopg.Connection, table: int) -> Mapping[str, _TableColumn]:
    rows = connection.execute(_COLUMNS, {"table": table}).fetchall()
    return {row[0]: _TableColumn(*row) for row in rows}


_STEPS = {
    "Aggregate": "it groups",
    "Append": "it reads several tables",
    "Limit": "it has a LIMIT",
    "Merge Append": "it reads several tables",
    "Result": "its WHERE keeps nothing, or it reads no table",
    "Sample Scan": "it has a TABLESAMPLE",
    "Sort": "it has an ORDER BY",
    "Unique": "it has a DISTINCT",
    "WindowAgg": "it has window functions",
}


def _scanned(step: Step, source: _Source, columns: Mapping[str, _TableColumn]) -> Iterator[str]:
    """The table's column behind each output of the query's plan, which is to be one scan and no more."""
    if step.type != "Seq Scan":
        told = (_STEPS[below.type] for below in step.walk() if below.type in _STEPS)
        reason = next(told, f"it is more than a scan of one table (its plan begins with {step.type})")
        raise source.unfit(f"the query is no plain projection: {reason}")
    found = (step.said.get("Schema"), step.said.get("Relation Name"))
    if found != (source.schema, source.name):
        raise source.unfit(f"the query reads {found[0]}.{found[1]} instead")
    if "Filter" in step.said:
        raise source.unfit("the query is no plain projection: it has a WHERE")
    for output in step.texts("Output"):
        name = _plain_name(output, str(step.said.get("Alias")))
        if name is None or name not in columns:
            raise source.unfit(f"the query computes {output}, which is not a plain column of the table")
        _refuse_type(source, columns[name])
        yield name


def _plain_name(output: str, alias: str) -> str | None:
    words = tokens(output)
    if len(words) == 3 and words[0].is_name and words[0].folded == alias and words[1].text == ".":  # noqa: PLR2004
        words = words[2:]
    return words[0].folded if len(words) == 1 and words[0].is_name else None


_UNSTEADY = {"aclitem", "money", "regclass", "regcollation", "regconfig", "regdatabase", "regdictionary"} | {
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
}
"""Built-in types that print what stands elsewhere: names of objects, the currency of the server."""
_BUILTIN_KINDS = {"b", "r", "m"}


def _refuse_type(source: _Source, column: _TableColumn) -> None:
    if column.builtin and column.element in _UNSTEADY:
        raise source.unfit(f"{column.name} is of type {column.element}, whose text depends on more than the row")
    if column.kind != "e" and not (column.builtin and column.kind in _BUILTIN_KINDS):
        raise source.unfit(f"{column.name} is of type {column.element}, which can change its text without a new row")


def _refuse_conversions(
    source: _Source, described: tuple[SourceColumn, ...], scanned: tuple[str, ...], plain: tuple[SourceColumn, ...]
) -> None:
    """EXPLAIN does not print implicit casts, such as those of a UNION of which one branch is left."""
    types = {column.name: (column.oid, column.typmod) for column in plain}
    for found, name in zip(described, scanned, strict=True):
        if (found.oid, found.typmod) != types[name]:
            raise source.unfit(f"the query converts {name} to {found.spelled}")


def _select(source: _Source, names: Mapping[str, None]) -> str:
    listed = ", ".join(quote_identifier(name) for name in names)
    return f"SELECT {listed} FROM ONLY {quote_identifier(source.schema)}.{quote_identifier(source.name)}"


_LINEAGE = """
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text,
       (SELECT oid FROM pg_catalog.pg_database
        WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())::pg_catalog.text,
       greatest((SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),
                (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()))::pg_catalog.text
"""
_WRITING_TO = "SELECT pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)"


def _identity(connection: psycopg.Connection, source: _Source, columns: list[_TableColumn]) -> tuple[str, ...]:
    """Transaction numbers mean something within one history of one server only: a failover may give them out again.

    A dropped column that is added again under its name has another number, though no row changes.
    """
    return (
        f"history:{_history(connection, source)}",
        f"table:{source.oid}",
        *(
            f"column:{c.number}:{c.type_}:{c.typmod}:{c.element_oid}" + (f":{c.labels}" if c.labels else "")
            for c in columns
        ),
    )


def _history(connection: psycopg.Connection, source: _Source) -> str:
    try:
        with connection.transaction():
            row = connection.execute(_LINEAGE).fetchone()
            recovering = connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
            current = None if recovering == (True,) else connection.execute(_WRITING_TO).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        raise source.unfit("this role may not ask for the server's timeline, so a failover would go unseen") from None
    assert row is not None, "three subqueries give one row"
    system, database, checkpoint = row
    timeline = int(checkpoint) if current is None else int(current[0], 16)
    return f"{system}:{database}:{timeline}"
