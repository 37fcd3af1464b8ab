"""A fingerprint hashes what is stored: nothing changes in the store's values without a change of the hash."""

from __future__ import annotations

import psycopg
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, job_of, published, spec_of
from analytics_pipeline_tests.sync.test_role_settings import hashes_of

TYPES = (
    "CREATE TYPE span AS (low int, high int)",
    "CREATE TYPE outer_span AS (inner_span span, note text)",
    "CREATE DOMAIN one_span AS span",
    "CREATE TYPE mood AS ENUM ('fine', 'bad')",
    "CREATE TABLE doc (a int, b int)",
    "INSERT INTO doc VALUES (1, 2)",
)
SWAPPED = (
    "ALTER TYPE span RENAME ATTRIBUTE low TO x",
    "ALTER TYPE span RENAME ATTRIBUTE high TO low",
    "ALTER TYPE span RENAME ATTRIBUTE x TO high",
    "ALTER TYPE mood RENAME VALUE 'fine' TO 'good'",
    "ALTER TABLE doc RENAME COLUMN a TO c",
)
SHAPES = {
    "a composite": "SELECT ROW(1, 9)::span AS v",
    "an array of composites": "SELECT ARRAY[ROW(1, 9)::span] AS v",
    "a composite of composites": "SELECT ROW(ROW(1, 9)::span, 'x')::outer_span AS v",
    "a domain over a composite": "SELECT ROW(1, 9)::one_span AS v",
    "a whole row": "SELECT doc AS v FROM doc",
    "an enum": "SELECT 'fine'::mood AS v",
    "an array of enums": "SELECT ARRAY['fine'::mood] AS v",
    "an enum inside a row": "SELECT ROW('fine'::mood, ROW(1, 9)::span) AS v",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_renamed_attribute_or_label_changes_the_hash(postgres_url: str, shape: str) -> None:
    """Otherwise the new names never arrive, and the audit says that all is equal."""
    execute(postgres_url, *TYPES)
    query = SHAPES[shape].replace("'fine'", "(enum_range(NULL::mood))[1]")
    before = hashes_of(postgres_url, query)
    execute(postgres_url, *SWAPPED)
    assert hashes_of(postgres_url, query) != before


def test_renamed_attributes_arrive_with_the_next_refresh(postgres_url: str, store: Store) -> None:
    """Otherwise readers go on with names that the source has not had for months."""
    execute(
        postgres_url,
        *TYPES,
        "CREATE TABLE records AS SELECT 1 AS id, timestamptz '2024-01-02 00:00+00' AS created_at, "
        "ROW(1, 9)::span AS s, ARRAY[ROW(1, 9)::span] AS ss",
    )
    job = job_of(store, postgres_url, spec_of(results_query="SELECT * FROM records"))
    job.refresh(now=NOW)
    execute(postgres_url, *SWAPPED)
    job.refresh(now=NOW)
    with psycopg.connect(postgres_url) as psql:
        expected = psql.execute("SELECT to_json(s)::text, ARRAY[to_json(ss[1])::text] FROM records").fetchall()
    assert published(store, "SELECT s, ss FROM demo_dataset") == expected
    assert not job.audit(now=NOW).halves
