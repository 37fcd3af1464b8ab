"""Catalog: what Postgres knows of the functions, operators, casts and relations that a plan names.

Belongs here: the questions to pg_proc, pg_operator, pg_cast, pg_class. Does not: judging the answers (`traits`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg

from analytics_pipeline.sync.postgres.explain import Step
from analytics_pipeline.sync.postgres.expressions import Call


@dataclass(frozen=True)
class Function:
    """All overloads of a name together.

    Args:
        name: as the plan spells it, with its schema where that is not in the search path.
        builtin: all of them are PostgreSQL's own.
        makes_float: one gives floating-point numbers without being given any.
    """

    name: str
    volatile: bool
    stable: bool
    aggregate: bool
    builtin: bool
    makes_float: bool


@dataclass(frozen=True)
class Unusual:
    """An operator or cast that is not PostgreSQL's own."""

    name: str
    symbol: str
    volatile: bool
    stable: bool


@dataclass(frozen=True)
class Relation:
    """What a plan scans.

    Args:
        escapes: its rows can change without a transaction number: foreign, unlogged, temporary, sequence, catalog.
        types: of its columns, by name; None where nothing is known of the type.
        keys: columns that are together unique and never NULL.
    """

    schema: str
    table: str
    escapes: bool
    types: Mapping[str, str | None]
    keys: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.schema}.{self.table}"

    def is_read_by(self, step: Step) -> bool:
        """Whether a step scans this relation."""
        return (step.said.get("Schema"), step.said.get("Relation Name")) == (self.schema, self.table)


_FUNCTIONS = """
SELECT c.schema, c.name, bool_or(p.provolatile = 'v'), bool_or(p.provolatile = 's'), bool_or(p.prokind = 'a'),
       bool_and(n.nspname = 'pg_catalog'),
       bool_or(p.prokind = 'f' AND p.prorettype IN ('float4'::regtype, 'float8'::regtype)
               AND NOT p.proargtypes::oid[] && ARRAY['float4'::regtype, 'float8'::regtype]::oid[])
FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::text[]) AS u (schema, name)) AS c
JOIN pg_proc AS p ON p.proname = c.name
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE CASE WHEN c.schema IS NULL THEN n.nspname = ANY (current_schemas(true)) ELSE n.nspname = c.schema END
GROUP BY c.schema, c.name
"""


def functions_called(connection: psycopg.Connection, called: Iterable[Call]) -> tuple[Function, ...]:
    """The calls that are functions; the others are syntax."""
    asked = list(called)
    rows = connection.execute(_FUNCTIONS, [[c.schema for c in asked], [c.name for c in asked]]).fetchall()
    return tuple(Function(name if schema is None else f"{schema}.{name}", *row) for schema, name, *row in rows)


_FIRST_OID_OF_USERS = 16384
_OPERATORS = f"""
SELECT 'operator ' || o.oprname, o.oprname, bool_or(p.provolatile = 'v'), bool_or(p.provolatile = 's')
FROM pg_operator AS o JOIN pg_proc AS p ON p.oid = o.oprcode
WHERE o.oprname = ANY (%s::text[]) AND o.oid >= {_FIRST_OID_OF_USERS}
GROUP BY o.oprname
"""


def unusual_operators(connection: psycopg.Connection, symbols: Iterable[str]) -> tuple[Unusual, ...]:
    """Operators of users and extensions that have one of these symbols, in any schema."""
    return tuple(Unusual(*row) for row in connection.execute(_OPERATORS, [list(symbols)]).fetchall())


_CASTS = f"""
SELECT 'cast to ' || format_type(c.casttarget, NULL), format_type(c.casttarget, NULL),
       bool_or(p.provolatile = 'v'), bool_or(p.provolatile = 's')
FROM pg_cast AS c JOIN pg_proc AS p ON p.oid = c.castfunc
WHERE c.oid >= {_FIRST_OID_OF_USERS} AND p.provolatile <> 'i'
  AND strpos(%s::text, '::' || format_type(c.casttarget, NULL)) > 0
GROUP BY c.casttarget
"""


def unusual_casts(connection: psycopg.Connection, text: str) -> tuple[Unusual, ...]:
    """Casts of users and extensions that are not immutable and may be meant in a text of a plan."""
    return tuple(Unusual(*row) for row in connection.execute(_CASTS, [text]).fetchall())


_RELATIONS = f"""
SELECT r.schema, c.relname,
       c.relkind IN ('f', 'S') OR c.relpersistence <> 'p'
       OR n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast'),
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = c.oid ORDER BY a.attnum),
       ARRAY(SELECT CASE WHEN b.typtype = 'e' OR b.typtype = 'b' AND b.oid < {_FIRST_OID_OF_USERS}
                    THEN b.typname::text END
             FROM pg_attribute AS a
             LEFT JOIN pg_type AS t ON t.oid = a.atttypid
             LEFT JOIN pg_type AS b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
             WHERE a.attrelid = c.oid ORDER BY a.attnum),
       coalesce((
         SELECT json_agg(k.names) FROM (
           SELECT json_agg(a.attname) AS names
           FROM pg_index AS i
           JOIN pg_attribute AS a
             ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
           WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
             AND i.indpred IS NULL AND i.indexprs IS NULL
           GROUP BY i.indexrelid HAVING bool_and(a.attnotnull)) AS k), '[]')
FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::text[]) AS u (schema, name)) AS r
JOIN pg_namespace AS n ON CASE r.schema WHEN 'pg_temp' THEN n.oid = pg_my_temp_schema() ELSE n.nspname = r.schema END
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = r.name
ORDER BY 1, 2
"""


def relations_read(connection: psycopg.Connection, steps: Iterable[Step]) -> tuple[Relation, ...]:
    """The relations that the steps scan."""
    scanned = [step.said for step in steps if "Relation Name" in step.said]
    asked = [[said.get("Schema") for said in scanned], [said["Relation Name"] for said in scanned]]
    return tuple(
        Relation(schema, table, escapes, dict(zip(names, types, strict=True)), tuple(tuple(key) for key in keys))
        for schema, table, escapes, names, types, keys in connection.execute(_RELATIONS, asked).fetchall()
    )
