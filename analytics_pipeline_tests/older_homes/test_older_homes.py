"""What an older release wrote still opens, answers, takes new rows and is refreshed."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, DuckDBBackend, ParquetBackend
from analytics_pipeline.experiments import leaderboard, log_metrics, log_run
from analytics_pipeline.objects import load_experiment
from analytics_pipeline.store import open_store
from analytics_pipeline_tests.capabilities.scenario import example
from analytics_pipeline_tests.workplace import Workplace

ARCHIVES = sorted(Path(__file__).parent.glob("*.tar.xz"))
EXPERIMENT = "00000000-0000-4000-8000-000000000001"
ROWS = {"human_signals_dataset": 26, "human_signals_results": 104, "human_signals_cases": 26}


@pytest.fixture(params=ARCHIVES, ids=lambda path: str(path.name.partition(".")[0]))
def older(request: pytest.FixtureRequest, tmp_path: Path, sample_urls: Mapping[str, str]) -> Workplace:
    """A working folder that an older release filled."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path / "older", filter="data")
    workplace = Workplace(tmp_path / "workplace", sample_urls)
    shutil.copytree(tmp_path / "older" / "workplace", workplace.folder, dirs_exist_ok=True)
    return workplace


def _count(workplace: Workplace, table: str) -> int:
    store = open_store(workplace.home / "store")
    try:
        return int(store.query(f"SELECT count(*) FROM {table}").item())
    finally:
        store.close()


def test_an_older_store_answers_and_is_refreshed(older: Workplace) -> None:
    """An upgrade that loses or doubles a row, or asks for a rebuild by hand, would be found out too late."""
    version = older.version()
    assert {name: _count(older, name) for name in ROWS} == ROWS

    done = older.execute("human_signals_refresh_job")

    assert done.returncode == 0, done.stdout
    assert older.version() > version
    with psycopg.connect(older.environment["HUMAN_SIGNALS_DB_URL"]) as source:
        row = source.execute("SELECT count(*) FROM feedback").fetchone()
    assert row is not None
    assert _count(older, "human_signals_results") == row[0]


def test_older_runs_of_dagster_stay_in_its_history(older: Workplace) -> None:
    before = older.events()
    with closing(sqlite3.connect(older.folder / ".dagster" / "storage" / "history" / "runs.db")) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("SUCCESS",)]

    assert older.execute("human_signals_refresh_job").returncode == 0

    after = older.events()
    assert after[: len(before)] == before
    assert len(after) > len(before) > 0


def test_older_records_are_known_and_new_ones_join_them(older: Workplace) -> None:
    for backend in (
        ParquetBackend(older.home / "store" / "capabilities"),
        DuckDBBackend(older.home / "records.duckdb"),
    ):
        store = AnalyticsStore(backend)
        for uid in "bcd":
            backend.write([example(uid)])

        assert store.query_sql("SELECT run_uid FROM example ORDER BY 1")["run_uid"].to_list() == list("abcd")


def test_an_older_lakehouse_takes_new_runs(older: Workplace) -> None:
    root = older.home / "store" / "experiments"
    log_run("run_3", {"lr": 0.4, "depth": 3}, root=root)
    log_metrics("run_3", 0, {"val_f1": 0.9, "val_loss": 0.1}, root=root)
    log_run("run_2", {"lr": 0.3, "depth": 2}, "done", root=root)

    ranked = leaderboard(root=root)

    assert ranked["run_id"].to_list()[0] == "run_3"
    assert sorted(ranked["run_id"]) == [f"run_{n}" for n in range(4)]


def test_older_objects_come_back_as_they_were(older: Workplace) -> None:
    pandas = pytest.importorskip("pandas")
    fields = load_experiment(EXPERIMENT, base=older.home / "objects").runs.first().fields

    assert fields.accuracy == 0.93
    assert np.array_equal(fields.kept.matrix, np.eye(3))
    assert fields.kept.text == "Grüße"
    assert fields.kept.polars.equals(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["r", "s"])
    pandas.testing.assert_frame_equal(fields.kept.pandas, frame)
