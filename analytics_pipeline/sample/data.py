"""The sample's rows: what the three databases have in common, and how one of them is filled and topped up.

Belongs here: the deterministic dice, the timetable of cases, filling in one transaction, topping up to today.
Does not: the tables and texts of a source (`monitoring`, `human_signals`, `evaluation`), changing rows (`changes`).

Everything is generated inside PostgreSQL. A case is a number that says its day and its place in that day; all its
values are hashes of it. So the same day has the same rows whenever it is made, and a top-up equals a fresh fill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString, NamedTuple

import psycopg

DAYS = 30
"""Whole days before today."""
LAG = timedelta(minutes=2)
"""A case appears in the sample this long after it happened, when its results are in: nothing lies in the future."""
LARGEST_SCALE = 500

COMMON = """
CREATE SCHEMA sample;
CREATE SEQUENCE sample.change_number;

CREATE TABLE sample.state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    scale float8 NOT NULL,
    filled_until timestamptz NOT NULL
);

-- A number in [0, 1) that looks random and is always the same for one case and salt.
CREATE FUNCTION sample.chance(case_number bigint, salt int) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (hashint8extended(case_number, salt) & 9007199254740991)::float8 / 9007199254740992;

CREATE FUNCTION sample.pick(choices text[], chance float8) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN choices[1 + floor(chance * cardinality(choices))::int];

-- The cases that happen in [since, until): busiest around noon, half as many at weekends.
CREATE FUNCTION sample.timetable(since timestamptz, until timestamptz, per_day int)
RETURNS TABLE (case_number bigint, happened_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT planned.case_number, planned.happened_at
    FROM generate_series(date_trunc('day', since, 'UTC'), until, interval '1 day') AS day
    CROSS JOIN generate_series(0, per_day - 1) AS place
    CROSS JOIN LATERAL (SELECT (extract(epoch FROM day)::bigint / 86400) * 1000000 + place AS case_number) AS numbered
    CROSS JOIN LATERAL (
        SELECT
            numbered.case_number,
            day + interval '1 day' * (
                sample.chance(numbered.case_number, 1) + sample.chance(numbered.case_number, 2)
            ) / 2 AS happened_at
    ) AS planned
    WHERE planned.happened_at >= since AND planned.happened_at < until
      AND (extract(isodow FROM day AT TIME ZONE 'UTC') < 6 OR sample.chance(planned.case_number, 3) < 0.5)
$$;

-- Cases out of turn, for the change commands: each number is used once.
CREATE FUNCTION sample.extra_cases(since timestamptz, until timestamptz, amount int, seed int)
RETURNS TABLE (case_number bigint, happened_at timestamptz)
LANGUAGE sql VOLATILE AS $$
    SELECT numbered.case_number, since + (until - since) * sample.chance(numbered.case_number, 4)
    FROM (
        SELECT 1000000000000000 + seed::bigint * 1000000000 + nextval('sample.change_number') AS case_number
        FROM generate_series(1, amount)
    ) AS numbered
$$;
"""
READ_STATE = "SELECT scale, filled_until FROM sample.state"
WRITE_STATE = """
INSERT INTO sample.state (scale, filled_until) VALUES (%(scale)s, %(until)s)
ON CONFLICT (only_row) DO UPDATE SET scale = excluded.scale, filled_until = excluded.filled_until
"""
CLEAR = "DROP SCHEMA IF EXISTS sample CASCADE; DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public"
DUE_CASES = """
CREATE TEMPORARY TABLE new_cases ON COMMIT DROP AS
SELECT case_number, happened_at
FROM sample.timetable(%(since)s, %(until)s, %(per_day)s)
ORDER BY happened_at, case_number
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtext('analytics_pipeline.sample'))"


@dataclass(frozen=True)
class Half:
    """One of the two tables of a source.

    Args:
        table: its name.
        key: the column that names the case.
        insert: SQL that adds the rows of the cases in the temporary table `new_cases`.
        update: SQL that changes the rows of the cases in the temporary table `chosen_cases`, but no times.
    """

    table: str
    key: str
    insert: str
    update: str


@dataclass(frozen=True)
class Source:
    """One sample source.

    Args:
        name: of the database, and of the dataset that mirrors it.
        per_day: cases on a weekday at scale 1.
        create: SQL for the tables and what else the inserts need.
        dataset: one row a case.
        results: several rows a case, which disappear with it.
        load: brings data from outside the database, after `create`.
    """

    name: str
    per_day: int
    create: str
    dataset: Half
    results: Half
    load: Callable[[psycopg.Connection], None] | None = None


class Changed(NamedTuple):
    """How many rows a command touched."""

    dataset_rows: int
    results_rows: int


def fill(connection: psycopg.Connection, source: Source, scale: float, now: datetime) -> Changed:
    """Make the source's tables anew with 30 days and today, in the connection's transaction.

    Args:
        connection: to the source's own database; everything in its schema `public` is dropped.
        source: which tables.
        scale: 1 gives about 20,000 traces; other sources in proportion.
        now: where the rows end, with a time zone.
    """
    until = now - LAG
    since = datetime.combine(until.astimezone(UTC).date() - timedelta(days=DAYS), datetime.min.time(), UTC)
    connection.execute(CLEAR)
    connection.execute(COMMON)
    connection.execute(source.create.encode())
    if source.load:
        source.load(connection)
    changed = _add_due(connection, source, scale, since, until)
    connection.execute("ANALYZE")
    return changed


def top_up(connection: psycopg.Connection, source: Source, now: datetime) -> Changed:
    """Add the cases since the rows end, where that is on an earlier day than `now`; in the connection's transaction."""
    state = read_state(connection)
    assert state is not None, "only what was filled can be topped up"
    scale, filled_until = state
    until = now - LAG
    if filled_until.astimezone(UTC).date() >= until.astimezone(UTC).date():
        return Changed(0, 0)
    return _add_due(connection, source, scale, filled_until, until)


def read_state(connection: psycopg.Connection) -> tuple[float, datetime] | None:
    """The scale of a filled database and where its rows end; None where it was never filled."""
    known = connection.execute("SELECT to_regclass('sample.state') IS NOT NULL").fetchone()
    if not known or not known[0]:
        return None
    return connection.execute(READ_STATE).fetchone()


def lock(connection: psycopg.Connection) -> None:
    """Until the end of the transaction, let nobody else fill or top up this database."""
    connection.execute(LOCK)


def make_new_cases(connection: psycopg.Connection, statement: LiteralString, parameters: Mapping[str, object]) -> None:
    """Make the temporary table `new_cases`; CREATE takes no parameters in the server, so they are bound here."""
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(statement, parameters)


def insert_cases(connection: psycopg.Connection, source: Source) -> Changed:
    """Insert both halves of the cases in the temporary table `new_cases`, and drop it."""
    dataset_rows = connection.execute(source.dataset.insert.encode()).rowcount
    results_rows = connection.execute(source.results.insert.encode()).rowcount
    connection.execute("DROP TABLE new_cases")
    return Changed(dataset_rows, results_rows)


def _add_due(connection: psycopg.Connection, source: Source, scale: float, since: datetime, until: datetime) -> Changed:
    per_day = max(1, round(source.per_day * scale))
    make_new_cases(connection, DUE_CASES, {"since": since, "until": until, "per_day": per_day})
    changed = insert_cases(connection, source)
    connection.execute(WRITE_STATE, {"scale": scale, "until": until})
    return changed
