"""A query gives what it gives under the role's own settings; ours change nothing of it, and it nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.store import Store
from analytics_pipeline.sync.fingerprint import grouped_query, row_hash
from analytics_pipeline.sync.postgres.intervals import INTERVAL_TEXT
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.postgres.role_settings import SETTINGS_OF_VALUES
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline_tests.sync.postgres_reading import execute, read, rules_of
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, published, spec_of

ODD: Mapping[str, str] = {
    "TimeZone": "America/New_York",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "extra_float_digits": "0",
    "bytea_output": "escape",
}
STYLES = (ODD, {**ODD, "DateStyle": "SQL, DMY"}, {**ODD, "DateStyle": "Postgres, MDY"})
EVENTS = (
    "CREATE TABLE events (id int, created_at timestamptz, local_at timestamp, day text)",
    "INSERT INTO events VALUES (1, '2024-01-03 02:00+00', '2024-01-02 21:00', '03/04/05')",
)
VALUES = """
SELECT n AS id, t, t::timestamp AS local, t::date AS day, t::time AS clock, t::timetz AS zoned, f, f::real AS small,
       b, i, 1.50::numeric AS exact, 7::bigint AS big, 'a' AS word, ARRAY[t] AS ts, ARRAY[f, -0.0, 'NaN'] AS fs,
       ARRAY[b] AS bs, ARRAY[i] AS i_s, ARRAY[t::date] AS days, ARRAY[t::timestamp] AS locals
FROM (SELECT n, timestamptz '2024-01-01 00:00+00' + n * interval '5 hours' AS t, n / 3.0::float8 AS f,
             decode('00ff41', 'hex') AS b, n * interval '1 month -3 days 04:05:06.789' AS i
      FROM generate_series(-3, 3) AS n) AS v
"""


def under(url: str, settings: Mapping[str, str]) -> str:
    """The URL of sessions with these settings."""
    escaped = {name: value.replace(" ", "\\ ") for name, value in settings.items()}
    options = " ".join(f"-c {name}={value}" for name, value in escaped.items())
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


def always(url: str, settings: Mapping[str, str]) -> None:
    """Every further session of the database has these settings."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        for setting, value in settings.items():
            connection.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())


def hashes_of(url: str, query: str) -> list[tuple[object, ...]]:
    """The sum that a fingerprint of the query's rows is made of, and its number of rows."""
    connection = connect(SecretStr(url))
    try:
        return connection.execute(grouped_query(query, "1", [row_hash(rules_of(url, query))]).encode()).fetchall()
    finally:
        connection.close()


def test_a_query_gives_what_psql_gives_under_the_roles_own_settings(postgres_url: str, store: Store) -> None:
    """Otherwise a cast from text or to a time zone gives other values in the store than everywhere else."""
    execute(postgres_url, *EVENTS)
    always(postgres_url, ODD)
    query = (
        "SELECT id, created_at, local_at::timestamptz AS instant, created_at::date AS day, day::date AS typed, "
        "created_at::text AS printed FROM events"
    )
    job_of(store, postgres_url, spec_of(dataset_query=query, results_query=query)).refresh(now=NOW)
    shown = "extract(epoch FROM instant)::bigint, to_char(day, 'YYYY-MM-DD'), to_char(typed, 'YYYY-MM-DD'), printed"
    with psycopg.connect(postgres_url) as psql:
        expected = psql.execute(f"SELECT {shown} FROM ({query}) AS q".encode()).fetchall()
    stored = "epoch(instant)::BIGINT, day::VARCHAR, typed::VARCHAR, printed"
    assert published(store, f"SELECT {stored} FROM demo_dataset") == expected


def test_a_row_lies_in_the_day_of_the_specs_zone_whatever_the_sessions_zone_is(postgres_url: str, store: Store) -> None:
    """Otherwise a partition holds rows of another day than its name says."""
    execute(postgres_url, *EVENTS)
    always(postgres_url, ODD)
    query = "SELECT id, local_at::timestamptz AS created_at FROM events"
    job_of(store, postgres_url, spec_of(dataset_query=query, results_query=query)).refresh(now=NOW)
    partitions = store.manifest().tables["demo_dataset"].partitions
    assert {key for key, partition in partitions.items() if partition.files} == {"2024-01-03"}


@pytest.mark.parametrize("tier", Tier)
def test_no_setting_of_a_role_changes_what_is_stored_of_a_value(postgres_url: str, tier: Tier) -> None:
    """Otherwise the store's texts follow whoever reads, and numbers lose digits."""
    execute(postgres_url, f"CREATE TABLE v AS {VALUES}")
    usual = under(postgres_url, {"TimeZone": "UTC"})
    expected = read(usual, "SELECT * FROM v", tier, partition_column="t").sort_by("id")
    for settings in STYLES:
        found = read(under(postgres_url, settings), "SELECT * FROM v", tier, partition_column="t").sort_by("id")
        assert repr(found.to_pylist()) == repr(expected.to_pylist()), settings


