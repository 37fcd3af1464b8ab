"""Dagster's own scheduler and code server with our schedules: downtime, clocks set back, summer time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from analytics_pipeline.store import create_store
from analytics_pipeline.sync.status import DatasetStatus, State, digest_of, write_status
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.daemon.shop import MODULE, open_shop

INTERVALS = (7, 15, 90, 1000)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SETTINGS = {
    "telemetry": {"enabled": False},
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"},
    "code_servers": {"wait_for_local_processes_on_shutdown": True},
}
NIGHT_OF_SUMMER_TIME = datetime(2027, 3, 28, tzinfo=UTC)
"""In Berlin, 2:00 to 3:00 of that night is missing. In the future: earlier ticks would be late ones."""


def name_of(minutes: int) -> str:
    return f"every_{minutes}"


@dataclass(frozen=True)
class Scheduler:
    """The daemon's scheduler, which looks when it is told to. Runs stay in the queue: nothing takes them out."""

    instance: dg.DagsterInstance
    context: WorkspaceProcessContext

    def look(self, moment: datetime) -> None:
        """What it does in each of its rounds."""
        for problem in launch_scheduled_runs(self.context, logging.getLogger("scheduler"), moment, {}):
            assert problem is None, problem

    def jobs(self) -> Counter[str]:
        """The jobs of all runs that were asked for."""
        return Counter(run.job_name for run in self.instance.get_runs())

    def end_runs(self) -> None:
        """Let every run succeed."""
        for run in self.instance.get_runs(dg.RunsFilter(statuses=[DagsterRunStatus.QUEUED])):
            for event in ("PIPELINE_STARTING", "PIPELINE_START", "PIPELINE_SUCCESS"):
                self.instance.report_dagster_event(dg.DagsterEvent(event, run.job_name), run.run_id)

    def ticks(self, minutes: int) -> list[InstigatorTick]:
        """Of a dataset's schedule, oldest first."""
        for state in self.instance.all_instigator_state():
            if state.name == f"{name_of(minutes)}_refresh_job_schedule":
                return [*self.instance.get_ticks(state.instigator_origin_id, state.selector_id)][::-1]
        return []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scheduler") / "home"


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Scheduler]:
    """A machine in Berlin, and datasets with all sorts of intervals."""
    environment = {"ANALYTICS_HOME": str(home), "TZ": "Europe/Berlin", scenario.URL: "postgresql://127.0.0.1:1/nowhere"}
    specs = [scenario.spec(name=name_of(minutes), refresh_interval_minutes=minutes) for minutes in INTERVALS]
    open_shop(home.parent, *specs)
    (home.parent / "dagster").mkdir()
    target = ModuleTarget(MODULE, attribute=None, working_directory=str(home.parent), location_name="shop")
    with (
        pytest.MonkeyPatch.context() as patch,
        dg.DagsterInstance.local_temp(str(home.parent / "dagster"), overrides=SETTINGS) as instance,
    ):
        for variable, value in environment.items():
            patch.setenv(variable, value)
        with create_test_daemon_workspace_context(target, instance) as context:
            yield Scheduler(instance, context)


@pytest.fixture
def scheduler(served: Scheduler) -> Scheduler:
    """That of `served`, which has never looked."""
    storage = served.instance.schedule_storage
    assert storage is not None
    storage.wipe()
    served.instance.run_storage.wipe()
    return served


def verify_all(home: Path, at: datetime) -> None:
    """Let the status of every dataset say when it was verified."""
    store = create_store(home / "store")
    for minutes in INTERVALS:
        spec = scenario.spec(name=name_of(minutes))
        content = digest_of(store.manifest(), spec)
        write_status(store, spec, DatasetStatus(spec.name, State.READY, last_verified=at, content=content))


def test_a_day_of_downtime_is_made_up_for_by_one_run_of_each_dataset_at_once(scheduler: Scheduler, home: Path) -> None:
    """Of all missed ticks Dagster evaluates the newest, which for 7 or 1,000 minutes is rarely a due one."""
    now = datetime.now(UTC)
    scheduler.look(now - DAY)
    verify_all(home, now - DAY)

    scheduler.look(now)

    assert scheduler.jobs() == {f"{name_of(minutes)}_refresh_job": 1 for minutes in INTERVALS}


def test_a_clock_that_is_set_back_breaks_nothing_and_ticks_go_on_when_it_has_caught_up(scheduler: Scheduler) -> None:
    now = datetime.now(UTC)
    scheduler.look(now - 2 * HOUR)
    scheduler.look(now)
    before = scheduler.ticks(15)
    assert len(before) == 1
    scheduler.end_runs()

    scheduler.look(now - HOUR)
    assert len(scheduler.ticks(15)) == 1
    scheduler.look(now + HOUR / 4)

    assert [tick.status for tick in scheduler.ticks(15)] == [TickStatus.SUCCESS] * 2
    assert scheduler.jobs()["every_15_refresh_job"] == 2


def test_the_night_of_summer_time_has_every_due_tick_once(scheduler: Scheduler) -> None:
    due = [NIGHT_OF_SUMMER_TIME + number * timedelta(minutes=90) for number in range(4)]
    for moment in due:
        scheduler.look(moment)
        scheduler.end_runs()

    assert [datetime.fromtimestamp(tick.timestamp, UTC) for tick in scheduler.ticks(90)] == due
    assert scheduler.jobs()["every_90_refresh_job"] == len(due)
