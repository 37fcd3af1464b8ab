"""The limit of rows: the newest whole partitions, no result without its record, nothing left out for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from analytics_pipeline.errors import RowLimitTooSmall
from analytics_pipeline.store import Store, create_store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.spec import Half
from analytics_pipeline.sync.status import read_status
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import (
    NOW,
    PAIR,
    ROW_VERSIONS,
    UNPARTITIONED,
    content,
    job_of,
    published,
    spec_of,
)

LAST_DAY = 10
"""Of January 2024, as in `NOW`."""

DAYS = range(1, LAST_DAY + 1)
KINDS = pytest.mark.parametrize("kind", [{}, ROW_VERSIONS], ids=["checksum", "xmin"])


class Dated(NamedTuple):
    """A record or a result: the record's id and its day; None without a time."""

    id: int
    day: int | None


def insert(url: str, table: str, rows: Iterable[Dated]) -> None:
    moments = ((row.id, "NULL" if row.day is None else f"'2024-01-{row.day:02} 10:00+00'") for row in rows)
    execute(url, *(f"INSERT INTO {table} VALUES ({key}, {moment}, 'm')" for key, moment in moments))


def kept(store: Store, table: str) -> Counter[Dated]:
    rows = published(store, f"SELECT dataset_id, day(timestamp) FROM {table}")
    return Counter(Dated(*row) for row in rows)


def newest(rows: Iterable[Dated], limit: int) -> Counter[Dated]:
    """The newest days that have no more than so many rows together; rows without a time come last."""
    days: Mapping[int | None, list[Dated]] = {day: [row for row in rows if row.day == day] for day in (*DAYS, None)}
    found: Counter[Dated] = Counter()
    for day in (*reversed(DAYS), None):
        if found.total() + len(days[day]) > limit:
            break
        found.update(days[day])
    return found


def mirrored(records: list[Dated], results: list[Dated], limit: int) -> tuple[Counter[Dated], Counter[Dated]]:
    """What the store should hold."""
    fitting = newest(records, limit)
    if fitting.total() == len(records):
        return fitting, newest(results, limit)
    ids = {row.id for row in fitting}
    days = sorted({row.day for row in records if row not in fitting and row.day is not None})
    oldest = days[-1] + 1 if days else 1
    within = newest([row for row in results if row.id in ids], limit)
    return fitting, Counter({row: n for row, n in within.items() if row.day is not None and row.day >= oldest})


def fill(url: str) -> None:
    """Two records a day on five days; each has a result on its own day, and one two days later."""
    execute(url, *PAIR)
    records = [Dated(10 * day + number, day) for day in range(1, 6) for number in range(2)]
    insert(url, "records", records)
    insert(url, "scores", [Dated(row.id, (row.day or 0) + late) for row in records for late in (0, 2)])


@KINDS
def test_A2_the_newest_whole_partitions_are_kept_and_no_result_without_its_record(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store, kind: dict[str, Any]
) -> None:
    """A cap that cuts anywhere leaves days half there, and results of nothing."""
    fill(postgres_url)
    spec = spec_of(max_sync_rows=7, **kind)
    told: list[str] = []
    outcome = job_of(store, postgres_url, spec, log=told.append).refresh(now=NOW)
    assert {row.day for row in kept(store, "demo_dataset")} == {3, 4, 5}
    assert {row.id for row in kept(store, "demo_results")} == {40, 41, 50, 51}
    assert published(store, "SELECT count(*) FROM demo_data")[0][0] == kept(store, "demo_results").total() == 4
    assert [line for line in told if "max_sync_rows (7) leaves out" in line]
    assert read_status(store, spec).truncated
    assert outcome.halves[Half.DATASET].partitions.keys() == {f"2024-01-{day:02}" for day in range(3, LAST_DAY + 1)}
    assert all(check.passed for check in outcome.checks)


@KINDS
def test_a_raised_limit_fetches_what_was_left_out_and_nothing_else(
    postgres_url: str, store: Store, kind: dict[str, Any]
) -> None:
    """Partitions that were left out look published: nobody would ever read them."""
    fill(postgres_url)
    job_of(store, postgres_url, spec_of(max_sync_rows=7, **kind)).refresh(now=NOW)
    wider = spec_of(max_sync_rows=100, **kind)
    outcome = job_of(store, postgres_url, wider).refresh(now=NOW)
    assert kept(store, "demo_dataset").total() == 10
    assert kept(store, "demo_results").total() == 20
    assert outcome.halves[Half.DATASET].partitions == {"2024-01-01": 2, "2024-01-02": 2, "_rest": 0}
    assert not read_status(store, wider).truncated


