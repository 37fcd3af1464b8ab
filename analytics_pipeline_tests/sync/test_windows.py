"""Windows: keys as Dagster spells them, one rule in SQL and in Python, every row in exactly one partition."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics_pipeline.errors import UnknownPartition, UnpartitionedSelection
from analytics_pipeline.partitions import partitions_of
from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.windows import REST, ColumnKind, Geometry, Grain, WindowSql
from analytics_pipeline_tests.sync.scenario import NOW, UNPARTITIONED, asked_of, fill, job_of, published, spec_of

MICROSECOND = timedelta(microseconds=1)
GEOMETRIES = (
    ("hourly", "2024-03-30", None, datetime(2024, 4, 1, tzinfo=UTC)),
    ("daily", "2024-03-29", None, datetime(2024, 4, 2, tzinfo=UTC)),
    ("daily", "2024-03-29", "Europe/Berlin", datetime(2024, 4, 2, tzinfo=UTC)),
    ("daily", "2024-10-25", "Europe/Berlin", datetime(2024, 10, 29, tzinfo=UTC)),
    ("daily", "2018-11-02", "America/Sao_Paulo", datetime(2018, 11, 6, tzinfo=UTC)),  # 4 November has no midnight
    ("daily", "2024-11-01", "America/Havana", datetime(2024, 11, 5, tzinfo=UTC)),  # 3 November has two
    ("daily", "2011-12-28", "Pacific/Apia", datetime(2012, 1, 2, tzinfo=UTC)),  # there was no 30 December
    ("daily", "2024-02-27", "Asia/Kathmandu", datetime(2024, 3, 2, tzinfo=UTC)),
    ("weekly", "2024-03-18", "Europe/Berlin", datetime(2024, 4, 9, tzinfo=UTC)),
    ("weekly", "2024-10-21", "America/New_York", datetime(2024, 11, 12, tzinfo=UTC)),
    ("monthly", "2023-12-01", "America/New_York", datetime(2024, 4, 2, tzinfo=UTC)),
    ("monthly", "2023-12-01", None, datetime(2024, 4, 2, tzinfo=UTC)),
)
KINDS = {
    "timestamptz": (ColumnKind.TIMESTAMPTZ, "timestamptz '{utc}'"),
    "timestamp": (ColumnKind.TIMESTAMP, "timestamp '{local}'"),
    "date": (ColumnKind.DATE, "date '{local}'"),
    "s": (ColumnKind.SECONDS, "floor(extract(epoch FROM timestamptz '{utc}'))::bigint"),
    "ms": (ColumnKind.MILLISECONDS, "floor(extract(epoch FROM timestamptz '{utc}') * 1000)::bigint"),
    "us": (ColumnKind.MICROSECONDS, "floor(extract(epoch FROM timestamptz '{utc}') * 1000000)::bigint"),
}


def geometry(grain: str, start: str, timezone: str | None) -> Geometry:
    return Geometry(Grain(grain), date.fromisoformat(start), timezone or "UTC")


@pytest.mark.parametrize(("grain", "start", "timezone", "now"), GEOMETRIES)
def test_keys_and_bounds_are_those_of_dagster(grain: str, start: str, timezone: str | None, now: datetime) -> None:
    """Otherwise Dagster asks for a partition that the sync does not know, or shows rows under a wrong day."""
    spec = spec_of(partitions=grain, start=start, timezone=timezone)
    theirs, ours = partitions_of(spec), spec.geometry
    assert theirs is not None
    assert ours is not None
    hours = [now + timedelta(hours=number) for number in range(30)]
    for moment in (*hours, *(each - MICROSECOND for each in hours)):
        found = ours.windows(moment)
        assert [window.key for window in found] == theirs.get_partition_keys(current_time=moment)
    for window in ours.windows(now):
        bounds = theirs.time_window_for_partition_key(window.key)
        if window.lower < window.upper:  # Dagster gives a day that never was the window of the next one
            assert (window.lower, window.upper) == (bounds.start.astimezone(UTC), bounds.end.astimezone(UTC))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("grain", "start", "timezone", "now"), GEOMETRIES)
def test_a_row_at_a_boundary_is_in_one_window_only(
    postgres_server: str, grain: str, start: str, timezone: str | None, now: datetime, kind: str
) -> None:
    """Otherwise a row at midnight is published twice, or under one day while its fingerprint counts for another."""
    shape = geometry(grain, start, timezone)
    windows = shape.windows(now)
    column_kind, literal = KINDS[kind]
    sql = WindowSql("v", column_kind, shape, windows)
    edges = [(window.local, window.lower) for window in windows] + [(windows[-1].local_end, windows[-1].upper)]
    values = ["NULL"] + [
        literal.format(local=local + shift, utc=(utc + shift).isoformat())
        for local, utc in edges
        for shift in (-MICROSECOND, timedelta(0), MICROSECOND, timedelta(minutes=59), timedelta(hours=23))
    ]
    keys = [window.key for window in windows] + [REST]
    selected = ", ".join(f"coalesce(({sql.selecting([key])}), false)" for key in keys)
    rows = ", ".join(f"({value})" for value in values)
    with psycopg.connect(postgres_server) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f"SELECT v, {sql.bucket}, {selected} FROM (VALUES {rows}) AS t (v)".encode())
        for value, bucket, *chosen in found.fetchall():
            key = sql.bucket_keys[bucket or 0]
            assert [each for each, is_in in zip(keys, chosen, strict=True) if is_in] == [key], value


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_partitions_and_their_complement_are_all_rows(postgres_server: str, data: st.DataObject) -> None:
    """Otherwise a refresh of some partitions reads rows of others, or none at all of the rest."""
    grain, start, timezone, now = data.draw(st.sampled_from(GEOMETRIES))
    shape = geometry(grain, start, timezone)
    sql = WindowSql("v", ColumnKind.TIMESTAMPTZ, shape, shape.windows(now))
    keys = [window.key for window in sql.windows] + [REST]
    some = data.draw(st.sets(st.sampled_from(keys)))
    conditions = [sql.selecting(some) or "true", sql.selecting(set(keys) - some) or "true"]
    query = (
        f"SELECT count(*) FILTER (WHERE {conditions[0]}), count(*) FILTER (WHERE {conditions[1]}), "
        f"count(*) FILTER (WHERE ({conditions[0]}) AND ({conditions[1]})), count(*) FROM "
        f"(SELECT generate_series('{start}'::timestamptz - interval '40 days', '{now}'::timestamptz "
        f"+ interval '40 days', '30 min') AS v UNION ALL VALUES (NULL::timestamptz), ('infinity'), ('-infinity')) AS t"
    )
    ((first, second, both, total),) = asked_of(postgres_server, query)
    assert (first + second, both) == (total, 0)


@pytest.mark.parametrize("grain", ["hourly", "daily"])
def test_hours_belong_to_utc(grain: str) -> None:
    """Otherwise an hour that a zone repeats in autumn would be one partition twice."""
    given = {"partitions": grain, "timezone": "Europe/Berlin"}
    if grain == "daily":
        assert spec_of(**given).timezone == "Europe/Berlin"
        return
    with pytest.raises(ValueError, match="hourly partitions are hours of UTC: drop timezone, or use daily"):
        spec_of(**given)


@pytest.mark.parametrize(
    ("grain", "start", "says"),
    [
        ("weekly", "2024-01-03", "a Monday, such as 2024-01-01"),
        ("monthly", "2024-01-15", "the first of a month, such as 2024-01-01"),
        ("daily", "yesterday", "start is a day, such as 2026-01-01"),
        ("daily", "0001-01-01", "start is not before 1900"),
    ],
)
def test_a_start_inside_a_window_is_refused(grain: str, start: str, says: str) -> None:
    """Otherwise the first week would begin in its middle, and Dagster's keys would be others."""
    with pytest.raises(ValueError, match=says):
        spec_of(partitions=grain, start=start)


