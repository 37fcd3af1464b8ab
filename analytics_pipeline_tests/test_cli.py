"""Commands as a user types them, each in a process of its own."""

from __future__ import annotations

import subprocess
from datetime import UTC, date, datetime, timedelta

import pytest

from analytics_pipeline_tests.workplace import SUPERSEDED, Workplace

PAIR = "monitoring_dataset,monitoring_results"
DATASETS = ("monitoring", "human_signals", "eval")
EVERYTHING = f"{PAIR},monitoring_data"
FIRST = date(2026, 10, 1)
PASSWORD = "hunter2secret"


def today() -> date:
    return datetime.now(UTC).date()


def days() -> list[str]:
    return [str(FIRST + timedelta(day)) for day in range((today() - FIRST).days + 1)]


def assert_done(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout


def warnings_in(done: subprocess.CompletedProcess[str]) -> list[str]:
    """But Dagster's own, which it prints of every command that `dg` has, too."""
    return [line for line in done.stdout.splitlines() if "Warning" in line and SUPERSEDED not in line]


def assert_refused(done: subprocess.CompletedProcess[str], workplace: Workplace, sentence: str) -> None:
    """Exit code 1, our sentence on a line of its own, and the secret in no output and no file."""
    assert done.returncode == 1, done.stdout
    assert any(line.startswith("dagster._core.definitions.events.Failure: ") for line in done.stdout.splitlines())
    assert sentence in done.stdout
    assert "The above exception was caused" not in done.stdout
    assert PASSWORD not in done.stdout
    assert workplace.holds(PASSWORD) == []


def test_a_range_replaces_every_partition_with_one_event_each(workplace: Workplace) -> None:
    done = workplace.materialize(EVERYTHING, "--partition-range", f"{FIRST}...{today()}")

    assert_done(done)
    events = workplace.events()
    for half in PAIR.split(","):
        assert sorted(str(partition) for asset, partition in events if asset == half) == days()
    assert [partition for asset, partition in events if asset == "monitoring_data"] == [None]
    assert len(events) == 2 * len(days()) + 1
    assert workplace.version() == 1, "one commit"


@pytest.mark.slow
def test_single_partitions_and_halves_can_be_replaced_once_both_are_there(workplace: Workplace) -> None:
    assert_done(workplace.materialize(EVERYTHING, "--partition", str(today())))
    assert workplace.events() == [
        ("monitoring_dataset", str(today())),
        ("monitoring_results", str(today())),
        ("monitoring_data", None),
    ]

    assert_done(workplace.materialize("monitoring_results", "--partition", str(today())))
    assert workplace.events()[3:] == [("monitoring_results", str(today()))]
    assert workplace.version() == 2

    assert_done(workplace.materialize("monitoring_data"))
    assert workplace.events()[4:] == [("monitoring_data", None)]
    assert workplace.version() == 2


def assets_of(dataset: str) -> set[str]:
    """What a refresh of a shipped dataset tells of."""
    derived = ("cases", "metric_schema") if dataset == "human_signals" else ()
    return {f"{dataset}_{table}" for table in ("dataset", "results", "data", "metadata", *derived)}


@pytest.mark.slow
def test_a_refresh_of_all_fills_an_empty_store_and_finds_nothing_the_second_time(workplace: Workplace) -> None:
    assert_done(workplace.execute("refresh_all_job"))
    first, version = workplace.events(), workplace.version()
    assert {asset for asset, _ in first} == {table for dataset in DATASETS for table in assets_of(dataset)}
    assert len(first) == len(set(first))
    assert version == 3, "one commit a dataset"

    again = workplace.execute("refresh_all_job")

    assert_done(again)
    assert again.stdout.count("nothing changed in the source, so no row was read") == 3
    assert "DEBUG" not in again.stdout
    assert warnings_in(again) == []
    assert workplace.events() == first
    assert workplace.version() == version


@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATASETS)
def test_each_dataset_has_a_refresh_job_of_its_own(workplace: Workplace, dataset: str) -> None:
    assert_done(workplace.execute(f"{dataset}_refresh_job"))

    assert {asset for asset, _ in workplace.events()} == assets_of(dataset)
    assert workplace.version() == 1


def test_the_view_before_any_sync_says_what_to_do(workplace: Workplace) -> None:
    done = workplace.materialize("monitoring_data")

    sentence = "monitoring_data does not exist yet: sync monitoring_dataset and monitoring_results first."
    assert_refused(done, workplace, sentence)
    assert workplace.events() == []


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        pytest.param(
            f"postgresql://bob:{PASSWORD}@127.0.0.1:1/db",
            "No connection to database 'db' at 127.0.0.1:1 (user 'bob')",
            marks=pytest.mark.slow,  # it is tried again for half a minute
        ),
        (f"postgresql://bob:{PASSWORD}/@127.0.0.1:1/db", "The connection string is not valid:"),
        (f"bob:{PASSWORD}", "The connection string is not valid:"),
    ],
)
def test_a_bad_source_fails_with_one_sentence_and_no_password(workplace: Workplace, url: str, sentence: str) -> None:
    workplace.environment["MONITORING_DB_URL"] = url

    assert_refused(workplace.materialize(PAIR, "--partition", str(today())), workplace, sentence)
    assert workplace.events() == []
    assert workplace.version() == 0


def test_a_missing_table_is_named_and_the_other_datasets_are_refreshed(workplace: Workplace) -> None:
    workplace.environment["MONITORING_DB_URL"] = workplace.environment["EVAL_DB_URL"]

    done = workplace.execute("refresh_all_job")

    assert_refused(done, workplace, 'relation "traces" does not exist. Correct the dataset\'s query')
    assert {asset.partition("_")[0] for asset, _ in workplace.events()} == {"human", "eval"}


def test_a_partition_that_does_not_exist_is_refused_before_anything_runs(workplace: Workplace) -> None:
    done = workplace.materialize(PAIR, "--partition", "2026-09-30")

    assert done.returncode == 1
    assert "2026-09-30" in done.stdout
    assert workplace.version() == 0


def test_the_definitions_validate_without_repeating_a_secret(workplace: Workplace) -> None:
    workplace.environment["MONITORING_DB_URL"] = f"postgresql://bob:{PASSWORD}@db.example.com/db"

    done = workplace.dagster("definitions", "validate", "-w", "workspace.yaml")

    assert_done(done)
    assert "Validation successful for code location analytics_pipeline." in done.stdout
    assert warnings_in(done) == []
    assert PASSWORD not in done.stdout


@pytest.mark.slow
def test_a_dataset_without_a_source_costs_one_line(workplace: Workplace) -> None:
    del workplace.environment["EVAL_DB_URL"]

    done = workplace.execute("refresh_all_job")

    assert_done(done)
    assert done.stdout.count("EVAL_DB_URL") == 1
    assert "Dataset eval is disabled: EVAL_DB_URL is not set." in done.stdout
    assert not [asset for asset, _ in workplace.events() if asset.startswith("eval")]