@KINDS
def test_new_rows_push_out_the_oldest_partitions_and_their_results(
    postgres_url: str, store: Store, kind: dict[str, Any]
) -> None:
    """Otherwise the store grows past its limit, day by day."""
    fill(postgres_url)
    spec = spec_of(max_sync_rows=7, **kind)
    job = job_of(store, postgres_url, spec)
    job.refresh(now=NOW)
    insert(postgres_url, "records", [Dated(90, 9), Dated(91, 9)])
    job.refresh(now=NOW)
    assert {row.day for row in kept(store, "demo_dataset")} == {4, 5, 9}
    assert {row.id for row in kept(store, "demo_results")} == {40, 41, 50, 51}
    version = store.manifest().version
    assert not job.refresh(now=NOW).halves
    assert not job.audit(now=NOW).halves
    assert store.manifest().version == version


def test_a_partition_larger_than_the_limit_is_an_error_that_changes_nothing(postgres_url: str, store: Store) -> None:
    """An empty store would look like an empty source."""
    fill(postgres_url)
    job_of(store, postgres_url, spec_of()).refresh(now=NOW)
    before = content(store)
    with pytest.raises(RowLimitTooSmall, match=r"2024-01-05, has 2 .* max_sync_rows \(1\)"):
        job_of(store, postgres_url, spec_of(max_sync_rows=1)).refresh(now=NOW)
    assert content(store) == before


def test_a_limit_without_partitions_is_refused() -> None:
    """It could only keep all rows, or none."""
    with pytest.raises(ValidationError, match="max_sync_rows only mean something together with incremental_column"):
        spec_of(max_sync_rows=5, **UNPARTITIONED)


def test_what_is_selected_stays_within_the_limit(postgres_url: str, store: Store) -> None:
    """Somebody's click would bring results back whose records are left out."""
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(max_sync_rows=7))
    job.refresh(now=NOW)
    before = kept(store, "demo_dataset"), kept(store, "demo_results")
    for halves in ({Half.RESULTS}, {Half.DATASET}, set(Half)):
        job.replace(Selection(frozenset(halves), frozenset({"2024-01-02", "2024-01-05"})), now=NOW)
        assert (kept(store, "demo_dataset"), kept(store, "demo_results")) == before
        job.replace(Selection(frozenset(halves)), now=NOW)
        assert (kept(store, "demo_dataset"), kept(store, "demo_results")) == before


rows = st.lists(st.builds(Dated, st.integers(1, 6), st.none() | st.sampled_from(DAYS)), max_size=8)


@pytest.mark.parametrize(
    "kind", [pytest.param({}, id="checksum"), pytest.param(ROW_VERSIONS, id="xmin", marks=pytest.mark.slow)]
)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(steps=st.lists(st.tuples(rows, rows, st.integers(1, 20)), min_size=2, max_size=4))
def test_whatever_comes_the_store_holds_what_fits(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, kind: dict[str, Any], steps: list[Any]
) -> None:
    """Against a computation of its own, over refreshes, audits and rebuilds with changing limits."""
    execute(postgres_url, "DROP TABLE IF EXISTS records, scores", *PAIR)
    store = create_store(Path(tmp_path_factory.mktemp("limit")) / "store")
    records: list[Dated] = []
    results: list[Dated] = []
    for number, (more_records, more_results, limit) in enumerate(steps):
        insert(postgres_url, "records", more_records)
        insert(postgres_url, "scores", more_results)
        records += more_records
        results += more_results
        job = replace(job_of(store, postgres_url, spec_of(max_sync_rows=limit, **kind)), rows_per_step=1)
        verb = (job.refresh, job.audit, job.rebuild)[number % 3]
        wanted = mirrored(records, results, limit)
        try:
            verb(now=NOW)
        except RowLimitTooSmall:
            assert (records and not wanted[0]) or not wanted[1]
            return
        assert (kept(store, "demo_dataset"), kept(store, "demo_results")) == wanted
    store.close()
