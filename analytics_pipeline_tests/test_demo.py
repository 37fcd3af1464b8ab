"""`make demo` from the outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_pipeline import demo
from analytics_pipeline.experiments import log_run
from analytics_pipeline.sample import sources
from analytics_pipeline.settings import SOURCE_URL_VARIABLES, Home
from analytics_pipeline_tests.workplace import Workplace

TABLES = [f"{name}_{half}" for name in ("eval", "human_signals", "monitoring") for half in ("dataset", "results")]


def rows(said: str) -> dict[str, tuple[str, str]]:
    """Rows in Postgres and in the store, of each table that the demo lists."""
    found = re.findall(r"^(\w+) +([\d,]+) +([\d,]+) +[\d,]+$", said, re.MULTILINE)
    return {table: (postgres, store) for table, postgres, store in found}


def synced(workplace: Workplace) -> list[tuple[str, str | None]]:
    """What happened to the assets of datasets."""
    datasets = ("eval", "human_signals", "monitoring")
    return [event for event in workplace.events() if event[0].startswith(datasets)]


def appended(workplace: Workplace) -> list[Path]:
    """The files of capability and training runs."""
    return sorted(
        path
        for name in ("capabilities", "experiments")
        for path in (workplace.home / "store" / name).rglob("*.parquet")
    )


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Workplace]:
    """A workplace where no source is set; its sample is there already, only smaller than a newcomer's."""
    workplace = Workplace(tmp_path / "workplace", {})
    home = Home(workplace.home, "a test")
    sources.ensure_sample(home, 0.05)
    yield workplace
    sources.release()
    sources.server_of(home).stop("immediate")


def test_it_fills_the_store_from_the_sample_and_changes_nothing_the_second_time(newcomer: Workplace) -> None:
    first = newcomer.python("-m", "analytics_pipeline.demo")

    assert first.returncode == 0, first.stdout
    assert "an embedded PostgreSQL with sample data" in first.stdout
    assert "Every table holds what Postgres holds." in first.stdout
    assert list(rows(first.stdout)) == TABLES
    assert all(postgres == store != "0" for postgres, store in rows(first.stdout).values())
    assert len(re.findall(r"^maite_evaluation .* 0\.\d{3}$", first.stdout, re.MULTILINE)) == 3
    assert len(re.findall(r"^digits_\d{3} .* 0\.\d{3}$", first.stdout, re.MULTILINE)) == 3
    assert (newcomer.home / "exports" / "index.html").exists()
    events, version, files = synced(newcomer), newcomer.version(), appended(newcomer)
    assert events != []
    assert files != []

    again = newcomer.python("-m", "analytics_pipeline.demo")

    assert again.returncode == 0, again.stdout
    assert rows(again.stdout) == rows(first.stdout)
    assert (synced(newcomer), newcomer.version(), appended(newcomer)) == (events, version, files)
    assert "Warning" not in again.stdout


def test_it_trains_until_all_runs_of_the_sweep_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that was interrupted, or a run of the user's own, once kept it from ever training."""
    home = Home(tmp_path / "home", "a test")
    monkeypatch.setenv("ANALYTICS_HOME", str(home.path))

    def trains() -> bool:
        return any("digits_sweep" in part for command in demo._sweep(home) for part in command)

    log_run("mine", {}, "done")
    for number in range(1, 31):
        log_run(f"digits_{number:03d}", {}, "done" if number < 30 else "running")
    assert trains()
    log_run("digits_030", {}, "done")
    assert not trains()


@pytest.mark.slow
def test_it_uses_the_users_databases_where_they_are_set_and_says_so(workplace: Workplace) -> None:
    done = workplace.python("-m", "analytics_pipeline.demo")

    assert done.returncode == 0, done.stdout
    assert "Sources: the databases that your variables name." in done.stdout
    assert list(rows(done.stdout)) == TABLES
    assert not (workplace.home / "sample").exists()


@pytest.mark.slow
@pytest.mark.parametrize("variable", SOURCE_URL_VARIABLES)
def test_with_one_source_it_shows_that_one(workplace: Workplace, variable: str) -> None:
    others = [other for other in SOURCE_URL_VARIABLES if other != variable]
    for other in others:
        del workplace.environment[other]

    done = workplace.python("-m", "analytics_pipeline.demo")

    assert done.returncode == 0, done.stdout
    dataset = sources.OF_VARIABLE[variable]
    assert list(rows(done.stdout)) == [f"{dataset}_dataset", f"{dataset}_results"]
    for other in others:
        assert f"is left out: {other} is not set." in done.stdout


@pytest.mark.slow
def test_a_source_that_does_not_answer_is_exit_code_one_and_no_table(workplace: Workplace) -> None:
    workplace.environment["MONITORING_DB_URL"] = "postgresql://bob:hunter2secret@127.0.0.1:1/db"

    done = workplace.python("-m", "analytics_pipeline.demo")

    assert done.returncode == 1
    assert "No connection to database 'db' at 127.0.0.1:1" in done.stdout
    assert "hunter2secret" not in done.stdout
    assert rows(done.stdout) == {}


def test_elsewhere_than_in_the_projects_folder_it_says_where_to_go(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "workplace", {})
    (workplace.folder / "workspace.yaml").unlink()

    done = workplace.python("-m", "analytics_pipeline.demo")

    assert done.returncode == 1
    assert done.stdout == "Run this from the project's folder, where workspace.yaml is.\n"
