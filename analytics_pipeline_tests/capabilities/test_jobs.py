"""Jobs: runs made elsewhere end up in the store that the client named."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.capabilities import AnalyticsStoreConfig, build_store
from analytics_pipeline.capabilities.jobs import configure_job_backend, shutdown_job_backend, submit
from analytics_pipeline.errors import (
    JobBackendMissing,
    JobBackendUnknown,
    JobFailed,
    JobRefused,
    ProvenanceRefused,
    StoreConfigInvalid,
)
from analytics_pipeline_tests.capabilities.jobs import PlaceRun, die, exit_with, fail_with, leave, make_known
from analytics_pipeline_tests.capabilities.outputs import RUNS

PATIENCE = 120
SECRET = 'hunter2"\\n'


@pytest.fixture
def config(tmp_path: Path) -> Mapping[str, Any]:
    return {"backend": "parquet", "uri": str(tmp_path / "store"), "storage_options": {"client": {"secret": SECRET}}}


@pytest.fixture(autouse=True)
def _no_backend_is_left() -> Iterator[None]:
    yield
    shutdown_job_backend()


@pytest.fixture(params=["local", "subprocess"])
def kind(request: pytest.FixtureRequest, config: Mapping[str, Any]) -> str:
    """A backend of each kind, configured."""
    chosen: str = request.param
    configure_job_backend(chosen, analytics_store=config)
    return chosen


def rows(config: Mapping[str, Any], sql: str) -> list[tuple[Any, ...]]:
    return build_store(config).query_sql(sql).rows()


def test_a_jobs_run_is_in_the_store_with_its_provenance(kind: str, config: Mapping[str, Any]) -> None:
    before = datetime.now(UTC)
    job = submit(make_known, "maite_evaluation", provenance={"user_id": "ada", "environment": "test"})

    result = job.result(PATIENCE)

    assert result.job_id == job.job_id
    assert result.store_uri is not None
    assert Path(result.store_uri).is_file()
    assert rows(config, "SELECT DISTINCT run_uid FROM maite_evaluation") == [(result.run_uid,)]
    entities = rows(config, "SELECT entity_type, entity_id FROM runs ORDER BY ALL")
    assert entities == [
        ("dataset", "cifar10"),
        ("metric", "map"),
        ("metric", "precision"),
        ("model", "resnet50"),
    ]
    told = rows(config, "SELECT DISTINCT user_id, environment, job_id, backend, run_event_id FROM runs")
    assert told == [("ada", "test", job.job_id, kind, job.job_id)]
    ((submitted, completed),) = rows(config, "SELECT DISTINCT submitted_at, completed_at FROM runs")
    assert before <= submitted <= completed <= datetime.now(UTC)


@pytest.mark.usefixtures("kind")
def test_a_run_that_is_there_is_found_and_not_stored_again(config: Mapping[str, Any]) -> None:
    first, second = (submit(make_known, "dataeval_bias").result(PATIENCE) for _ in range(2))

    assert first.run_uid == second.run_uid
    assert first.store_uri == second.store_uri
    assert rows(config, "SELECT count(*) FROM dataeval_bias") == [(1,)]
    assert len(rows(config, "SELECT DISTINCT job_id FROM runs")) == 2, "each job is an event of the run"


@pytest.mark.usefixtures("kind")
def test_a_run_without_rows_is_no_failure() -> None:
    result = submit(PlaceRun, "empty", empty=True).result(PATIENCE)

    assert (result.run_uid, result.store_uri) == ("empty", None)


@pytest.mark.usefixtures("kind")
def test_a_failed_job_names_itself_and_says_where() -> None:
    job = submit(fail_with, "no such model")

    with pytest.raises(JobFailed, match=rf"Job {job.job_id} failed: ValueError: no such model") as failed:
        job.result(PATIENCE)
    assert failed.value.job_id == job.job_id
    assert "in fail_with" in failed.value.__notes__[0]


@pytest.mark.usefixtures("kind")
def test_a_job_that_calls_exit_fails_alone() -> None:
    """Programs that are called as functions do so; whoever submits goes on."""
    job = submit(exit_with, "bad arguments")

    with pytest.raises(JobFailed, match=rf"Job {job.job_id} failed: SystemExit: bad arguments"):
        job.result(PATIENCE)


def everything_of(error: BaseException) -> str:
    """All that a traceback or a log could ever show of an error."""
    chained = [link for link in (error.__cause__, error.__context__) if link]
    return " ".join([str(error), repr(error), *getattr(error, "__notes__", []), *map(everything_of, chained)])


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("leaky", [SECRET, repr(SECRET), f"https://x/?key={SECRET}&more", repr({"a": SECRET})])
def test_no_secret_of_the_store_is_in_an_error_or_a_log(
    leaky: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries of object stores like to repeat what they were given."""
    with caplog.at_level(logging.DEBUG), pytest.raises(JobFailed) as failed:
        submit(fail_with, leaky).result(PATIENCE)

    printed = capfd.readouterr()
    assert "hunter2" not in everything_of(failed.value) + caplog.text + printed.out + printed.err


