"""What is known of a query without running it: whether it repeats itself, and whether row versions can stand for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import SourceError, XminUnfit
from analytics_pipeline.sync.postgres.explain import explain
from analytics_pipeline.sync.postgres.projection import plain_projection
from analytics_pipeline.sync.postgres.row_version import xmin_hash
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline.sync.postgres.sql import subselect
from analytics_pipeline.sync.postgres.traits import QueryTraits, query_traits
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.thinning import thinned

SCHEMA = (
    "CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "CREATE TYPE pair AS (a int, b int)",
    "CREATE TYPE moods AS RANGE (subtype = mood)",
    "CREATE DOMAIN price AS numeric(8,3)",
    """CREATE TABLE item (
      id int PRIMARY KEY, at timestamptz, d date, f float8, n numeric(10,2), s text, j jsonb, "User" int)""",
    """INSERT INTO item
    SELECT i, '2026-01-01'::timestamptz + i * interval '1 hour', '2026-01-01'::date + i, i / 7.0, i, 's' || i % 3,
           jsonb_build_object('a', i), i
    FROM generate_series(1, 200) AS i""",
    "CREATE TABLE parent (id int, d date) PARTITION BY RANGE (d)",
    "CREATE TABLE part PARTITION OF parent FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE TABLE part2 PARTITION OF parent FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
    "CREATE UNLOGGED TABLE loose (id int)",
    "CREATE SEQUENCE numbers",
    "CREATE FUNCTION vol(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'",
    "CREATE FUNCTION stab(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END'",
    "CREATE FUNCTION pure(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'",
    "CREATE FUNCTION rows_of(int) RETURNS SETOF int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN NEXT $1; END'",
    "CREATE FUNCTION hidden_random(int) RETURNS float8 LANGUAGE sql AS 'SELECT random() * $1'",
    "CREATE FUNCTION unmarked(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1'",
    "CREATE SCHEMA aside CREATE TABLE item (id int)",
    "CREATE FUNCTION aside.vol2(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'",
    "CREATE OPERATOR <~> (LEFTARG = int, RIGHTARG = int, FUNCTION = vol_of_two)",
    "CREATE AGGREGATE first_of (int) (SFUNC = pair_left, STYPE = int)",
    "CREATE VIEW recent AS SELECT id FROM item WHERE at > now()",
    "CREATE VIEW shaken AS SELECT x FROM (VALUES (random()), (2)) AS v (x)",
    "CREATE VIEW simple AS SELECT id, s FROM item",
)
FUNCTIONS = (
    "CREATE FUNCTION vol_of_two(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'",
    "CREATE FUNCTION pair_left(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT coalesce($1, $2)'",
)


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    execute(postgres_url, *FUNCTIONS, *SCHEMA)
    opened = connect(SecretStr(postgres_url))
    opened.execute("ROLLBACK")  # each query in a transaction of its own, so that no view of another one is locked
    yield opened
    opened.close()


STEADY = (
    "SELECT * FROM item",
    "SELECT id, n * 2 AS twice, s || '!' AS loud FROM item WHERE id > 3 AND s LIKE 's%'",
    "SELECT 1 AS a",
    "SELECT s, count(*) AS c, sum(n) AS total, max(id) AS m FROM item GROUP BY s HAVING count(*) > 1",
    "SELECT DISTINCT s FROM item",
    "SELECT DISTINCT s, 1 AS one FROM item ORDER BY s",
    "SELECT * FROM item ORDER BY id LIMIT 10",
    "SELECT * FROM item ORDER BY s, id DESC OFFSET 5",
    "SELECT s FROM item ORDER BY s LIMIT 10",
    "SELECT s, count(*) AS c FROM item GROUP BY s ORDER BY s LIMIT 2",
    "SELECT DISTINCT ON (s) * FROM item ORDER BY s, id",
    "SELECT a.id, b.s FROM item AS a JOIN item AS b USING (id)",
    "SELECT id FROM item UNION SELECT id FROM part",
    "SELECT id FROM item EXCEPT ALL SELECT id FROM parent",
    "SELECT *, (SELECT max(b.id) FROM item AS b WHERE b.id < a.id) AS before FROM item AS a",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 9) SELECT * FROM r",
    "SELECT to_char(at, 'YYYY') AS a, date_trunc('day', at) AS b, extract(year FROM at) AS c, at::date AS d FROM item",
    "SELECT at AT TIME ZONE 'CET' AS a, at + interval '1 day' AS b, at > d AS c, age(at, at) AS e FROM item",
    "SELECT concat(s, id) AS a, format('%s', s) AS b, to_jsonb(item) AS c, j->>'a' AS e, at::text AS g FROM item",
    "SELECT array_agg(id ORDER BY id) AS a, string_agg(s, ',' ORDER BY s DESC) AS b FROM item",
    "SELECT array_agg(DISTINCT s) AS a, jsonb_agg(s ORDER BY id) AS b, avg(n) AS c, sum(id + 1) AS e FROM item",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f) AS a, max(f) AS b, count(DISTINCT f) AS c FROM item",
    "SELECT sum(f::numeric) AS a, avg(round((f / 3)::numeric(20,9), 2) * 2) AS b FROM item",
    "SELECT pure(id) AS a, unmarked(id) AS b FROM item",
    "SELECT id, 'random() and clock_timestamp()' AS \"vol(\" FROM item -- random()",
    "SELECT * FROM item TABLESAMPLE BERNOULLI (50) REPEATABLE (3)",
    "SELECT g, u FROM generate_series(1, 3) AS g, unnest(ARRAY[1, 2]) AS u",
    "SELECT x FROM (VALUES (1), (2)) AS v (x)",
    'SELECT "User" FROM item AS i WHERE i."User" > 3',
    "SELECT CASE WHEN (id > 3) AND NOT (s = 'x') THEN coalesce(s, 'y') ELSE greatest(s, 'z') END AS a FROM item",
)
"""Nothing but a write can change their rows."""

R, LIMIT, FLOAT = "random", "LIMIT without a total order", "an aggregate over floating-point numbers"
UNSTEADY = {
    "SELECT random() AS a FROM item": QueryTraits(volatile=(R,)),
    "SELECT id FROM item WHERE random() < 0.5": QueryTraits(volatile=(R,)),
    "SELECT id FROM item ORDER BY random()": QueryTraits(volatile=(R,)),
    "SELECT max(random()) AS a FROM item": QueryTraits(volatile=(R,)),
    "SELECT * FROM item WHERE id = (SELECT (random() * 9)::int)": QueryTraits(volatile=(R,)),
    "WITH r AS MATERIALIZED (SELECT random() AS x) SELECT * FROM r": QueryTraits(volatile=(R,)),
    "SELECT hidden_random(id) AS a FROM item": QueryTraits(volatile=(R,)),
    "SELECT x FROM (VALUES (random()), (2)) AS v (x)": QueryTraits(volatile=(R,)),
    "SELECT * FROM shaken": QueryTraits(volatile=(R,)),
    "SELECT * FROM item ORDER BY id LIMIT (Random() * 10)::int": QueryTraits(volatile=(R,)),
    "SELECT clock_timestamp() AS a, timeofday() AS b": QueryTraits(volatile=("clock_timestamp", "timeofday")),
    "SELECT gen_random_uuid() AS a FROM item": QueryTraits(volatile=("gen_random_uuid",)),
    "SELECT nextval('numbers') AS a": QueryTraits(volatile=("nextval",)),
    "SELECT vol(id) AS a FROM item": QueryTraits(volatile=("vol",)),
    "SELECT aside.vol2(id) AS a FROM item": QueryTraits(volatile=("aside.vol2",)),
    "SELECT id <~> 3 AS a FROM item": QueryTraits(volatile=("operator <~>",)),
    "SELECT * FROM item TABLESAMPLE SYSTEM (10)": QueryTraits(volatile=("TABLESAMPLE without REPEATABLE",)),
    "SELECT id FROM item WHERE at > now() - interval '1 day'": QueryTraits(time_dependent=("now",)),
    "SELECT id FROM item WHERE id = 3 AND at < transaction_timestamp()": QueryTraits(
        time_dependent=("transaction_timestamp",)
    ),
    "SELECT * FROM recent": QueryTraits(time_dependent=("now",)),
    "SELECT id FROM item WHERE d = CURRENT_DATE": QueryTraits(time_dependent=("CURRENT_DATE",)),
    "SELECT current_timestamp(2) AS a, localtime AS b, user AS c": QueryTraits(
        time_dependent=("CURRENT_TIMESTAMP", "LOCALTIME", "USER")
    ),
    "SELECT x FROM (VALUES (current_date), (NULL)) AS v (x)": QueryTraits(time_dependent=("CURRENT_DATE",)),
    "SELECT age(at) AS a FROM item": QueryTraits(time_dependent=("CURRENT_DATE",)),
    "SELECT id FROM item WHERE d = 'today'": QueryTraits(time_dependent=("'today'",)),
    "SELECT id FROM item WHERE d < 'Tomorrow'::date": QueryTraits(time_dependent=("'tomorrow'",)),
    "SELECT ('now'::text)::timestamp AS a": QueryTraits(time_dependent=("'now'",)),
    "SELECT current_setting('application_name') AS a": QueryTraits(time_dependent=("current_setting",)),
    "SELECT pg_backend_pid() AS a": QueryTraits(time_dependent=("pg_backend_pid",)),
    "SELECT stab(id) AS a FROM item": QueryTraits(time_dependent=("stab",)),
    "SELECT * FROM parent WHERE d > now() - interval '90 years'": QueryTraits(time_dependent=("now",)),
    "SELECT * FROM parent WHERE d > now() + interval '90 years'": QueryTraits(time_dependent=("now",)),
    "SELECT t AT TIME ZONE 'CET' AS a FROM (SELECT '10:00'::time::timetz AS t OFFSET 0) AS q": QueryTraits(
        time_dependent=("AT TIME ZONE of a time with time zone",)
    ),
    "SELECT * FROM item LIMIT 10": QueryTraits(ordered_cut=(LIMIT,)),
    "SELECT * FROM item OFFSET 10": QueryTraits(ordered_cut=(LIMIT,)),
    "SELECT * FROM item ORDER BY s LIMIT 10": QueryTraits(ordered_cut=(LIMIT,)),
    "SELECT a.id FROM item AS a, item AS b ORDER BY a.s LIMIT 3": QueryTraits(ordered_cut=(LIMIT,)),
    "SELECT DISTINCT ON (s) * FROM item ORDER BY s": QueryTraits(ordered_cut=("DISTINCT ON without a total order",)),
    "SELECT id, row_number() OVER (ORDER BY s) AS a FROM item": QueryTraits(ordered_cut=("a window function",)),
    "SELECT sum(f) AS a FROM item": QueryTraits(ordered_cut=(FLOAT,)),
    "SELECT avg(n::real) AS a FROM item": QueryTraits(ordered_cut=(FLOAT,)),
    "SELECT sum(sqrt(id)) AS a FROM item": QueryTraits(ordered_cut=(FLOAT,)),
    "SELECT stddev((j->>'a')::float8) AS a FROM item GROUP BY s": QueryTraits(ordered_cut=(FLOAT,)),
    "SELECT sum(n::numeric * f) AS a FROM item": QueryTraits(ordered_cut=(FLOAT,)),
    "SELECT corr(n, id) AS a FROM item": QueryTraits(ordered_cut=(FLOAT,)),
    "WITH w AS MATERIALIZED (SELECT f / 2 AS half FROM item) SELECT sum(half) AS a FROM w": QueryTraits(
        ordered_cut=(FLOAT,)
    ),
    "SELECT array_agg(id) AS a FROM item": QueryTraits(ordered_cut=("array_agg without a total order",)),
    "SELECT string_agg(s, ',') AS a FROM item": QueryTraits(ordered_cut=("string_agg without a total order",)),
    "SELECT array_agg(id ORDER BY s) AS a FROM item": QueryTraits(ordered_cut=("array_agg without a total order",)),
    "SELECT json_object_agg(s, id) AS a FROM item": QueryTraits(ordered_cut=("json_object_agg without a total order",)),
    "SELECT first_of(id) AS a FROM item": QueryTraits(
        ordered_cut=("the aggregate first_of, whose result may depend on the order of rows",)
    ),
    "SELECT ARRAY(SELECT id FROM item) AS a": QueryTraits(ordered_cut=("an array made from a subquery",)),
    "SELECT * FROM loose": QueryTraits(unlogged_or_foreign=("public.loose",)),
    "SELECT last_value FROM numbers": QueryTraits(unlogged_or_foreign=("public.numbers",)),
    "SELECT relname FROM pg_class": QueryTraits(unlogged_or_foreign=("pg_catalog.pg_class",)),
    "SELECT x FROM rows_of(3) AS x": QueryTraits(unlogged_or_foreign=("rows_of()",)),
}
"""Each with all that is said of it."""


def test_what_only_writes_can_change_is_known(connection: psycopg.Connection) -> None:
    """Otherwise such a dataset is asked for its fingerprints at every tick."""
    assert {q: query_traits(connection, q) for q in STEADY} == dict.fromkeys(STEADY, QueryTraits())


def test_every_reason_to_differ_is_named(connection: psycopg.Connection) -> None:
    """Otherwise a gate says "nothing changed" of a query whose rows did."""
    found = {query: query_traits(connection, query) for query in UNSTEADY}
    assert found == UNSTEADY
    assert not any(traits.moves_only_with_writes for traits in found.values())


PARTLY_ORDERED = (
    "SELECT s, n, count(*) AS c FROM item GROUP BY s, n ORDER BY s LIMIT 2",
    "SELECT * FROM doubly ORDER BY a LIMIT 2",
)


def test_an_order_by_a_part_of_a_key_or_of_the_groups_is_not_total(
    postgres_url: str, connection: psycopg.Connection
) -> None:
    """Rows that are equal in it may come in any order, so that a LIMIT cuts off others each time."""
    execute(postgres_url, "CREATE TABLE doubly (a int NOT NULL, b int NOT NULL, v text, PRIMARY KEY (a, b))")
    steady = "SELECT * FROM doubly ORDER BY b, a LIMIT 2"
    assert [query_traits(connection, query).ordered_cut for query in (*PARTLY_ORDERED, steady)] == [
        (LIMIT,),
        (LIMIT,),
        (),
    ]


def test_system_views_move_by_themselves(connection: psycopg.Connection) -> None:
    traits = query_traits(connection, "SELECT pid FROM pg_stat_activity")
    assert "pg_stat_get_activity()" in traits.unlogged_or_foreign
    assert not traits.moves_only_with_writes


def test_a_foreign_table_moves_unseen(postgres_url: str, connection: psycopg.Connection) -> None:
    try:
        execute(postgres_url, "CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    except psycopg.Error:
        pytest.skip("this PostgreSQL has no file_fdw")
    execute(postgres_url, "CREATE FOREIGN TABLE far (a text) SERVER files OPTIONS (filename '/dev/null')")
    traits = query_traits(connection, "SELECT a FROM far")
    assert traits == QueryTraits(ordered_cut=("a foreign table",), unlogged_or_foreign=("public.far",))


def test_a_temporary_table_is_named(connection: psycopg.Connection) -> None:
    connection.execute("SET default_transaction_read_only = off")
    connection.execute("CREATE TEMP TABLE brief (id int)")
    assert query_traits(connection, "SELECT id FROM brief").unlogged_or_foreign == ("pg_temp.brief",)


def test_policies_that_ask_for_the_user_are_seen(postgres_url: str, connection: psycopg.Connection) -> None:
    execute(
        postgres_url,
        "DROP ROLE IF EXISTS limited",
        "CREATE ROLE limited",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON item USING (s = current_user)",
        "GRANT SELECT ON item TO limited",
    )
    connection.execute("SET ROLE limited")
    assert query_traits(connection, "SELECT id FROM item").time_dependent == ("CURRENT_USER",)
    with pytest.raises(XminUnfit, match="row-level security"):
        plain_projection(connection, "SELECT id FROM item", "item")
    connection.execute("RESET ROLE")
    execute(postgres_url, "DROP OWNED BY limited", "DROP ROLE limited")


def test_what_is_called_stable_gives_the_same_rows_twice(connection: psycopg.Connection) -> None:
    """The second time with other plans: by index, then by hash or sort."""
    for query in STEADY:
        counted = []
        for setting in ("on", "off"):
            for name in ("enable_seqscan", "enable_hashagg", "enable_hashjoin", "synchronize_seqscans"):
                connection.execute(f"SET {name} = {setting}".encode())
            rows = connection.execute(f"SELECT q::text FROM {subselect(query)}".encode()).fetchall()
            counted.append(Counter(rows))
        assert counted[0] == counted[1], query


def test_judging_runs_nothing_and_leaves_the_session_as_it_was(connection: psycopg.Connection) -> None:
    assert query_traits(connection, "SELECT pg_sleep(3600)::text AS a").volatile == ("pg_sleep",)
    assert connection.execute("SHOW enable_indexscan").fetchone() == ("on",)
    with pytest.raises(SourceError):
        query_traits(connection, "DELETE FROM item")


def test_judging_works_inside_a_snapshot(connection: psycopg.Connection) -> None:
    """Its settings end with it, and a refusal does not spoil the transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        assert query_traits(connection, "SELECT * FROM item") == QueryTraits()
        assert plain_projection(connection, "SELECT id FROM item", "item").columns == {"id": "id"}
        for wrong in ("nowhere", "a b", "x.y.z.w", "simple"):
            with pytest.raises(XminUnfit):
                plain_projection(connection, "SELECT id FROM item", wrong)
        assert connection.execute("SHOW enable_indexscan").fetchone() == ("on",)


