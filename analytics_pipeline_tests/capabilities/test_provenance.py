"""Provenance: what may be given, and what holds for all runs of a process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics_pipeline.capabilities import (
    AnalyticsStore,
    ParquetBackend,
    Provenance,
    ProvenanceLike,
    configure_provenance,
    get_provenance_defaults,
    reset_provenance,
)
from analytics_pipeline.capabilities.jobs import configure_job_backend, shutdown_job_backend, submit
from analytics_pipeline.errors import ProvenanceRefused
from analytics_pipeline_tests.capabilities.jobs import PlaceRun
from analytics_pipeline_tests.capabilities.scenario import run

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOLD = "SELECT DISTINCT user_id, environment, job_id FROM runs"


@pytest.fixture(autouse=True)
def _nothing_stays_configured() -> Iterator[None]:
    yield
    reset_provenance()
    shutdown_job_backend()


@pytest.mark.parametrize("field", ["submitted_at", "completed_at"])
@pytest.mark.parametrize(
    "given", [1_769_860_800, 1.5, "1769860800", True, MOMENT.date(), "2026-01-31", b"2026-01-31T12:00Z"]
)
def test_a_moment_that_is_no_datetime_and_no_text_of_one_is_refused(
    backend: ParquetBackend, field: str, given: object
) -> None:
    """A number may count seconds or milliseconds: a guess would move a run by fifty years."""
    with pytest.raises(ProvenanceRefused, match=rf"{field}(.*)write a moment as text with its time zone"):
        AnalyticsStore(backend).write([run("a")], provenance={field: given})
    assert backend.list_tables() == []


@pytest.mark.parametrize("given", [MOMENT, "2026-01-31T12:00:00Z", "2026-01-31T13:00+01:00", "2026-01-31 12:00:00.0Z"])
def test_a_moment_is_a_datetime_or_its_text(given: object) -> None:
    assert Provenance.model_validate({"submitted_at": given}).submitted_at == MOMENT


def test_defaults_are_told_where_they_are_asked_for(backend: ParquetBackend) -> None:
    """As in checkmaite: a write knows nothing that it is not given."""
    assert configure_provenance(user_id="ada", environment="test") == get_provenance_defaults()
    store = AnalyticsStore(backend)
    store.write([run("without")])
    store.write([run("with")], provenance=get_provenance_defaults())

    found = store.query_sql("SELECT DISTINCT run_uid, user_id, environment FROM runs ORDER BY ALL").rows()
    assert found == [("with", "ada", "test"), ("without", None, None)]


def test_a_configuration_replaces_the_one_before() -> None:
    configure_provenance(user_id="ada", cluster_id="c1")
    configure_provenance(user_id="grace")
    assert get_provenance_defaults() == Provenance(user_id="grace")

    assert reset_provenance() == get_provenance_defaults() == Provenance()


def test_a_refused_configuration_leaves_the_one_before() -> None:
    configure_provenance(user_id="ada")
    with pytest.raises(ProvenanceRefused, match="user_id"):
        configure_provenance(user_id=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="job_id"):
        configure_provenance(job_id="j1")  # type: ignore[call-arg]

    assert get_provenance_defaults() == Provenance(user_id="ada")


def test_jobs_carry_the_defaults_and_what_they_are_given_counts_more(tmp_path: Path) -> None:
    config = {"uri": str(tmp_path)}
    configure_job_backend("local", analytics_store=config)
    configure_provenance(user_id="ada", environment="test")

    job = submit(PlaceRun, "a", provenance={"user_id": "grace", "job_id": "not this"})

    assert AnalyticsStore(ParquetBackend(tmp_path)).query_sql(TOLD).rows() == [("grace", "test", job.job_id)]


def test_merging_takes_the_last_that_says_something() -> None:
    given: list[ProvenanceLike] = [{"user_id": "grace", "backend": "local"}, None, {"user_id": None, "job_id": "j1"}]

    merged = Provenance(user_id="ada", environment="test").merge(*given)

    assert merged == Provenance(user_id="grace", environment="test", backend="local", job_id="j1")


def test_defaults_are_never_seen_half_configured() -> None:
    """Threads configure while others read."""
    names = [str(number) for number in range(200)]
    seen: set[tuple[str | None, str | None]] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            defaults = get_provenance_defaults()
            seen.add((defaults.user_id, defaults.request_id))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for name in names:
        configure_provenance(user_id=name, request_id=name)
    done.set()
    for reader in readers:
        reader.join()

    assert seen <= {(None, None), *((name, name) for name in names)}


def test_a_new_process_has_no_defaults() -> None:
    configure_provenance(user_id="ada")
    code = "from analytics_pipeline.capabilities import *; print(get_provenance_defaults() == Provenance())"

    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout

    assert told == "True\n"