@pytest.mark.parametrize(
    ("ending", "words"),
    [((die,), "was killed by SIGKILL"), ((leave, 7), "ended with code 7")],
)
def test_the_death_of_a_worker_is_the_end_of_its_job_alone(
    config: Mapping[str, Any], ending: tuple[Any, ...], words: str
) -> None:
    configure_job_backend("subprocess", analytics_store=config)
    dying, living = submit(*ending), submit(PlaceRun, "alive")

    with pytest.raises(JobFailed, match=rf"Job {dying.job_id} failed: its process {words}"):
        dying.result(PATIENCE)
    assert living.result(PATIENCE).run_uid == "alive"


def test_subprocess_jobs_run_elsewhere_and_local_ones_here(config: Mapping[str, Any]) -> None:
    configure_job_backend("subprocess", analytics_store=config)
    jobs = [submit(PlaceRun, f"run-{number}") for number in range(3)]
    configure_job_backend("local", analytics_store=config)
    submit(PlaceRun, "here")
    for job in jobs:
        job.result(PATIENCE)

    processes = dict(rows(config, "SELECT run_uid, process FROM place"))
    assert processes.pop("here") == os.getpid()
    assert os.getpid() not in processes.values()
    assert len(set(processes.values())) == 3


def test_shutting_down_waits_for_what_was_submitted(config: Mapping[str, Any]) -> None:
    configure_job_backend("subprocess", analytics_store=config)
    for number in range(3):
        submit(PlaceRun, f"run-{number}")

    shutdown_job_backend()

    assert rows(config, "SELECT count(*) FROM place") == [(3,)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capability-job")]


def test_a_call_that_no_process_could_be_sent_is_refused_at_once(config: Mapping[str, Any]) -> None:
    configure_job_backend("subprocess", analytics_store=config)

    with pytest.raises(JobRefused, match=r"<lambda> and its arguments cannot be sent to another process"):
        submit(lambda: PlaceRun("never"))
    with pytest.raises(JobRefused, match=r"PlaceRun and its arguments"):
        submit(PlaceRun, threading.Lock())


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    config = AnalyticsStoreConfig(uri="nowhere")

    with pytest.raises(JobBackendUnknown, match=r"'slurm' is unknown\. Kinds: local, subprocess"):
        configure_job_backend("slurm", analytics_store=config)
    with pytest.raises(JobBackendUnknown, match=r"'ray' is not there yet\. Kinds: local, subprocess"):
        configure_job_backend("ray", analytics_store=config)
    with pytest.raises(ValueError, match="Kinds"):
        configure_job_backend("", analytics_store=config)


def test_without_a_backend_nothing_is_submitted(config: Mapping[str, Any]) -> None:
    with pytest.raises(JobBackendMissing, match="configure_job_backend"):
        submit(PlaceRun, "never")

    configure_job_backend("local", analytics_store=config)
    shutdown_job_backend()
    shutdown_job_backend()
    with pytest.raises(JobBackendMissing):
        submit(PlaceRun, "never")


def test_a_store_that_cannot_be_is_refused_when_it_is_configured() -> None:
    with pytest.raises(StoreConfigInvalid, match="password") as refused:
        configure_job_backend("local", analytics_store={"password": SECRET, "uri": "x"})
    assert "hunter2" not in everything_of(refused.value)


def test_a_refused_configuration_leaves_the_one_before(config: Mapping[str, Any]) -> None:
    configure_job_backend("local", analytics_store=config)
    with pytest.raises(JobBackendUnknown):
        configure_job_backend("slurm", analytics_store=config)

    assert submit(PlaceRun, "stored").result().store_uri


def test_provenance_is_checked_before_anything_runs(config: Mapping[str, Any]) -> None:
    configure_job_backend("local", analytics_store=config)

    with pytest.raises(ProvenanceRefused, match="user"):
        submit(die, provenance={"user": "ada"})


def test_every_table_can_be_filled_by_jobs(config: Mapping[str, Any]) -> None:
    configure_job_backend("local", analytics_store=config)
    for table in RUNS:
        submit(make_known, table).result()

    assert build_store(config).list_tables() == sorted([*RUNS, "runs"])
