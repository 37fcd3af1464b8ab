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


_ASKED = """(
  SELECT DISTINCT * FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[]))
    AS u (schema, name))"""
_FLOAT_TYPES = "'{pg_catalog.float4,pg_catalog.float8}'::pg_catalog.regtype[]::pg_catalog.oid[]"
_FUNCTIONS = f"""
SELECT c.schema, c.name, pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 'v'),
       pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 's'),
       pg_catalog.bool_or(p.prokind OPERATOR(pg_catalog.=) 'a'),
       pg_catalog.bool_and(n.nspname OPERATOR(pg_catalog.=) 'pg_catalog'),
       pg_catalog.bool_or(p.prokind OPERATOR(pg_catalog.=) 'f'
         AND p.prorettype OPERATOR(pg_catalog.=) ANY ({_FLOAT_TYPES})
         AND NOT p.proargtypes::pg_catalog.oid[] OPERATOR(pg_catalog.&&) {_FLOAT_TYPES})
FROM {_ASKED} AS c
JOIN pg_catalog.pg_proc AS p ON p.proname OPERATOR(pg_catalog.=) c.name
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
WHERE CASE WHEN c.schema IS NULL THEN n.nspname OPERATOR(pg_catalog.=) ANY (pg_catalog.current_schemas(true))
      ELSE n.nspname OPERATOR(pg_catalog.=) c.schema END
GROUP BY c.schema, c.name
"""


def functions_called(connection: psycopg.Connection, called: Iterable[Call]) -> tuple[Function, ...]:
    """The calls that are functions; the others are syntax."""
    asked = list(called)
    rows = connection.execute(_FUNCTIONS, [[c.schema for c in asked], [c.name for c in asked]]).fetchall()
    return tuple(Function(name if schema is None else f"{schema}.{name}", *row) for schema, name, *row in rows)


_FIRST_OID_OF_USERS = 16384
_OPERATORS = f"""
SELECT 'operator ' OPERATOR(pg_catalog.||) o.oprname, o.oprname,
       pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 'v'),
         pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 's')
FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) o.oprcode
WHERE o.oprname OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.text[])
  AND o.oid OPERATOR(pg_catalog.>=) {_FIRST_OID_OF_USERS}
GROUP BY o.oprname
"""


def unusual_operators(connection: psycopg.Connection, symbols: Iterable[str]) -> tuple[Unusual, ...]:
    """Operators of users and extensions that have one of these symbols, in any schema."""
    return tuple(Unusual(*row) for row in connection.execute(_OPERATORS, [list(symbols)]).fetchall())


_CASTS = f"""
SELECT 'cast to ' OPERATOR(pg_catalog.||) pg_catalog.format_type(c.casttarget, NULL),
  pg_catalog.format_type(c.casttarget, NULL),
       pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 'v'),
         pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 's')
FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) c.castfunc
WHERE c.oid OPERATOR(pg_catalog.>=) {_FIRST_OID_OF_USERS} AND p.provolatile OPERATOR(pg_catalog.<>) 'i'
  AND pg_catalog.strpos(%s::pg_catalog.text, '::' OPERATOR(pg_catalog.||) pg_catalog.format_type(c.casttarget, NULL))
      OPERATOR(pg_catalog.>) 0
GROUP BY c.casttarget
"""


def unusual_casts(connection: psycopg.Connection, text: str) -> tuple[Unusual, ...]:
    """Casts of users and extensions that are not immutable and may be meant in a text of a plan."""
    return tuple(Unusual(*row) for row in connection.execute(_CASTS, [text]).fetchall())


_RELATIONS = f"""
SELECT r.schema, c.relname,
       c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['f', 'S']) OR c.relpersistence OPERATOR(pg_catalog.<>) 'p'
       OR n.nspname OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog', 'information_schema', 'pg_toast']),
       ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid ORDER BY a.attnum),
       ARRAY(SELECT CASE WHEN b.typtype OPERATOR(pg_catalog.=) 'e'
                    OR b.typtype OPERATOR(pg_catalog.=) 'b' AND b.oid OPERATOR(pg_catalog.<) {_FIRST_OID_OF_USERS}
                    THEN b.typname::pg_catalog.text END
             FROM pg_catalog.pg_attribute AS a
             LEFT JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
             LEFT JOIN pg_catalog.pg_type AS b
               ON b.oid OPERATOR(pg_catalog.=) CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype
                 ELSE t.oid END
             WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid ORDER BY a.attnum),
       coalesce((
         SELECT pg_catalog.json_agg(k.names) FROM (
           SELECT pg_catalog.json_agg(a.attname) AS names
           FROM pg_catalog.pg_index AS i
           JOIN pg_catalog.pg_attribute AS a
             ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
             AND a.attnum OPERATOR(pg_catalog.=) ANY (
               (i.indkey::pg_catalog.int2[])[0:i.indnkeyatts OPERATOR(pg_catalog.-) 1])
           WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
             AND i.indpred IS NULL AND i.indexprs IS NULL
           GROUP BY i.indexrelid HAVING pg_catalog.bool_and(a.attnotnull)) AS k), '[]')
FROM {_ASKED} AS r
JOIN pg_catalog.pg_namespace AS n
  ON CASE WHEN r.schema OPERATOR(pg_catalog.=) 'pg_temp'
    THEN n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
     ELSE n.nspname OPERATOR(pg_catalog.=) r.schema END
JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relname OPERATOR(pg_catalog.=) r.name
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
