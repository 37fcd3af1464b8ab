"""What the jobs of a dataset do besides syncing: status, checks, and failing at once where trying again is no use."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster import DagsterEventType

from analytics_pipeline.components.all_datasets import all_datasets
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.store import Store
from analytics_pipeline.sync.status import State, read_status
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import DAYS, ORDERS, keys, materialize, partitions, spec
from analytics_pipeline_tests.sync.test_fingerprint_kinds import publish_another_checksum
from analytics_pipeline_tests.thinning import thinned

JOBS = ["orders_refresh_job", "orders_rebuild_job", "orders_audit_job", "refresh_all_job", "audit_job"]
PAIR = ["orders_dataset", "orders_results"]
PATIENT = dg.RetryPolicy(max_retries=2)
"""As a user may set it for all jobs."""


def everything(**changes: object) -> dg.Definitions:
    code = scenario.definitions(spec(**changes))
    return dg.Definitions.merge(code, all_datasets(code))


def run(code: dg.Definitions, instance: dg.DagsterInstance, job: str) -> dg.ExecuteInProcessResult:
    return code.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def messages(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id)]


@pytest.mark.parametrize("job", thinned(JOBS, 3))
def test_the_status_names_the_run(orders_url: str, store: Store, instance: dg.DagsterInstance, job: str) -> None:
    """Otherwise nobody finds the log of what is going on."""
    result = run(everything(), instance, job)

    assert result.success
    assert read_status(store, spec()).run_id == result.run_id


def test_the_status_names_the_run_of_a_materialisation(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    result = materialize(everything(), instance, PAIR, partition=str(DAYS[1]))

    assert read_status(store, spec()).run_id == result.run_id


def test_every_check_is_evaluated_once_a_run(orders_url: str, store: Store, instance: dg.DagsterInstance) -> None:
    result = run(everything(), instance, "orders_refresh_job")

    evaluations = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    found = Counter((each.asset_key.to_user_string(), each.check_name) for each in evaluations)
    assert len(found) == 9
    assert set(found.values()) == {1}


def test_the_audit_of_the_night_finds_what_row_versions_do_not_show(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    code = everything(fingerprint="xmin", source_table={"dataset": "orders", "results": "reviews"})
    assert run(code, instance, "orders_refresh_job").success
    key = str(DAYS[1])
    publish_another_checksum(store, "orders_results", key)
    assert run(code, instance, "orders_refresh_job").success
    assert partitions(instance, "orders_results") == keys(), "it looks unchanged"

    result = run(code, instance, "audit_job")

    assert result.success
    assert partitions(instance, "orders_results")[len(keys()) :] == [key]
    told = [
        message for message in messages(instance, result.run_id) if "equals_source of orders_results fails" in message
    ]
    assert len(told) == 1
    assert f"1 partitions had changed without new row versions: {key}." in told[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset_query": ORDERS.replace("orders", "no_such_table")}, 'relation "no_such_table" does not exist'),
        ({"dataset_query": ORDERS.replace("city", "no_such_column AS city")}, 'column "no_such_column" does not exist'),
        (
            {"dataset_query": ORDERS.replace("city", "random() AS city")},
            "two reads of one snapshot gave different rows",
        ),
        ({"incremental_column": "city"}, "the incremental column 'city' is"),
    ],
)
def test_what_cannot_pass_fails_at_once_in_one_sentence(
    orders_url: str, store: Store, instance: dg.DagsterInstance, changes: dict[str, object], sentence: str
) -> None:
    """Otherwise a typo costs minutes of pauses, and a log in which the reason is lost."""
    job = everything(**changes).resolve_job_def("orders_refresh_job").graph.to_job(op_retry_policy=PATIENT)

    assert_fails_at_once(job, instance, store, sentence)


def test_a_wrong_password_fails_at_once(
    orders_url: str, store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three more attempts would lock the account."""
    folder = Path(orders_url.split("host=")[1].split("&", maxsplit=1)[0])
    rules = folder / "pg_hba.conf"
    before = rules.read_text()
    job = everything().resolve_job_def("orders_refresh_job").graph.to_job(op_retry_policy=PATIENT)
    with psycopg.connect(orders_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        try:
            rules.write_text("local all guarded scram-sha-256\n" + before)
            connection.execute("SELECT pg_reload_conf()")
            monkeypatch.setenv(scenario.URL, f"postgresql://guarded:wrong-secret@/postgres?host={folder}")
            assert_fails_at_once(job, instance, store, "'guarded'")
        finally:
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP ROLE guarded")


def assert_fails_at_once(job: dg.JobDefinition, instance: dg.DagsterInstance, store: Store, sentence: str) -> None:
    result = job.execute_in_process(
        instance=instance, resources={"analytics": AnalyticsResource()}, raise_on_error=False
    )

    kinds = Counter(event.event_type for event in result.all_events)
    assert not result.success
    assert kinds[DagsterEventType.STEP_FAILURE] == 1
    assert kinds[DagsterEventType.STEP_UP_FOR_RETRY] == 0
    said = messages(instance, result.run_id)
    assert not [message for message in said if "trying again" in message]
    assert not [message for message in said if "wrong-secret" in message]
    [failure] = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert failure is not None
    assert sentence in failure.message
    assert failure.cause is None
    status = read_status(store, spec())
    assert (status.state, status.run_id) == (State.ERROR, result.run_id)
    assert sentence in (status.message or "")


def test_a_tag_of_the_run_allows_a_removal_once(orders_url: str, store: Store, instance: dg.DagsterInstance) -> None:
    """A person says so for one run; the next one stops again."""
    code = everything()
    job = code.resolve_job_def("orders_refresh_job")
    assert run(code, instance, job.name).success
    scenario.change_source(orders_url, "TRUNCATE orders, reviews")

    refused = run(code, instance, job.name)
    reason = read_status(store, spec()).message
    allowed = job.execute_in_process(instance=instance, tags={"analytics_pipeline/allow": "removal"})

    assert not refused.success
    assert "4 of 4 rows of orders_dataset" in str(reason)
    assert allowed.success
    assert store.manifest().tables["orders_dataset"].rows == 0