PLAIN = {
    "SELECT * FROM aside.item": ("aside.item", {"id": "id"}),
    'SELECT id AS a, id AS b, s AS "C c" FROM public.item AS i': ("item", {"a": "id", "b": "id", "C c": "s"}),
    'SELECT "User" AS id, id AS "User" FROM item': ("public.item", {"id": "User", "User": "id"}),
    "SELECT id FROM item WHERE 1 = 1": ("ITEM", {"id": "id"}),
    "SELECT id FROM simple": ("item", {"id": "id"}),
    "SELECT x.id FROM (SELECT * FROM item) AS x": ("item", {"id": "id"}),
    "TABLE typed": ("typed", {n: n for n in ("m", "ms", "p", "r", "j", "u")}),
}


def test_a_plain_projection_is_known_with_its_columns(postgres_url: str, connection: psycopg.Connection) -> None:
    execute(postgres_url, "CREATE TABLE typed (m mood, ms mood[], p price[], r tstzrange, j jsonb, u uuid)")
    for query, (table, columns) in PLAIN.items():
        found = plain_projection(connection, query, table)
        assert list(found.columns.items()) == list(columns.items())
        assert found.schema in {"public", "aside"}
        assert found == plain_projection(connection, query, table)


UNFIT = (
    ("SELECT id FROM item WHERE id > 3", "item", "a WHERE"),
    ("SELECT id FROM item WHERE false", "item", "keeps nothing"),
    ("SELECT id FROM item ORDER BY s", "item", "an ORDER BY"),
    ("SELECT id FROM item LIMIT 3", "item", "a LIMIT"),
    ("SELECT id FROM item TABLESAMPLE SYSTEM (50)", "item", "a TABLESAMPLE"),
    ("SELECT DISTINCT s FROM item", "item", "groups|DISTINCT"),
    ("SELECT s, count(*) AS c FROM item GROUP BY s", "item", "groups"),
    ("SELECT a.id FROM item AS a JOIN part AS b USING (id)", "item", "more than a scan"),
    ("SELECT id FROM item UNION ALL SELECT id FROM part", "item", "several tables"),
    ("SELECT id, row_number() OVER () AS r FROM item", "item", "window"),
    ("SELECT id + 1 AS a FROM item", "item", "computes"),
    ("SELECT s::varchar AS a FROM item", "item", "computes"),
    ("SELECT id, 1 AS a FROM item", "item", "computes 1"),
    ("SELECT xmin AS a FROM item", "item", "computes"),
    ("SELECT item AS a FROM item", "item", "computes"),
    ("SELECT id FROM item LEFT JOIN big USING (id)", "item", "converts id to bigint"),
    ("SELECT id FROM aside.item", "item", "reads aside.item"),
    ("SELECT id FROM item", "nothing", "no such table"),
    ("SELECT id FROM simple", "simple", "is a view"),
    ("SELECT id FROM parent", "parent", "partitioned"),
    ("SELECT id FROM parent WHERE d < '2027-01-01'", "part", "is a partition"),
    ("SELECT id FROM part", "part", "is a partition"),
    ("SELECT a FROM odd", "odd", "pair"),
    ("SELECT b FROM odd", "odd", "moods"),
    ("SELECT c FROM odd", "odd", "regclass"),
    ("SELECT e FROM odd", "odd", "money"),
    ("SELECT f FROM odd", "odd", "pair"),
    ("SELECT id FROM ONLY elder", "elder", "inherit"),
    ("SELECT relname FROM pg_class", "pg_class", "system catalog"),
    ("SELECT id FROM stored", "stored", "materialised view"),
)


