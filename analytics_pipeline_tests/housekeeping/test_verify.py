"""Verification of a home: whatever is damaged is named, and no query reads it without a word."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.components.maintenance import verify_job
from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.experiments import log_run
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline.housekeeping.verify import forget, verify_home
from analytics_pipeline.objects import DataStore, create_experiment
from analytics_pipeline.objects.base import using_base
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.settings import Home
from analytics_pipeline.store import create_store, open_store
from analytics_pipeline.store.__main__ import main
from analytics_pipeline_tests.capabilities.scenario import run
from analytics_pipeline_tests.damage import HARMS, flip
from analytics_pipeline_tests.store.scenario import facts, publish

EXPERIMENT = "00000000-0000-4000-8000-000000000001"
KINDS = {
    "data file": "store/tables/facts/d0*.parquet",
    "manifest": "store/manifest/*2.parquet",
    "catalog": "store/catalogs/*2.duckdb",
    "index of capabilities": "store/capabilities/.index.sqlite",
    "rows of a run": "store/capabilities/example/*.parquet",
    "runs": "store/capabilities/runs/*.parquet",
    "copy of runs": "store/capabilities/.compacted/runs-*.pq",
    "index of experiments": "store/experiments/.index.sqlite",
    "rows of experiments": "store/experiments/runs/*.parquet",
    "views of experiments": "store/experiments/.views.json",
    "database of experiments": "store/experiments/analytics.duckdb",
    "object": f"objects/{EXPERIMENT}/[!i]*",
}
QUERIES = {
    "facts": "SELECT count(*), sum(id), min(label) FROM facts",
    "example": "SELECT count(*), min(run_uid), sum(score) FROM capabilities.example",
    "runs": "SELECT count(*), min(run_uid) FROM capabilities.runs",
    "experiments": "SELECT count(*), min(run_id), sum(lr) FROM experiments_raw.runs",
}
UNSEEN = {("flip", kind) for kind in KINDS if not kind.startswith(("data", "man", "row", "run", "copy", "obj"))}
"""What may be in bytes that say nothing; the answers are the same then."""


DAMAGES = [
    pytest.param(kind, harm, marks=[] if (number + other) % len(HARMS) == 0 else pytest.mark.slow)
    for number, kind in enumerate(KINDS)
    for other, harm in enumerate(HARMS)
]
"""Each kind of file by each kind of harm; of these, each kind of file once in every build."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with every kind of file, which is copied for each damage."""
    home = Home(tmp_path_factory.mktemp("whole") / "home", "a test")
    store = create_store(home.store)
    publish(store, {"facts": {"d0": facts(*range(300)), "d1": facts(500)}})
    publish(store, {"facts": {"d1": facts(7, 8)}})
    runs = AnalyticsStore(ParquetBackend(home.capabilities))
    runs.write([run(uid) for uid in "abc"])
    runs.write([run("d")])
    for number in range(3):
        log_run(f"r{number}", {"lr": number / 2}, root=home.experiments)
    with using_base(home.objects):
        experiment = create_experiment(EXPERIMENT)
        with experiment.run() as one:
            one.fields.kept = DataStore(x=list(range(1000)))
        experiment.persist()
    store.close()
    return home


@pytest.fixture
def home(whole: Home, tmp_path: Path) -> Home:
    """A copy of its own, opened once, as after a move."""
    shutil.copytree(whole.path, tmp_path / "home", symlinks=True)
    copy = Home(tmp_path / "home", "a test")
    open_store(copy.store).close()
    ParquetBackend(copy.capabilities).tables.compact()
    AnalyticsStore(ParquetBackend(copy.capabilities)).write([run("e")])
    tables_at(copy.experiments).publish()
    for index in (copy.capabilities / ".index.sqlite", copy.experiments / ".index.sqlite"):
        with closing(sqlite3.connect(index)) as connection:  # or its log would hide what becomes of it
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    return copy


def answers(home: Home) -> dict[str, object]:
    """What a new reader finds; an error is an answer that names something."""
    found: dict[str, object] = {}
    store = open_store(home.store)
    for name, sql in QUERIES.items():
        try:
            found[name] = store.query(sql).rows()
        except AnalyticsError as error:
            found[name] = error
    store.close()
    return found


def test_a_whole_home_has_no_damage(home: Home) -> None:
    found = verify_home(home)
    assert [str(damage) for damage in found.damages] == []
    assert found.files > 10
    assert not found.unproven


@pytest.mark.parametrize(("kind", "harm"), DAMAGES)
def test_a_damaged_file_is_named_and_no_query_is_wrong_without_a_word(home: Home, kind: str, harm: str) -> None:
    """40 damages and more: of every kind of file, by every kind of harm."""
    right = answers(home)
    victim = max(home.path.glob(KINDS[kind]))
    HARMS[harm](victim)

    found = verify_home(home)

    named = [str(damage) for damage in found.damages]
    if (harm, kind) not in UNSEEN or named:
        assert any(victim.name in line for line in named), named
    for name, answer in answers(home).items():
        assert isinstance(answer, AnalyticsError) or answer == right[name], name
    if kind == "rows of a run":
        AnalyticsStore(ParquetBackend(home.capabilities)).write([run(uid) for uid in "abcde"])
        assert answers(home)["example"] == right["example"], "writing the runs again heals it"


def test_the_command_names_the_damage_and_fails(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(home.path))
    assert main(["verify"]) == 0
    victim = next((home.store / "tables/facts").glob("d0*.parquet"))
    flip(victim)
    assert main(["verify"]) == 1
    said = capsys.readouterr().out
    assert f"{victim} (facts: d0): its bytes are not those that were written. The next refresh" in said


def test_a_lost_file_that_is_forgotten_is_named_no_more(home: Home) -> None:
    victim = min((home.experiments / "runs").glob("*.parquet"))
    victim.unlink()
    assert victim.name in str(verify_home(home).damages[0])
    assert forget(home, "experiments.runs") == [victim.name]
    assert not verify_home(home).damages
    assert pl.DataFrame(tables_at(home.experiments).query("SELECT count(*) AS n FROM runs"))["n"].item() == 2


def test_the_job_fails_and_names_each_damage(home: Home) -> None:
    """Somebody who never opens a shell looks at Dagster's runs."""
    resources = {"analytics": AnalyticsResource(home_path=str(home.path))}
    assert verify_job.execute_in_process(resources=resources).success
    [victim] = home.path.glob(KINDS["object"])
    flip(victim)

    failed = verify_job.execute_in_process(resources=resources, raise_on_error=False)

    assert not failed.success
    [event] = [event for event in failed.all_events if event.is_step_failure]
    assert victim.name in str(event.step_failure_data.user_failure_data)
