"""What is derived can be thrown away: copies, index, views."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from analytics_pipeline.experiments import leaderboard, log_metrics, log_run, metric_trend
from analytics_pipeline.experiments.__main__ import main
from analytics_pipeline.experiments.build import build
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline.store import create_store
from analytics_pipeline.store.commit import refresh_catalog
from analytics_pipeline.store.layout import Layout
from analytics_pipeline_tests.experiments.scenario import (
    F1,
    assert_queries_of_the_page_are_right,
    log_all,
    rows,
)


@pytest.fixture
def compacted(tmp_path: Path) -> Path:
    """A lakehouse in a store, each of its tables in a copy; one file of another name is among them."""
    root = tmp_path / "it's a home" / "store" / "experiments"
    create_store(root.parent)
    log_all(root)
    now = datetime.now(UTC)
    foreign = {"run_id": ["r1"], "epoch": [1], "metric": ["other"], "value": [0.5], "logged_at": [now]}
    pl.DataFrame(foreign).write_parquet(root / "metrics" / "foreign.parquet")
    tables_at(root).compact()
    assert len(list((root / ".compacted").iterdir())) == 3
    return root


def lose(root: Path, lost: str) -> None:
    """Throw away all copies, or one of them."""
    if lost == "all":
        shutil.rmtree(root / ".compacted")
    else:
        next(iter(sorted((root / ".compacted").glob("metrics-*")))).unlink()


@pytest.mark.parametrize("lost", ["all", "one"])
def test_copies_that_were_thrown_away_are_missed_by_no_reader(compacted: Path, lost: str) -> None:
    lose(compacted, lost)
    code = (
        "import sys; from analytics_pipeline.experiments import leaderboard; "
        "print(*leaderboard(root=sys.argv[1])['run_id'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(compacted)], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == ["r2", "r1", "r3"]
    assert leaderboard(root=compacted)["run_id"].to_list() == ["r2", "r1", "r3"]
    assert metric_trend("r1", "val_f1", root=compacted)["value"].to_list() == F1["r1"]


@pytest.mark.parametrize("lost", ["all", "one"])
@pytest.mark.parametrize("then", ["log", "build", "read and log"])
def test_views_are_whole_again_after_the_next_write_and_after_a_build(compacted: Path, lost: str, then: str) -> None:
    lose(compacted, lost)
    if then == "read and log":
        assert leaderboard(root=compacted).height == 3
    if then == "build":
        build(compacted)
    else:
        log_metrics("r1", 1, {"another": 1.0}, root=compacted)

    for database, schema in (
        (compacted / "analytics.duckdb", "main"),
        (compacted.parent / "catalog.duckdb", "experiments"),
    ):
        assert_queries_of_the_page_are_right(database, schema)
        assert rows(database, "SELECT value FROM metrics WHERE metric = 'other'", schema) == [(0.5,)]


def test_a_catalog_that_somebody_else_renews_has_all_views_without_the_copies(compacted: Path) -> None:
    """A sync commits, and knows nothing of the lakehouse's index."""
    lose(compacted, "all")
    refresh_catalog(Layout(compacted.parent))

    assert_queries_of_the_page_are_right(compacted.parent / "catalog.duckdb", "experiments")


def test_files_are_copied_anew_where_their_copies_were_lost(compacted: Path) -> None:
    lose(compacted, "all")
    tables_at(compacted).compact()

    assert len(list((compacted / ".compacted").iterdir())) == 3
    assert_queries_of_the_page_are_right(compacted / "analytics.duckdb", "main")


def test_index_and_copies_and_views_can_be_lost_together(compacted: Path) -> None:
    lose(compacted, "all")
    for path in (*compacted.glob(".index.sqlite*"), compacted / ".views.json", compacted / "analytics.duckdb"):
        path.unlink()
    log_run("r1", {}, "done", root=compacted)

    assert_queries_of_the_page_are_right(compacted / "analytics.duckdb", "main")


def test_a_lakehouse_that_was_moved_has_its_views_after_a_build(root: Path, tmp_path: Path) -> None:
    log_all(root)
    moved = root.rename(tmp_path / "moved")

    assert leaderboard(root=moved)["run_id"].to_list() == ["r2", "r1", "r3"]
    build(moved)
    assert_queries_of_the_page_are_right(moved / "analytics.duckdb", "main")


def test_a_build_that_cannot_make_a_view_fails_and_names_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It once said that it had built the file, and the leaderboard was not there."""
    (root / "runs").mkdir(parents=True)
    pl.DataFrame({"run_id": ["b"], "Status": ["x"]}).write_parquet(root / "runs" / "foreign.parquet")

    assert main(["build", "--root", str(root)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{root / 'analytics.duckdb'} could not be used: the view" in said.err
    assert "the view runs cannot be made" in said.err
    assert "Status" in said.err
