"""Built-ins are called by their schema: nothing that lies before pg_catalog in a search_path changes a sync."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.store import Store, create_store
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, job_of, published, spec_of

_FUNCTIONS = """
DO $do$ DECLARE f record; BEGIN
  FOR f IN SELECT DISTINCT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments
           FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace
           AND p.proname <> 'version'  -- the fast driver asks for it
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION shadow.%I(%s) RETURNS text LANGUAGE plpgsql '
                     'AS $f$ BEGIN RAISE ''shadow.%s''; END $f$',
                     f.proname, regexp_replace(f.arguments, 'ORDER BY |VARIADIC |OUT ', '', 'g'), f.proname);
    EXCEPTION WHEN OTHERS THEN NULL;  -- pseudo-types that no function of a user may take
    END;
  END LOOP;
END $do$
"""
_OPERATORS = """
DO $do$ DECLARE o record; n int := 0; BEGIN
  FOR o IN SELECT oprname, nullif(oprleft, 0)::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result
           FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace LOOP
    BEGIN
      n := n + 1;
      EXECUTE format('CREATE FUNCTION shadow.op%s(%s) RETURNS %s LANGUAGE plpgsql '
                     'AS $f$ BEGIN RAISE ''operator %s''; END $f$',
                     n, concat_ws(',', o.l, o.r), o.result, replace(o.oprname, '%', '%%'));
      EXECUTE format('CREATE OPERATOR shadow.%s (FUNCTION = shadow.op%s%s, RIGHTARG = %s)', o.oprname, n,
                     ', LEFTARG = ' || o.l, o.r);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
END $do$
"""
_TYPES = """
DO $do$ DECLARE t name; BEGIN
  FOR t IN SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b'
           AND typname !~ '^_' LOOP
    EXECUTE format('CREATE TYPE shadow.%I AS ENUM ()', t);
  END LOOP;
END $do$
"""
_RELATIONS = """
DO $do$ DECLARE t name; BEGIN
  FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') LOOP
    EXECUTE format('CREATE TABLE shadow.%I ()', t);
  END LOOP;
END $do$
"""
KINDS = {"functions": (_FUNCTIONS,), "everything": (_FUNCTIONS, _OPERATORS, _TYPES, _RELATIONS)}
_TABLE = """
CREATE TABLE plain AS
SELECT n AS dataset_id, timestamptz '2024-01-02 00:00+00' + n * interval '1 day' AS created_at,
       n::numeric(9, 2) AS amount, n::numeric AS whole, n::float8 AS f, interval '1 day 02:00' AS i,
       ARRAY[gen_random_uuid()] AS ids,
       ARRAY[date '2024-01-01'] AS days, 'ab'::bytea AS b, date '2024-01-01' AS day, time '10:00' AS clock,
       timestamp '2024-01-01' AS local, 7::oid AS o
FROM generate_series(1, 4) AS n
"""
SOURCE = (
    "CREATE TYPE span AS (low int, high numeric)",
    _TABLE,
    "CREATE TABLE rich AS SELECT *, ROW(1, 1)::span AS s, ARRAY[ROW(1, 2)::span] AS ss, 5::money AS m FROM plain",
    "CREATE SCHEMA shadow",
)
TABLES = {"checksum": "public.rich", "xmin": "public.plain"}


def shadowed(url: str, kind: str) -> str:
    """The URL of a role whose search_path finds other things than pg_catalog's."""
    execute(url, *SOURCE, *KINDS[kind])
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET search_path = shadow, pg_catalog, public".encode())
    return url


@pytest.mark.parametrize(
    ("kind", "tier", "fingerprint"),
    [
        ("functions", Tier.PARALLEL, "checksum"),
        # The fast driver itself asks for types without a schema, before any statement of ours.
        ("everything", Tier.CURSOR, "checksum"),
        ("everything", Tier.CURSOR, "xmin"),
    ],
)
def test_what_a_search_path_finds_before_pg_catalog_changes_nothing(
    postgres_url: str, tmp_path: Path, kind: str, tier: Tier, fingerprint: str
) -> None:
    """Otherwise a schema of somebody else decides which rows a sync believes to be equal."""
    url, store = shadowed(postgres_url, kind), create_store(tmp_path / "store")
    table = TABLES[fingerprint]
    query = f"SELECT * FROM {table}"
    job = job_of(
        store,
        url,
        spec_of(
            dataset_query=query,
            results_query=query,
            partition_column="dataset_id",
            max_sync_rows=1000,
            fingerprint=fingerprint,
            source_table=dict.fromkeys(("dataset", "results"), table) if fingerprint == "xmin" else None,
        ),
        tier=tier,
    )
    assert job.refresh(now=NOW).halves
    assert published(store, "SELECT count(*), min(i) FROM demo_dataset") == [(4, "1 day 02:00:00")]
    execute(url, "SET search_path = pg_catalog", f"UPDATE {table} SET f = -1.5 WHERE dataset_id = 2")
    job.refresh(now=NOW)
    assert published(store, "SELECT f FROM demo_dataset WHERE dataset_id = 2") == [(-1.5,)]
    assert not job.audit(now=NOW).halves
    job.is_unchanged(now=NOW)
    job.check(now=NOW)
    store.close()


def test_the_shadow_itself_raises(postgres_url: str, store: Store) -> None:
    """The proof that the tests above would notice."""
    url = shadowed(postgres_url, "functions")
    with psycopg.connect(url) as connection, pytest.raises(psycopg.Error):
        connection.execute("SELECT count(*), sum(1::numeric), length('a')")
