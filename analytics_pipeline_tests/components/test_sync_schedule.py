"""Which ticks of a dataset's schedule start a run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from analytics_pipeline.components.sync_schedule import cron_lines, due_at
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import run_in, spec
from analytics_pipeline_tests.thinning import thinned

INTERVALS = [7, 15, 90, 100, 1440, 2000]
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEK_OF_SUMMER_TIME = datetime(2027, 3, 25, tzinfo=UTC)
"""Clocks in Berlin jump from 2 to 3 on its Sunday. In the future: earlier ticks would be late ones."""


def schedule_of(minutes: int) -> dg.ScheduleDefinition:
    [schedule] = scenario.definitions(spec(refresh_interval_minutes=minutes)).schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    return schedule


def tick_times(schedule: dg.ScheduleDefinition, begin: datetime, end: datetime) -> Iterator[datetime]:
    """As Dagster's daemon has them from the cron lines."""
    code = dg.Definitions(jobs=[schedule.job], schedules=[schedule], resources={"analytics": AnalyticsResource()})
    resolved = code.get_repository_def().get_schedule_def(schedule.name)
    zone = resolved.execution_timezone
    from dagster._utils.schedules import schedule_execution_time_iterator  # noqa: PLC0415 - of the daemon's inside

    for moment in schedule_execution_time_iterator(begin.timestamp(), resolved.cron_schedule, zone):
        if moment >= end:
            return
        yield moment


def evaluate(schedule: dg.ScheduleDefinition, moment: datetime, instance: dg.DagsterInstance) -> str | None:
    """Why a tick skips; None where it starts a run."""
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=moment, resources={"analytics": AnalyticsResource()}
    ) as context:
        data = schedule.evaluate_tick(context)
    assert len(data.run_requests or ()) == (0 if data.skip_message else 1)
    return data.skip_message


