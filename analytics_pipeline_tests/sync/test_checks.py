"""What the checks of a dataset say: which partitions, and how many rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from analytics_pipeline.store import Store
from analytics_pipeline.sync.checks import Check, CheckResult, no_orphan_results
from analytics_pipeline.sync.metadata import stored_orphans
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, ROW_VERSIONS, UNPARTITIONED, fill, job_of, spec_of


def orphan_check(checks: Sequence[CheckResult]) -> CheckResult:
    [found] = [check for check in checks if check.name is Check.NO_ORPHAN_RESULTS]
    return found


def test_results_without_a_record_are_named_by_partition(postgres_url: str, store: Store) -> None:
    """Otherwise nobody knows where in years of results to look."""
    fill(postgres_url)
    execute(postgres_url, "DELETE FROM records WHERE id IN (1, 3)")
    job = job_of(store, postgres_url)

    first = orphan_check(job.refresh(now=NOW).checks)
    execute(postgres_url, "INSERT INTO records VALUES (3, '2024-01-05 12:00+00', 'c')")
    second = orphan_check(job.refresh(now=NOW).checks)

    said = "3 of 5 results have no dataset row: 2024-01-02 (2), 2024-01-05 (1); an inner join leaves them out of"
    assert first.description.startswith(said)
    assert (first.passed, first.severity, first.numbers) == (False, "warn", {"orphans": 3})
    assert "2 of 5 results have no dataset row: 2024-01-02 (2);" in second.description
    assert orphan_check(job.check(now=NOW)) == second, "by hand as by a refresh"
    execute(postgres_url, "INSERT INTO records VALUES (1, '2024-01-01', 'a')")
    assert orphan_check(job.refresh(now=NOW).checks).description == "Each of 5 results has its dataset row."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"2024-01-02": 2, "2024-01-05": 1, "_rest": 1}),
        (ROW_VERSIONS, {"2024-01-02": 2, "2024-01-05": 1, "_rest": 1}),
        ({"start": "2023-10-01"}, {"2024-01-01 … 2024-01-02": 2, "2024-01-05 … 2024-01-06": 1, "_rest": 1}),
    ],
    ids=["checksum", "xmin", "many"],
)
def test_orphans_are_kept_by_partition_or_by_a_run_of_many(
    postgres_url: str, store: Store, changes: dict[str, object], expected: dict[str, int]
) -> None:
    fill(postgres_url)
    execute(
        postgres_url, "DELETE FROM records WHERE id IN (1, 3)", "INSERT INTO scores VALUES (NULL, '2030-01-01', 'm', 1)"
    )
    spec = spec_of(**changes)

    job_of(store, postgres_url, spec).refresh(now=NOW)

    assert stored_orphans(store.manifest(), spec) == expected


def test_orphans_of_a_dataset_without_partitions_are_counted_in_one(postgres_url: str, store: Store) -> None:
    fill(postgres_url)
    execute(postgres_url, "DELETE FROM records WHERE id IN (1, 3)")
    spec = spec_of(**UNPARTITIONED)

    job_of(store, postgres_url, spec).refresh(now=NOW)

    assert [*stored_orphans(store.manifest(), spec).values()] == [3]


def test_an_audit_blames_row_versions_alone_for_what_they_did_not_show(postgres_url: str, store: Store) -> None:
    """A change that the dataset's own fingerprint shows is an ordinary one, although the audit came first."""
    fill(postgres_url)
    job = job_of(store, postgres_url)
    job.refresh(now=NOW)
    execute(postgres_url, "UPDATE records SET model = 'z' WHERE id = 1")
    found = [check.passed for check in job.audit(now=NOW).checks if check.name is Check.EQUALS_SOURCE]
    assert found == [True, True]


def test_a_sentence_names_ten_partitions_and_counts_the_others() -> None:
    """A source that lost its records would otherwise fill the event log with every day of years."""
    check = no_orphan_results("demo_data", 12_000, 20_000, {f"2024-01-{day:02}": 1_000 for day in range(1, 13)})

    assert "2024-01-09 (1,000), 2024-01-10 (1,000) and 2 more; an inner join" in check.description
    assert "2024-01-11" not in check.description
