"""When a dataset's sensor asks for a run, how patiently, and what it tells while nothing runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from analytics_pipeline.components.sync_sensor import Memory
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.settings import find_home
from analytics_pipeline.store import Store
from analytics_pipeline.sync.status import State, read_status, write_status
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import REVIEWS, run_in, spec
from analytics_pipeline_tests.thinning import thinned

JOB = "orders_refresh_job"
NUMBERED = f"SELECT *, row_number() OVER (PARTITION BY dataset_id ORDER BY review_id) AS number FROM ({REVIEWS}) AS r"
"""A query of which no gate can prove that its rows are the same."""

Tick = Callable[..., dg.SensorResult]


def sensor_of(code: dg.Definitions) -> dg.SensorDefinition:
    [sensor] = code.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    return sensor


def look(code: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """One tick."""
    resources = {"analytics": AnalyticsResource()}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        result = sensor_of(code)(context)
    assert isinstance(result, dg.SensorResult)
    return result


def asks(result: dg.SensorResult) -> bool:
    return bool(result.run_requests)


def asked_before(requests: int, ago: timedelta) -> str:
    """The cursor of a sensor that has asked some times without success."""
    return Memory(requests, (datetime.now(UTC) - ago).timestamp()).cursor()


@pytest.fixture
def code() -> dg.Definitions:
    return scenario.definitions(spec(refresh_interval_minutes=15))


@pytest.fixture
def watched(orders_url: str, store: Store, lasting: dg.DagsterInstance) -> dg.Definitions:
    """A dataset that is watched, just refreshed."""
    code = scenario.definitions(spec(watch=True))
    assert code.resolve_job_def(JOB).execute_in_process(instance=lasting).success
    return code


def test_an_empty_store_is_filled_without_a_click(
    home: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    assert sensor_of(code).default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor_of(code).name == "orders_source_sensor"

    assert asks(look(code, lasting))
    assert not home.exists(), "a tick makes nothing"


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED"])
def test_it_does_not_ask_twice_while_a_run_is_at_it(
    home: Path, code: dg.Definitions, lasting: dg.DagsterInstance, status: str
) -> None:
    run = run_in(lasting, code.resolve_job_def(JOB), status)

    result = look(code, lasting, asked_before(1, timedelta(hours=2)))

    assert not asks(result)
    assert run.run_id in str(result.skip_reason)


@pytest.mark.parametrize(("requests", "minutes"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (50, 60)])
def test_after_failures_it_asks_again_with_growing_pauses(
    home: Path, code: dg.Definitions, lasting: dg.DagsterInstance, requests: int, minutes: int
) -> None:
    """A source that is down for a night must not cost a run every 30 seconds."""
    too_soon = asked_before(requests, timedelta(minutes=minutes) - timedelta(seconds=20))
    in_time = asked_before(requests, timedelta(minutes=minutes) + timedelta(seconds=1))

    assert not asks(look(code, lasting, too_soon))
    again = look(code, lasting, in_time)
    assert asks(again)
    assert Memory.of(again.cursor).requests == requests + 1


def test_pauses_begin_at_the_end_of_a_failed_run(home: Path, code: dg.Definitions, lasting: dg.DagsterInstance) -> None:
    """A first sync that fails after hours would be started again at once."""
    run_in(lasting, code.resolve_job_def(JOB), "FAILURE")

    assert not asks(look(code, lasting, asked_before(1, timedelta(hours=2))))


def test_once_the_store_is_filled_it_is_quiet_and_forgets_the_failures(
    orders_url: str, store: Store, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    assert code.resolve_job_def(JOB).execute_in_process(instance=lasting).success

    result = look(code, lasting, asked_before(5, timedelta(minutes=1)))

    assert not asks(result)
    assert Memory.of(result.cursor).requests == 0


def test_a_watched_source_is_refreshed_as_soon_as_it_moved(
    watched: dg.Definitions, orders_url: str, lasting: dg.DagsterInstance
) -> None:
    assert not asks(look(watched, lasting))

    scenario.change_source(orders_url, "UPDATE orders SET city = 'Rome'")

    assert asks(look(watched, lasting))


def test_a_source_that_is_not_watched_is_left_to_the_schedule(
    orders_url: str, store: Store, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    assert code.resolve_job_def(JOB).execute_in_process(instance=lasting).success
    scenario.change_source(orders_url, "UPDATE orders SET city = 'Rome'")

    assert not asks(look(code, lasting))


def test_a_watched_source_that_fails_is_asked_with_pauses_and_one_that_moves_on_is_not(
    watched: dg.Definitions, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scenario.URL, "postgresql://127.0.0.1:1/db")
    just_asked = asked_before(1, timedelta(seconds=30))

    assert asks(look(watched, lasting, just_asked)), "the last run succeeded"
    run_in(lasting, watched.resolve_job_def(JOB), "FAILURE")
    assert not asks(look(watched, lasting, just_asked))


@pytest.mark.parametrize("requests", thinned([1, 7], 2))
def test_without_a_gate_a_run_that_succeeds_is_followed_by_a_pause(
    orders_url: str, store: Store, lasting: dg.DagsterInstance, requests: int
) -> None:
    """Otherwise a query with a window function costs a refresh every 30 seconds, for ever."""
    code = scenario.definitions(spec(watch=True, results_query=NUMBERED))
    assert code.resolve_job_def(JOB).execute_in_process(instance=lasting).success
    assert read_status(store, spec()).gate is None

    result = look(code, lasting, asked_before(requests, timedelta(hours=2)))

    assert not asks(result)
    assert "nothing can prove that the source has not moved" in str(result.skip_reason)
    assert Memory.of(result.cursor).requests == requests, "the next pause is longer"


@pytest.mark.parametrize(("requests", "minutes"), thinned([(1, 1), (3, 4), (7, 60)], 2))
def test_without_a_gate_watching_goes_on_after_the_pause(
    orders_url: str, store: Store, lasting: dg.DagsterInstance, requests: int, minutes: int
) -> None:
    code = scenario.definitions(spec(watch=True, results_query=NUMBERED))
    assert code.resolve_job_def(JOB).execute_in_process().success
    too_soon = asked_before(requests, timedelta(minutes=minutes) - timedelta(seconds=20))
    in_time = asked_before(requests, timedelta(minutes=minutes) + timedelta(seconds=1))

    assert not asks(look(code, lasting, too_soon))
    assert Memory.of(look(code, lasting, in_time).cursor).requests == requests + 1


def test_a_gate_that_is_back_ends_the_pauses(watched: dg.Definitions, orders_url: str, store: Store) -> None:
    """A transaction that was open during one refresh must not slow down the watching for an hour."""
    with dg.DagsterInstance.ephemeral() as instance, psycopg.connect(orders_url) as writer:
        writer.execute("UPDATE orders SET city = 'Rome'")
        scenario.change_source(orders_url, "DELETE FROM reviews WHERE id = 2")  # later, and ended
        assert watched.resolve_job_def(JOB).execute_in_process(instance=instance).success
        assert read_status(store, spec()).gate is None
        writer.commit()
        assert asks(look(watched, instance))
        assert watched.resolve_job_def(JOB).execute_in_process(instance=instance).success

        result = look(watched, instance, asked_before(1, timedelta(minutes=1)))

    assert not asks(result)
    assert Memory.of(result.cursor).requests == 0


def test_a_manual_dataset_has_no_sensor_unless_it_is_watched() -> None:
    assert not scenario.definitions(spec(sync_mode="manual")).sensors
    assert scenario.definitions(spec(sync_mode="manual", watch=True)).sensors
    assert scenario.definitions(spec(auto_load=True)).sensors


def test_a_manual_dataset_is_not_filled_by_watching(home: Path, lasting: dg.DagsterInstance) -> None:
    assert not asks(look(scenario.definitions(spec(sync_mode="manual", watch=True)), lasting))


def test_it_tells_once_that_a_dataset_is_late_and_once_that_it_is_in_time_again(
    orders_url: str, store: Store, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    """While nothing runs nobody else turns the check red; at every tick it would fill the event log."""
    assert code.resolve_job_def(JOB).execute_in_process(instance=lasting).success
    fresh = look(code, lasting)
    let_it_be_verified(store, timedelta(minutes=31))
    late = look(code, lasting, fresh.cursor)
    still_late = look(code, lasting, late.cursor)
    let_it_be_verified(store, timedelta(minutes=29))
    in_time = look(code, lasting, still_late.cursor)
    still_in_time = look(code, lasting, in_time.cursor)

    told = [result.asset_events for result in (fresh, late, still_late, in_time, still_in_time)]
    assert [[event.passed for event in events if isinstance(event, dg.AssetCheckEvaluation)] for events in told] == [
        [],
        [False],
        [],
        [True],
        [],
    ]
    [event] = late.asset_events
    assert isinstance(event, dg.AssetCheckEvaluation)
    assert event.asset_check_key == dg.AssetCheckKey(dg.AssetKey("orders_data"), "verified_in_time")
    assert "31 minutes ago" in str(event.description)


def let_it_be_verified(store: Store, ago: timedelta) -> None:
    write_status(store, spec(), replace(read_status(store, spec()), last_verified=datetime.now(UTC) - ago))


def test_a_cursor_of_another_version_is_no_trouble(
    home: Path, code: dg.Definitions, lasting: dg.DagsterInstance
) -> None:
    for cursor in ("", "no json", "[]", '{"unknown": 1}', json.dumps(None)):
        assert asks(look(code, lasting, cursor))


def test_a_tick_neither_starts_nor_fills_the_sample(home: Path, store: Store, lasting: dg.DagsterInstance) -> None:
    code = scenario.definitions(spec(url="MONITORING_DB_URL", watch=True))
    status = read_status(store, spec())

    assert asks(look(code, lasting))
    assert status.state is State.NOT_SYNCED
    assert not find_home().sample.exists()