def multiples(minutes: int, begin: datetime, end: datetime) -> list[datetime]:
    """Counted from 1970, one by one."""
    first = -(-int((begin - EPOCH) / MINUTE) // minutes)
    last = -(-int((end - EPOCH) / MINUTE) // minutes)
    return [EPOCH + number * minutes * MINUTE for number in range(first, last)]


@pytest.mark.parametrize("minutes", thinned(INTERVALS, 3))
def test_any_whole_number_of_minutes_is_kept_exactly_for_a_week_with_a_change_of_clocks(
    home: Path, lasting: dg.DagsterInstance, minutes: int
) -> None:
    schedule = schedule_of(minutes)
    begin, end = WEEK_OF_SUMMER_TIME, WEEK_OF_SUMMER_TIME + 7 * DAY
    berlin = ZoneInfo("Europe/Berlin")
    assert begin.astimezone(berlin).utcoffset() != end.astimezone(berlin).utcoffset()

    ticks = list(tick_times(schedule, begin, end))
    due = [moment for moment in ticks if (moment - EPOCH) % (minutes * MINUTE) == timedelta()]

    assert due == multiples(minutes, begin, end)
    sample = [*due[:5], *[tick for tick in ticks if tick not in set(due)][:5]]
    started = [moment for moment in sample if evaluate(schedule, moment, lasting) is None]
    assert started == due[:5]


@pytest.mark.parametrize(("minutes", "span"), [(7, DAY / 96), (100, DAY / 4)])
def test_every_tick_says_what_it_does(home: Path, lasting: dg.DagsterInstance, minutes: int, span: timedelta) -> None:
    schedule, end = schedule_of(minutes), WEEK_OF_SUMMER_TIME + span
    reasons = {tick: evaluate(schedule, tick, lasting) for tick in tick_times(schedule, WEEK_OF_SUMMER_TIME, end)}

    assert [tick for tick, reason in reasons.items() if reason is None] == multiples(minutes, WEEK_OF_SUMMER_TIME, end)
    assert all(reason is None or reason.startswith(f"Every {minutes} minutes: next at ") for reason in reasons.values())


def moments(line: str) -> list[int]:
    """The minutes of a day at which a cron line ticks."""
    minute, hour, *rest = line.split(" ")
    assert rest == ["*", "*", "*"]
    hours = range(24) if hour == "*" else map(int, hour.split(","))
    minutes = range(60) if minute == "*" else [*map(int, minute.split(","))]
    return [60 * h + m for h in hours for m in minutes]


def test_cron_lines_tick_at_every_step_of_a_day_and_no_other_time() -> None:
    for minutes in range(1, 1500):
        step = next(number for number in range(minutes, 0, -1) if minutes % number == 0 and 1440 % number == 0)
        found = [moment for line in cron_lines(minutes) for moment in moments(line)]

        assert sorted(found) == list(range(0, 1440, step)), minutes


def test_ticks_are_few_where_the_interval_divides_a_day() -> None:
    """Each tick is a row in Dagster's storage."""
    assert cron_lines(15) == ["0,15,30,45 * * * *"]
    assert cron_lines(1440) == ["0 0 * * *"]
    assert len(cron_lines(90)) == 2


def test_a_late_tick_is_superseded(home: Path, lasting: dg.DagsterInstance) -> None:
    """After a day of downtime, one refresh is as good as 96."""
    schedule = schedule_of(15)
    newest = due_at(datetime.now(UTC), 15)

    missed = [evaluate(schedule, newest - number * 15 * MINUTE, lasting) for number in (1, 2, 40, 96)]

    assert all(reason is not None and reason.startswith("This tick is superseded") for reason in missed)
    assert evaluate(schedule, newest, lasting) is None


def off_time(minutes: int) -> datetime:
    """A tick a minute after the newest due one."""
    return due_at(datetime.now(UTC), minutes) + MINUTE


def verified(store: Store, at: datetime) -> None:
    """Let the status say when the orders were last verified."""
    from analytics_pipeline.sync.status import DatasetStatus, State, digest_of, write_status  # noqa: PLC0415

    content = digest_of(store.manifest(), spec())
    write_status(store, spec(), DatasetStatus("orders", State.READY, last_verified=at, content=content))


def test_after_a_standstill_the_first_tick_makes_up_for_the_due_one(store: Store, lasting: dg.DagsterInstance) -> None:
    """Of all missed ticks Dagster evaluates the newest, which is due once in 2,000 minutes only."""
    schedule, tick = schedule_of(2000), off_time(2000)
    verified(store, tick - DAY * 2)

    assert evaluate(schedule, tick, lasting) is None


def test_a_tick_makes_up_for_nothing_that_was_verified_since(store: Store, lasting: dg.DagsterInstance) -> None:
    schedule, tick = schedule_of(2000), off_time(2000)
    verified(store, tick - MINUTE / 2)

    assert "next at" in (evaluate(schedule, tick, lasting) or "")


def test_a_failing_dataset_is_tried_at_its_own_times_only(store: Store, lasting: dg.DagsterInstance) -> None:
    """Otherwise every tick, due or not, would start it again."""
    schedule, tick = schedule_of(2000), off_time(2000)
    verified(store, tick - DAY * 2)
    run_in(lasting, schedule.job, "FAILURE")

    assert "next at" in (evaluate(schedule, tick, lasting) or "")


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING"])
def test_a_tick_skips_while_a_run_waits(home: Path, lasting: dg.DagsterInstance, status: str) -> None:
    """A run that has not begun sees what changes until then; a second one would find nothing."""
    schedule = schedule_of(15)
    run = run_in(lasting, schedule.job, status)

    assert evaluate(schedule, WEEK_OF_SUMMER_TIME, lasting) == (
        f"Run {run.run_id} waits already and will see every change."
    )


@pytest.mark.parametrize("status", thinned(["STARTED", "FAILURE", "SUCCESS", "CANCELED"], 2))
def test_a_tick_does_not_skip_because_of_a_run_that_began(home: Path, lasting: dg.DagsterInstance, status: str) -> None:
    """Its snapshot may be older than a change; the pool keeps the two apart."""
    schedule = schedule_of(15)
    run_in(lasting, schedule.job, status)

    assert evaluate(schedule, WEEK_OF_SUMMER_TIME, lasting) is None


def test_a_tick_skips_if_the_gate_proves_that_nothing_changed(
    orders_url: str, store: Store, lasting: dg.DagsterInstance
) -> None:
    code = scenario.definitions(spec(refresh_interval_minutes=15))
    assert code.resolve_job_def("orders_refresh_job").execute_in_process(instance=lasting).success
    schedule = schedule_of(15)

    assert evaluate(schedule, WEEK_OF_SUMMER_TIME, lasting) == (
        "Nothing changed in the source since it was last verified."
    )
    scenario.change_source(orders_url, "UPDATE orders SET city = 'Rome'")
    assert evaluate(schedule, WEEK_OF_SUMMER_TIME, lasting) is None


def test_a_gate_that_fails_or_hangs_means_a_run_in_good_time(
    orders_url: str, store: Store, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, silent_url: str
) -> None:
    code = scenario.definitions(spec(refresh_interval_minutes=15))
    assert code.resolve_job_def("orders_refresh_job").execute_in_process(instance=lasting).success
    for url in ("postgresql://127.0.0.1:1/db", "no url at all", silent_url):
        monkeypatch.setenv(scenario.URL, url)
        began = datetime.now(UTC)

        assert evaluate(schedule_of(15), WEEK_OF_SUMMER_TIME, lasting) is None
        assert datetime.now(UTC) - began < timedelta(seconds=15)


def test_a_store_that_cannot_be_read_means_a_run_that_says_so(
    orders_url: str, store: Store, lasting: dg.DagsterInstance
) -> None:
    """Failures of runs are seen and alarmed of; those of ticks are on a page that nobody opens."""
    code = scenario.definitions(spec(refresh_interval_minutes=15))
    assert code.resolve_job_def("orders_refresh_job").execute_in_process(instance=lasting).success
    for file in (store.root / "manifest").iterdir():
        file.unlink()
        file.write_bytes(b"no manifest")

    assert evaluate(schedule_of(15), WEEK_OF_SUMMER_TIME, lasting) is None


def test_a_tick_makes_nothing_and_starts_nothing(
    home: Path, lasting: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample's server would take seconds of every tick."""
    code = scenario.definitions(spec(url="MONITORING_DB_URL", refresh_interval_minutes=15))
    [schedule] = code.schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)

    assert evaluate(schedule, WEEK_OF_SUMMER_TIME, lasting) is None
    assert not home.exists()


def test_schedules_run_without_a_click_and_only_where_there_is_an_interval() -> None:
    assert schedule_of(15).default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule_of(15).name == "orders_refresh_job_schedule"
    assert not scenario.definitions(spec(refresh_interval_minutes=0)).schedules