@pytest.mark.parametrize("case", thinned(range(len(UNFIT)), 3))
def test_what_row_versions_cannot_stand_for_is_refused(
    postgres_url: str, connection: psycopg.Connection, case: int
) -> None:
    """Otherwise a change of values goes unseen; the error names the table and the way out."""
    execute(
        postgres_url,
        "CREATE TABLE odd (a pair, b moods, c regclass, e money[], f pair[])",
        "CREATE TABLE big (id bigint PRIMARY KEY)",
        "CREATE TABLE elder (id int)",
        "CREATE TABLE younger () INHERITS (elder)",
        "CREATE MATERIALIZED VIEW stored AS SELECT id FROM item",
    )
    query, table, reason = UNFIT[case]
    with pytest.raises(XminUnfit, match=reason) as refused:
        plain_projection(connection, query, table)
    assert repr(table) in str(refused.value)
    assert "fingerprint: checksum" in str(refused.value)


def test_virtual_columns_are_refused(postgres_url: str, connection: psycopg.Connection) -> None:
    if connection.info.server_version < 18_00_00:
        pytest.skip("virtual columns came with PostgreSQL 18")
    execute(postgres_url, "CREATE TABLE computed (id int, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)")
    assert plain_projection(connection, "SELECT id FROM computed", "computed").columns == {"id": "id"}
    with pytest.raises(XminUnfit, match="computes"):
        plain_projection(connection, "SELECT * FROM computed", "computed")