def test_an_unknown_partition_names_the_known_ones(postgres_url: str, store: Store) -> None:
    """Otherwise a typing error in --partition replaces nothing and looks like success."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    with pytest.raises(UnknownPartition, match=r"'2024-01-11'.* from 2024-01-01 to 2024-01-10"):
        job.replace(Selection(partitions=frozenset({"2024-01-11"})), now=NOW)
    with pytest.raises(UnpartitionedSelection, match="not partitioned"):
        job_of(store, postgres_url, spec_of(**UNPARTITIONED)).replace(Selection(partitions=frozenset({"x"})))


def test_a_start_in_the_future_puts_every_row_into_the_rest(postgres_url: str, store: Store) -> None:
    """Otherwise a dataset that is set up a day early fails with an IndexError."""
    fill(postgres_url)
    spec = spec_of(start="2024-02-01")
    job = job_of(store, postgres_url, spec)
    assert job.refresh(now=NOW).halves
    assert published(store, "SELECT count(*) FROM demo_dataset") == [(4,)]
    assert list(store.manifest().tables["demo_dataset"].partitions) == [REST]
    assert not job.refresh(now=NOW).halves
    with pytest.raises(UnknownPartition, match="run from 2024-02-01 to the present, which is earlier"):
        job.replace(Selection(partitions=frozenset({"2024-02-01"})), now=NOW)
    job.refresh(now=datetime(2024, 2, 1, tzinfo=UTC))
    assert list(store.manifest().tables["demo_dataset"].partitions) == ["2024-02-01", REST]


def test_a_day_that_a_zone_left_out_is_an_empty_partition(postgres_url: str, store: Store) -> None:
    """Otherwise every sync of a dataset in Samoa's time fails on 30 December 2011."""
    fill(postgres_url)
    spec = spec_of(start="2011-12-28", timezone="Pacific/Apia", dataset_query=_samoan(), results_query=_samoan())
    job_of(store, postgres_url, spec).refresh(now=datetime(2012, 1, 2, tzinfo=UTC))
    partitions = store.manifest().tables["demo_dataset"].partitions
    assert {key: part.rows for key, part in partitions.items() if part.rows} == {"2011-12-29": 1, "2011-12-31": 1}
    assert partitions["2011-12-30"].rows == 0


def _samoan() -> str:
    moments: Sequence[Any] = ("2011-12-30 09:59:59.999999+00", "2011-12-30 10:00+00")
    return " UNION ALL ".join(f"SELECT {n} AS id, timestamptz '{at}' AS created_at" for n, at in enumerate(moments))
