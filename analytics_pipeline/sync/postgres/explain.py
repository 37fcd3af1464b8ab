"""Explain: the plan of a query, made so that it says as much as it can, without running anything.

Belongs here: the settings under which a plan shows its sorts, filters and partitions; its steps; the texts of the
views behind it. Does not: judging them (`traits`, `projection`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import psycopg

from analytics_pipeline.sync.postgres.sql import subselect

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"

# Indexes hide sorts and filters in their definitions, pruning hides conditions, workers hide scans below Gather.
_SETTINGS = {
    "constraint_exclusion": "off",
    "enable_bitmapscan": "off",
    "enable_indexonlyscan": "off",
    "enable_indexscan": "off",
    "enable_partition_pruning": "off",
    "enable_partitionwise_aggregate": "off",
    "enable_partitionwise_join": "off",
    "enable_seqscan": "on",
    "enable_sort": "on",
    "max_parallel_workers_per_gather": "0",
    "quote_all_identifiers": "off",
}
_VIEWS = """
SELECT pg_catalog.pg_get_viewdef(c.oid)
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
  AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND c.relkind OPERATOR(pg_catalog.=) 'v'
  AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema'])
  AND l.database OPERATOR(pg_catalog.=) (
    SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
"""
_PLANNED = "Plans"


@dataclass(frozen=True)
class Step:
    """One node of a plan.

    Args:
        type: EXPLAIN's Node Type, e.g. Seq Scan.
        said: everything else that EXPLAIN says of it.
        inputs: the nodes below it whose rows it reads.
        subplans: the nodes of subqueries inside its expressions.
    """

    type: str
    said: Mapping[str, JsonValue] = field(repr=False)
    inputs: tuple[Step, ...] = ()
    subplans: tuple[Step, ...] = ()

    def walk(self) -> Iterator[Step]:
        """This step and all below it."""
        yield self
        for below in (*self.inputs, *self.subplans):
            yield from below.walk()

    def texts(self, key: str) -> tuple[str, ...]:
        """The expressions under a key, none if it is not there."""
        value = self.said.get(key)
        return tuple(str(each) for each in value) if isinstance(value, list) else () if value is None else (str(value),)

    def expressions(self) -> Iterator[str]:
        """Every text that EXPLAIN says of this step; a few are names, which look like columns."""
        for key, value in self.said.items():
            if key not in _NAMES:
                yield from _strings(value)


_NAMES = {
    "Relation Name",
    "Schema",
    "Alias",
    "CTE Name",
    "Subplan Name",
    "Parent Relationship",
    "Join Type",
    "Strategy",
}


@dataclass(frozen=True)
class Explained:
    """A plan with the texts that it was made from.

    Args:
        root: its top step.
        sources: the query and the definitions of the views that it reads, views within views included.
    """

    root: Step
    sources: tuple[str, ...]


def explain(connection: psycopg.Connection, query: str) -> Explained:
    """The plan of a query that has been described, so that it is known to be one SELECT.

    The settings by which it is planned end with it: the catalogs are asked by their indexes.
    """
    rows = ", ".join(f"('{name}', '{value}')" for name, value in _SETTINGS.items())
    with connection.transaction(force_rollback=True):
        connection.execute(
            f"SELECT pg_catalog.set_config(s.name, v.value, true) FROM (VALUES {rows}) AS v (name, value) "
            f"JOIN pg_catalog.pg_settings AS s ON s.name OPERATOR(pg_catalog.=) v.name".encode()
        )
        explained = f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM {subselect(query)}"
        answer = connection.execute(explained.encode()).fetchone()
        assert answer is not None, "EXPLAIN gives one row"
        views = tuple(str(row[0]) for row in connection.execute(_VIEWS).fetchall())
    return Explained(_step(answer[0][0]["Plan"]), (query, *views))


def _step(plan: Mapping[str, JsonValue]) -> Step:
    planned = plan.get(_PLANNED)
    below = [each for each in planned if isinstance(each, dict)] if isinstance(planned, list) else []
    inputs = tuple(_step(each) for each in below if "Subplan Name" not in each)
    subplans = tuple(_step(each) for each in below if "Subplan Name" in each)
    return Step(str(plan["Node Type"]), {k: v for k, v in plan.items() if k != _PLANNED}, inputs, subplans)


def _strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