UNSEEN_BY_XMIN = (
    ("ALTER TABLE typed DROP COLUMN a", "ALTER TABLE typed ADD COLUMN a int DEFAULT 2"),
    ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",),
    ("ALTER TABLE typed RENAME a TO x", "ALTER TABLE typed RENAME b TO a", "ALTER TABLE typed RENAME x TO b"),
    ("ALTER TABLE typed ALTER s TYPE text",),
    ("ALTER TABLE typed RENAME TO old", "ALTER TABLE other RENAME TO typed"),
)


@pytest.mark.parametrize("changes", UNSEEN_BY_XMIN)
def test_the_identity_notices_what_row_versions_do_not(
    postgres_url: str, connection: psycopg.Connection, changes: tuple[str, ...]
) -> None:
    """Each changes what a query gives, and not one xmin."""
    for table in ("typed", "other"):
        execute(
            postgres_url,
            f"CREATE TABLE {table} (m mood[], s varchar(9), b int)",
            f"INSERT INTO {table} VALUES ('{{sad}}', 'x', 1)",
        )
        execute(postgres_url, f"ALTER TABLE {table} ADD COLUMN a int DEFAULT 1")
    query, versions = "SELECT m, s, a, b FROM typed", "SELECT xmin::text FROM typed"
    before, version = plain_projection(connection, query, "typed"), connection.execute(versions).fetchall()
    execute(postgres_url, *changes)
    after = plain_projection(connection, query, "typed")
    assert after.identity != before.identity
    if changes[0] != "ALTER TABLE typed RENAME TO old":
        assert connection.execute(versions).fetchall() == version


