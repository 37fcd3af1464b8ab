"""Backups by date: each is a store of its own, the newest few stay, and nothing else in their folder is touched."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from analytics_pipeline.components.maintenance import backup_job, backup_job_schedule
from analytics_pipeline.errors import BackupRefused
from analytics_pipeline.housekeeping import backups
from analytics_pipeline.housekeeping.backups import back_up
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.store import Store, open_store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import spec

NIGHT = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(store: Store) -> int:
    return int(store.query("SELECT count(*) FROM orders_results").item())


@pytest.fixture
def filled(orders_url: str, store: Store) -> Store:
    """The store with the orders in it."""
    job = scenario.definitions(spec()).resolve_job_def("orders_refresh_job")
    assert job.execute_in_process().success
    return store


@pytest.fixture
def said() -> list[str]:
    return []


def test_the_newest_few_stay_and_what_is_none_of_ours_too(filled: Store, tmp_path: Path, said: list[str]) -> None:
    folder = tmp_path / "far" / "backups"
    (folder / "2020-01-01-by-hand").mkdir(parents=True)
    (folder / "2020-01-01T000000Z").touch()

    done = [back_up(filled, folder, said.append, keep=2, now=NIGHT + number * DAY) for number in range(4)]

    kept = ["2026-11-23T043000Z", "2026-11-24T043000Z"]
    assert names(folder) == ["2020-01-01-by-hand", "2020-01-01T000000Z", *kept]
    assert [[path.name for path in each.removed] for each in done] == [
        [],
        [],
        ["2026-11-21T043000Z"],
        ["2026-11-22T043000Z"],
    ]
    assert rows(open_store(done[-1].path)) == rows(filled)
    assert said == []


def test_a_new_backup_stays_among_those_of_a_clock_that_was_ahead(
    filled: Store, tmp_path: Path, said: list[str]
) -> None:
    """Otherwise the only one with what is there now is removed at once, for as long as the clock was ahead."""
    folder = tmp_path / "backups"
    for ahead in (300, 400):
        back_up(filled, folder, said.append, keep=2, now=NIGHT + ahead * DAY)

    done = back_up(filled, folder, said.append, keep=2, now=NIGHT)

    assert names(folder) == [done.path.name, f"{NIGHT + 400 * DAY:%Y-%m-%dT%H%M%SZ}"]
    assert [path.name for path in done.removed] == [f"{NIGHT + 300 * DAY:%Y-%m-%dT%H%M%SZ}"]
    alone = back_up(filled, folder, said.append, keep=1, now=NIGHT + DAY)
    assert names(folder) == [alone.path.name]


def test_a_backup_does_not_wait_for_a_dataset_whatever_its_name(filled: Store, tmp_path: Path) -> None:
    """A first sync takes hours; a dataset may be named `backups`."""
    with ExitStack() as held:
        for name in ("orders", "backups"):
            held.enter_context(filled.exclusive(spec(name=name).name, pytest.fail))
        back_up(filled, tmp_path / "backups", pytest.fail, now=NIGHT)

    with pytest.raises(ValidationError):
        spec(name=backups._LOCK)


def test_a_backup_that_fails_removes_no_older_one(filled: Store, tmp_path: Path, said: list[str]) -> None:
    back_up(filled, tmp_path / "backups", said.append, now=NIGHT)

    with pytest.raises(BackupRefused):
        back_up(filled, tmp_path / "backups", said.append, keep=1, now=NIGHT)

    assert names(tmp_path / "backups") == ["2026-11-21T043000Z"]


def test_what_a_killed_backup_left_is_removed_by_the_next(filled: Store, tmp_path: Path, said: list[str]) -> None:
    """Each is as large as the store."""
    left = tmp_path / "backups" / f".2026-11-20T043000Z-{'0' * 32}"
    left.mkdir(parents=True)

    back_up(filled, tmp_path / "backups", said.append, now=NIGHT)

    assert names(tmp_path / "backups") == ["2026-11-21T043000Z"]


def test_the_job_backs_up_into_the_home_or_where_it_is_told(filled: Store, home: Path, tmp_path: Path) -> None:
    resources = {"analytics": AnalyticsResource()}
    elsewhere = {"ops": {"back_up_store": {"config": {"folder": str(tmp_path / "elsewhere"), "keep": 1}}}}

    assert backup_job.execute_in_process(resources=resources).success
    assert backup_job.execute_in_process(resources=resources, run_config=elsewhere).success

    for folder in (home / "backups", tmp_path / "elsewhere"):
        [backup] = folder.iterdir()
        assert rows(open_store(backup)) == rows(filled)


def test_backups_have_a_schedule_that_their_owner_switches_on() -> None:
    assert (backup_job_schedule.name, backup_job_schedule.cron_schedule) == ("backup_job_schedule", "30 4 * * *")
    assert backup_job_schedule.default_status is dg.DefaultScheduleStatus.STOPPED
