"""The views: what counts of what was logged, the leaderboard, the queries of the page."""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import HyperparameterUnknown, RankingRefused
from analytics_pipeline.experiments import (
    Best,
    Goal,
    hyperparameter_impact,
    leaderboard,
    log_config,
    log_metrics,
    log_run,
    metric_trend,
)
from analytics_pipeline.experiments.build import build
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline.store import create_store
from analytics_pipeline.store.append.derived import DerivedViews, write_derived
from analytics_pipeline_tests.experiments.scenario import (
    CONFIGS,
    F1,
    LOSS,
    assert_queries_of_the_page_are_right,
    log_all,
    rows,
)

VIEWS = {"runs", "metrics", "configs", "datasets", "artifacts", "leaderboard"}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The root of a lakehouse in a store that publishes."""
    store = tmp_path / "it's a home" / "store"
    create_store(store)
    return store / "experiments"


def test_the_queries_of_the_page_are_right_in_the_file_of_views(root: Path) -> None:
    log_all(root)

    assert_queries_of_the_page_are_right(root / "analytics.duckdb", "main")


def test_the_queries_of_the_page_are_right_in_the_published_catalog(published: Path) -> None:
    log_all(published)

    assert_queries_of_the_page_are_right(published.parent / "catalog.duckdb", "experiments")


@pytest.mark.parametrize("compacted", ["small files", "copies"])
def test_the_store_answers_for_the_views_in_a_schema_of_their_own(published: Path, compacted: str) -> None:
    log_all(published)
    if compacted == "copies":
        tables_at(published).compact()
    store = create_store(published.parent)

    assert store.query("SELECT run_id FROM experiments.leaderboard")["run_id"].to_list() == ["r2", "r1", "r3"]
    assert store.query("SELECT count(*) FROM experiments_raw.runs").item() == 6


def test_all_views_are_there_before_anything_but_one_metric_is_logged(root: Path, published: Path) -> None:
    for folder in (root, published):
        log_metrics("r", 1, {"val_f1": 1}, root=folder)
    found = rows(
        root / "analytics.duckdb", "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
    )

    assert {name for (name,) in found} >= VIEWS
    assert rows(root / "analytics.duckdb", "FROM leaderboard") == []
    assert rows(published.parent / "catalog.duckdb", "FROM leaderboard", "experiments") == []


def test_later_rows_are_seen_without_a_rebuild(root: Path) -> None:
    log_run("a", {"lr": 0.1}, root=root)
    log_metrics("a", 1, {"val_f1": 0.1}, root=root)
    with duckdb.connect(str(root / "analytics.duckdb"), read_only=True) as connection:
        log_run("b", {"lr": 0.2}, root=root)
        log_metrics("b", 1, {"val_f1": 0.2}, root=root)
        assert connection.execute("SELECT run_id FROM leaderboard").fetchall() == [("b",), ("a",)]


def test_a_new_hyperparameter_is_a_new_column_without_a_rebuild(root: Path, published: Path) -> None:
    for folder in (root, published):
        log_run("a", {"lr": 0.1}, root=folder)
        log_run("b", {"lr": 0.1, "weight decay": 3}, root=folder)
    sql = 'SELECT run_id, "weight decay" FROM leaderboard ORDER BY 1'

    assert rows(root / "analytics.duckdb", sql) == [("a", None), ("b", 3)]
    assert rows(published.parent / "catalog.duckdb", sql, "experiments") == [("a", None), ("b", 3)]


def test_the_file_holds_views_only_and_is_made_anew_when_it_was_lost(root: Path) -> None:
    log_all(root)
    database = root / "analytics.duckdb"
    assert rows(database, "SELECT count(*) FROM duckdb_tables()") == [(0,)]
    database.unlink()
    build(root)

    assert_queries_of_the_page_are_right(database, "main")


def test_the_file_of_views_outlives_the_copies_that_it_listed(root: Path) -> None:
    """It lists copies by name; whoever replaces them must renew it, or it would break an hour later."""
    for epoch in range(4):
        log_metrics("r", epoch, {"val_f1": epoch}, root=root)
        tables_at(root).compact()
    tables_at(root).sweep(timedelta(0))

    assert rows(root / "analytics.duckdb", "SELECT count(*), max(value) FROM metrics") == [(4, 3.0)]


def test_what_a_killed_process_left_of_the_file_of_views_stands_in_nobodys_way(root: Path) -> None:
    log_all(root)
    (root / ".analytics.duckdb.new").write_bytes(b"half a file")
    (root / ".analytics.duckdb.new.wal").write_bytes(b"half a log")
    build(root)

    assert_queries_of_the_page_are_right(root / "analytics.duckdb", "main")
    assert not list(root.glob(".analytics*"))


def test_it_works_from_any_working_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    log_run("r", {}, root=".")
    monkeypatch.chdir("/")

    assert rows(root / "analytics.duckdb", "SELECT run_id FROM leaderboard") == [("r",)]


def test_runs_without_configs_or_metrics_stay_in_and_come_last_by_name(root: Path) -> None:
    for run_id in ("z", "a", "m"):
        log_run(run_id, {}, root=root)
    log_metrics("m", 1, {"val_f1": -3.0}, root=root)

    assert leaderboard(root=root)["run_id"].to_list() == ["m", "a", "z"]


def test_ties_are_ordered_by_run(root: Path) -> None:
    for run_id in ("c", "a", "b"):
        log_run(run_id, {}, root=root)
        log_metrics(run_id, 1, {"val_f1": 0.5}, root=root)

    assert leaderboard(root=root)["run_id"].to_list() == ["a", "b", "c"]


def test_nan_is_nobodys_best(root: Path) -> None:
    log_all(root)
    log_run("only-nan", {}, root=root)
    log_metrics("only-nan", 1, {"val_f1": float("nan")}, root=root)
    best = dict(leaderboard(root=root).select("run_id", "best_f1").iter_rows())

    assert best == {"r1": 0.6, "r2": 0.7, "r3": 0.3, "only-nan": None}


def test_a_minimised_metric_ranks_ascending_everywhere_once_it_was_chosen(published: Path) -> None:
    log_all(published)
    build(published, [Best("lowest loss", "val_loss", Goal.MIN), Best("best_f1", "val_f1")])
    expected = [(run, min(LOSS[run])) for run in sorted(LOSS, key=lambda run: min(LOSS[run]))]
    sql = 'SELECT run_id, "lowest loss" FROM leaderboard'

    assert leaderboard(root=published).select("run_id", "lowest loss").rows() == expected
    assert rows(published / "analytics.duckdb", sql) == expected
    assert rows(published.parent / "catalog.duckdb", sql, "experiments") == expected
    log_run("later", {"new": 1}, root=published)
    assert rows(published / "analytics.duckdb", sql) == [*expected, ("later", None)]


def test_a_ranking_can_be_asked_for_once(root: Path) -> None:
    log_all(root)
    ranking = [Best("loss", "val_loss", Goal.MIN)]

    assert leaderboard(ranking=ranking, root=root)["loss"].to_list() == [0.2, 0.3, 0.4]
    assert "loss" not in leaderboard(root=root).columns


@pytest.mark.parametrize(
    "ranking",
    [
        [],
        [Best("run_id", "x")],
        [Best("a", "x"), Best("A", "y")],
        [Best("A", "x"), Best("a", "y")],
        [Best("", "x")],
        [Best("a", "")],
        [Best("a\0b", "x")],
        [Best("a", "x\0")],
        [Best("a\udc80", "x")],
        [Best("a", "\ud800")],
    ],
)
def test_a_ranking_without_columns_of_its_own_is_refused(root: Path, ranking: list[Best]) -> None:
    with pytest.raises(RankingRefused):
        build(root, ranking)
    with pytest.raises(RankingRefused):
        leaderboard(ranking=ranking, root=root)


@pytest.mark.parametrize("column", ["a\0b", "a\ud800", "run_id", 5])
def test_a_stored_ranking_that_cannot_work_stops_no_logging(
    root: Path, caplog: pytest.LogCaptureFixture, column: object
) -> None:
    log_all(root)
    stored = json.loads((root / ".views.json").read_text())
    stored["settings"] = [{"column": column, "metric": "val_f1", "goal": "max"}]
    (root / ".views.json").write_text(json.dumps(stored))
    log_metrics("r1", 9, {"val_f1": 0.9}, root=root)

    assert "ranks as it does by default" in caplog.text
    assert rows(root / "analytics.duckdb", "SELECT run_id, best_f1 FROM leaderboard LIMIT 1") == [("r1", 0.9)]


def test_a_hyperparameter_called_like_a_column_of_the_leaderboard_stays_in_configs(root: Path) -> None:
    log_run("r", {"best_f1": 5, "epochs_completed": 7, "lr": 1}, root=root)

    assert leaderboard(root=root).columns == ["run_id", "status", "lr", "best_f1", "best_acc", "epochs_completed"]
    assert rows(root / "analytics.duckdb", "SELECT best_f1 FROM configs") == [(5,)]


def test_an_integer_and_a_fraction_are_one_number_column(root: Path) -> None:
    """A sweep logs lr=1, then lr=0.1."""
    log_config("a", {"lr": 1}, root=root)
    log_config("b", {"lr": 0.1}, root=root)
    log_config("c", {"lr": 2}, root=root)
    sql = "SELECT run_id, lr, typeof(lr) FROM configs ORDER BY run_id"
    expected = [("a", 1.0, "DOUBLE"), ("b", 0.1, "DOUBLE"), ("c", 2.0, "DOUBLE")]

    assert rows(root / "analytics.duckdb", sql) == expected
    tables_at(root).compact()
    assert rows(root / "analytics.duckdb", sql) == expected
    assert leaderboard(root=root).is_empty()


def test_other_types_together_are_text_also_in_copies_and_beside_them(root: Path) -> None:
    log_config("a", {"augment": True}, root=root)
    log_config("b", {"augment": 2}, root=root)
    tables_at(root).compact()
    log_config("c", {"augment": 0.5}, root=root)
    log_config("d", {"augment": "all"}, root=root)

    assert rows(root / "analytics.duckdb", "SELECT augment FROM configs ORDER BY run_id") == [
        ("true",), ("2",), ("0.5",), ("all",),
    ]  # fmt: skip
    assert rows(root / "analytics.duckdb", "SELECT run_id FROM configs WHERE augment = '2'") == [("b",)]
    assert hyperparameter_impact("augment", "val_f1", root=root).is_empty()


def test_raw_files_keep_the_types_that_they_were_written_with(root: Path) -> None:
    log_config("a", {"lr": 1}, root=root)
    log_config("b", {"lr": 0.1}, root=root)

    types = [pq.read_schema(path).field("lr").type for path in sorted(root.glob("configs/*.parquet"))]
    assert types == [pa.int64(), pa.float64()]


def test_types_are_found_again_when_the_index_was_lost(root: Path) -> None:
    for run_id, value in (("a", 1), ("b", 0.1), ("c", 3)):
        log_config(run_id, {"lr": value, "x": value if run_id != "c" else True}, root=root)
    before = tables_at(root).columns("configs")
    tables_at(root).rebuild_index()

    assert sorted(tables_at(root).columns("configs")) == sorted(before)


def test_helper_queries_are_those_of_the_page(root: Path) -> None:
    log_all(root)
    impact = hyperparameter_impact("use_augmentation", "val_f1", root=root)

    assert impact.rows() == [
        (False, 1, F1["r2"][-1], F1["r2"][-1], F1["r2"][-1]),
        (True, 2, pytest.approx((F1["r1"][-1] + F1["r3"][-1]) / 2), F1["r1"][-1], F1["r3"][-1]),
    ]
    assert metric_trend("r2", ["val_loss"], root=root).rows() == [
        (epoch, "val_loss", value) for epoch, value in enumerate(LOSS["r2"], 1)
    ]
    assert metric_trend("r2", "val_loss", root=root).equals(metric_trend("r2", ["val_loss"], root=root))
    with pytest.raises(HyperparameterUnknown, match="lr, hidden_dim, use_augmentation"):
        hyperparameter_impact("nope", "val_f1", root=root)


@pytest.mark.parametrize("key", ["average", "highest", "lowest", "num_runs", "value", "epoch", "run", "Average"])
def test_a_hyperparameter_may_be_called_like_a_column_of_the_answer(root: Path, key: str) -> None:
    log_run("a", {key: 7}, root=root)
    log_metrics("a", 1, {"val_f1": 0.5}, root=root)

    assert hyperparameter_impact(key, "val_f1", root=root).rows() == [(7, 1, 0.5, 0.5, 0.5)]


def test_an_empty_lakehouse_has_an_empty_leaderboard_and_is_not_made_by_reading(root: Path) -> None:
    assert leaderboard(root=root).is_empty()
    assert not root.exists()


def test_a_view_that_does_not_bind_is_left_out_and_stops_no_commit(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_all(published)
    views = {
        "good": "SELECT run_id FROM experiments_raw.runs",
        "bad": "SELECT nothing FROM experiments_raw.runs",
        "evil": "SELECT 1; CREATE TABLE target.stolen (a INT)",
    }
    write_derived(published / ".views.json", DerivedViews({}, views))
    with caplog.at_level(logging.WARNING):
        tables_at(published).renew_views()
    catalog = published.parent / "catalog.duckdb"

    assert len(rows(catalog, "FROM experiments.good")) == 6
    names = rows(catalog, "SELECT view_name FROM duckdb_views() WHERE schema_name = 'experiments'")
    assert names == [("good",)]
    assert "bad" in caplog.text
    assert "evil" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", '{"tables": {"runs": [["a", "INT); DROP"]]}, "views": {}}'])
def test_a_damaged_file_of_views_leaves_the_tables_themselves(
    published: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    log_all(published)
    (published / ".views.json").write_text(content)
    tables_at(published).renew_views()

    assert rows(published.parent / "catalog.duckdb", "SELECT count(*) FROM experiments.runs") == [(6,)]
    assert "is passed over" in caplog.text
    log_run("r1", CONFIGS["r1"], root=published)
    assert os.stat(published / ".views.json").st_size > 100  # noqa: PTH116


@pytest.mark.parametrize("index", ["whole", "damaged"])
def test_a_backup_has_the_views_also_where_the_index_is_damaged(published: Path, tmp_path: Path, index: str) -> None:
    log_all(published)
    log_config("r1", {"lr": "auto"}, root=published)
    if index == "damaged":
        (published / ".index.sqlite").write_bytes(b"damaged" * 1000)
    create_store(published.parent).backup(tmp_path / "backup")
    store = create_store(tmp_path / "backup")

    assert store.query("SELECT run_id, lr FROM experiments.leaderboard").rows() == [
        ("r2", "0.1"),
        ("r1", "auto"),
        ("r3", "0.01"),
    ]