def test_the_identity_stays_while_rows_change(postgres_url: str, connection: psycopg.Connection) -> None:
    """Otherwise every write, or a VACUUM FULL, makes everything be read again."""
    before = plain_projection(connection, "SELECT id, s FROM item", "item").identity
    execute(postgres_url, "UPDATE item SET s = 'new' WHERE id = 3", "ALTER TABLE item ADD COLUMN more int DEFAULT 7")
    execute(postgres_url, "VACUUM FULL item", "CREATE INDEX ON item (s)")
    assert plain_projection(connection, "SELECT id, s FROM item", "item").identity == before


@pytest.mark.parametrize("version", [14_00_00, 18_00_00])
def test_the_hash_of_a_row_version_moves_with_each_update(
    postgres_url: str, connection: psycopg.Connection, version: int
) -> None:
    if connection.info.server_version < version:
        pytest.skip("a later server's function")
    query = f"SELECT id, {xmin_hash(version, 'item.xmin')} FROM item ORDER BY id"
    before: dict[int, int] = dict(connection.execute(query.encode()).fetchall())
    execute(postgres_url, "UPDATE item SET s = s WHERE id = 3")
    after: dict[int, int] = dict(connection.execute(query.encode()).fetchall())
    assert {key for key in before if before[key] != after[key]} == {3}
    assert len(set(after.values())) == 2


def test_the_settings_by_which_a_query_is_explained_end_with_that(postgres_url: str) -> None:
    """Without indexes, the questions to the catalogs about 2,500 partitions took 17 s."""
    with psycopg.connect(postgres_url) as connection:
        before = connection.execute("SELECT name, setting FROM pg_settings ORDER BY 1").fetchall()
        explain(connection, "SELECT 1 AS a")

        assert connection.execute("SELECT name, setting FROM pg_settings ORDER BY 1").fetchall() == before