def test_no_setting_of_a_role_changes_the_hash_of_a_value(postgres_url: str) -> None:
    """Otherwise two values that print alike under some setting hide an update, and a change of it reads all again."""
    execute(postgres_url, f"CREATE TABLE v AS {VALUES}")
    usual = hashes_of(under(postgres_url, {"TimeZone": "UTC"}), "SELECT * FROM v")
    for settings in STYLES:
        assert hashes_of(under(postgres_url, settings), "SELECT * FROM v") == usual, settings


def test_floats_in_arrays_that_print_alike_have_different_hashes(postgres_url: str) -> None:
    """Otherwise an update in the last digit never arrives under extra_float_digits = 0."""
    url = under(postgres_url, {"extra_float_digits": "0"})
    one, other = (hashes_of(url, f"SELECT ARRAY[{x}::float8] AS a") for x in ("0.1", "0.10000000000000002"))
    assert one != other


def test_an_interval_prints_in_style_postgres_without_plus_under_any_style(postgres_url: str) -> None:
    """Otherwise what is stored cannot be cast back, or is another interval."""
    text = INTERVAL_TEXT.replace("{v}", "i")
    rows = (
        "SELECT make_interval(years, months, 0, days, 0, 0, secs) AS i FROM "
        "unnest(ARRAY[0, 1, -1, 3]) AS years, unnest(ARRAY[0, 1, -2]) AS months, unnest(ARRAY[0, 1, -1, 40]) AS days, "
        "unnest(ARRAY[0, 1, -1, 0.000001, -0.5, 59.999999, 3661.25, -90000, 999999999]) AS secs "
        "UNION ALL SELECT NULL UNION ALL SELECT interval '178000000 years' UNION ALL SELECT interval '-178000000 years'"
    )
    with psycopg.connect(postgres_url) as connection:
        expected = connection.execute(f"SELECT replace(i::text, '+', '') FROM ({rows}) AS v".encode()).fetchall()
        for style in ("postgres", "postgres_verbose", "sql_standard", "iso_8601"):
            connection.execute(f"SET IntervalStyle = '{style}'".encode())
            assert connection.execute(f"SELECT {text} FROM ({rows}) AS v".encode()).fetchall() == expected


@pytest.mark.parametrize("fingerprint", ["checksum", "xmin"])
def test_a_change_of_the_roles_time_zone_reads_again(postgres_url: str, store: Store, fingerprint: str) -> None:
    """Otherwise the store keeps what was printed in the former zone, though nothing was written."""
    execute(
        postgres_url,
        "CREATE TABLE records (id int, created_at timestamptz, span tstzrange)",
        "INSERT INTO records VALUES (1, '2024-01-03 00:00+00', '[2024-01-03 00:00+00, 2024-01-04 00:00+00)')",
    )
    tables = {"dataset": "records", "results": "records"}
    job = job_of(
        store,
        postgres_url,
        spec_of(
            results_query="SELECT * FROM records",
            fingerprint=fingerprint,
            source_table=tables if fingerprint == "xmin" else None,
        ),
    )
    job.refresh(now=NOW)
    always(postgres_url, {"TimeZone": "America/New_York"})
    assert not job.is_unchanged(now=NOW)
    job.refresh(now=NOW)
    with psycopg.connect(postgres_url) as psql:
        expected = psql.execute("SELECT span::text FROM records").fetchall()
    assert "-05" in str(expected)
    assert published(store, "SELECT span FROM demo_dataset") == expected


def test_no_setting_that_changes_a_query_is_pinned(postgres_url: str) -> None:
    """Otherwise the next one that is added changes values without anybody's notice."""
    ours = connect(SecretStr(under(postgres_url, ODD)))
    shown = "SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name"
    try:
        changed = {row[0] for row in ours.execute(shown.encode()).fetchall()}
    finally:
        ours.close()
    assert "statement_timeout" in changed
    assert changed & SETTINGS_OF_VALUES == set()


def test_an_upgrade_of_these_rules_reads_nothing_again_under_usual_settings(postgres_url: str, store: Store) -> None:
    """The identity of common types is what it was: their SQL only names the schema of each built-in now."""
    fill(postgres_url)
    job_of(store, postgres_url).refresh(now=NOW)
    tables = store.manifest().tables
    known = {name: {p.spec_hash for p in table.partitions.values()} for name, table in tables.items()}
    always(postgres_url, {"DateStyle": "ISO, MDY", "TimeZone": "UTC"})
    job_of(store, postgres_url).refresh(now=NOW)
    assert known == {
        name: {p.spec_hash for p in table.partitions.values()} for name, table in store.manifest().tables.items()
    }
