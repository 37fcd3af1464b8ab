"""The import of a lakehouse that was written by the seed's own functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import LakehouseNotImported
from analytics_pipeline.experiments import leaderboard, log_metrics, log_run, metric_trend
from analytics_pipeline.experiments.__main__ import main
from analytics_pipeline.experiments.importing import import_lakehouse
from analytics_pipeline_tests.experiments.scenario import (
    CONFIGS,
    F1,
    LOSS,
    assert_queries_of_the_page_are_right,
    rows,
)

DAY = timedelta(days=1)
WHOLE: dict[str, dict[str, list[object]]] = {
    "runs": {"run_id": ["a", "b", "c"]},
    "configs": {"run_id": ["a", "b", "c"], "lr": [1, 2, 3]},
    "datasets": {"dataset_id": ["a", "b", "c"]},
    "metrics": {"run_id": ["a"] * 3, "epoch": [1, 2, 3], "metric": ["f1"] * 3, "value": [0.5] * 3},
}


def append(path: Path, new: pd.DataFrame) -> None:
    """As the page does it."""
    if path.exists():
        new = pd.concat([pd.read_parquet(path), new], ignore_index=True)
    new.to_parquet(path, index=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as the page's `log_run` and `log_metrics` leave it: configs stand in runs alone, NaN is NULL."""
    folder = tmp_path / "data" / "lakehouse"
    folder.mkdir(parents=True)
    for run_id, config in CONFIGS.items():
        for status in ("running", "done"):
            append(folder / "runs.parquet", pd.DataFrame([{"run_id": run_id, "status": status, **config}]))
        for epoch, (f1, loss) in enumerate(zip(F1[run_id], LOSS[run_id], strict=True), 1):
            metrics = {"val_f1": f1, "val_loss": loss}
            values = [{"run_id": run_id, "epoch": epoch, "metric": k, "value": v} for k, v in metrics.items()]
            append(folder / "metrics.parquet", pd.DataFrame(values))
    return folder


def test_the_queries_of_the_page_are_right_after_the_import(root: Path, old: Path) -> None:
    assert import_lakehouse(old, root) == {"runs": 6, "metrics": 16, "configs": 6}

    assert_queries_of_the_page_are_right(root / "analytics.duckdb", "main")
    assert rows(root / "analytics.duckdb", "SELECT run_id, status FROM runs ORDER BY 1") == [
        (run_id, "done") for run_id in sorted(CONFIGS)
    ]


def test_the_same_files_are_refused_the_second_time(root: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(old), "--root", str(root)]) == 0
    assert main(["import", str(old), "--root", str(root)]) == 1

    assert "imported before" in capsys.readouterr().err
    assert rows(root / "analytics.duckdb", "SELECT count(*) FROM experiments_raw.runs") == [(6,)]


def test_an_import_that_was_killed_before_it_was_noted_changes_no_view_when_done_again(root: Path, old: Path) -> None:
    import_lakehouse(old, root)
    log_metrics("r1", 3, {"val_f1": 0.55}, root=root)
    before = [
        rows(root / "analytics.duckdb", f"FROM {view} ORDER BY ALL") for view in ("runs", "configs", "leaderboard")
    ]
    (root / ".imports.json").unlink()
    import_lakehouse(old, root)

    after = [
        rows(root / "analytics.duckdb", f"FROM {view} ORDER BY ALL") for view in ("runs", "configs", "leaderboard")
    ]
    assert after == before


def test_what_is_logged_after_an_import_counts(root: Path, old: Path) -> None:
    import_lakehouse(old, root)
    log_run("r1", CONFIGS["r1"], "archived", root=root)

    assert rows(root / "analytics.duckdb", "SELECT status FROM runs WHERE run_id = 'r1'") == [("archived",)]


def test_configs_and_datasets_come_from_their_own_files_where_there_are(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    pq.write_table(pa.table({"run_id": ["a"], "status": ["done"]}), folder / "runs.parquet")
    pq.write_table(
        pa.table({"run_id": ["a"], "lr": pa.array([0.5], pa.float32()), "betas": [[0.9, 0.99]]}),
        folder / "configs.parquet",
    )
    names = {"run_id": ["a"], "epoch": [1.0], "metric_name": ["val_f1"], "value": [0.5]}
    pq.write_table(pa.table(names), folder / "metrics.parquet")
    about = {"dataset_id": ["d"], "name": ["digits"], "num_samples": [3], "path": ["x"]}
    pq.write_table(pa.table(about), folder / "datasets.parquet")
    import_lakehouse(folder, root)

    database = root / "analytics.duckdb"
    assert rows(database, "SELECT run_id, lr, betas FROM configs") == [("a", 0.5, "[0.9, 0.99]")]
    assert rows(database, "SELECT * EXCLUDE (logged_at) FROM datasets") == [("d", "digits", 3, "x")]
    assert rows(database, "SELECT run_id, epoch, metric, value FROM metrics") == [("a", 1, "val_f1", 0.5)]


@pytest.mark.parametrize("table", ["runs", "metrics"])
def test_files_that_hold_something_else_are_refused_by_name(root: Path, tmp_path: Path, table: str) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    with pytest.raises(LakehouseNotImported, match="none of"):
        import_lakehouse(folder, root)
    (folder / f"{table}.parquet").write_text("no Parquet")
    with pytest.raises(LakehouseNotImported, match="Nothing was changed"):
        import_lakehouse(folder, root)
    pq.write_table(pa.table({"run_id": ["a", None]}), folder / f"{table}.parquet")
    with pytest.raises(LakehouseNotImported, match=rf"{table}.parquet (has no run_id in row 2|lacks epoch, metric)"):
        import_lakehouse(folder, root)
    assert not (root / table).exists()


def one_file(folder: Path, table: str, columns: Mapping[str, object]) -> Path:
    """A folder with that file alone."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(dict(columns)), folder / f"{table}.parquet")
    return folder


def test_a_later_row_without_any_config_hides_none(root: Path, tmp_path: Path) -> None:
    """As a script leaves it that says `log_run(run_id, {}, "done")` in the end."""
    logged = {"run_id": ["a", "a", "b"], "status": ["running", "done", "done"], "lr": [0.5, None, None]}
    folder = one_file(tmp_path / "old", "runs", logged)

    assert import_lakehouse(folder, root) == {"runs": 3, "configs": 1}
    assert leaderboard(root=root).select("run_id", "status", "lr").rows() == [("a", "done", 0.5), ("b", "done", None)]
    again = one_file(tmp_path / "more", "configs", {"run_id": ["a", "a"], "lr": [0.7, None]})
    assert import_lakehouse(again, root) == {"configs": 1}
    assert leaderboard(root=root)["lr"].to_list() == [0.7, None]


def test_rows_without_a_moment_count_in_the_order_in_which_they_stand(root: Path, tmp_path: Path) -> None:
    empty = pa.array([None, None], pa.timestamp("us"))
    logged = {"run_id": ["a", "a"], "status": ["running", "done"], "logged_at": empty}
    import_lakehouse(one_file(tmp_path / "old", "runs", logged), root)
    database = root / "analytics.duckdb"

    assert rows(database, "SELECT status FROM runs") == [("done",)]
    log_run("a", {}, "archived", root=root)
    assert rows(database, "SELECT status FROM runs") == [("archived",)]


def test_rows_of_one_moment_count_in_the_order_in_which_they_stand(root: Path, tmp_path: Path) -> None:
    """A clock of whole seconds says of many rows that they are of one moment."""
    second = datetime(2026, 1, 1, tzinfo=UTC)
    values = [float(number) for number in range(100)]
    logged = {
        "run_id": ["a"] * 101,
        "epoch": [1] * 101,
        "metric": ["f1"] * 101,
        "value": [*values, -1.0],
        "logged_at": [second] * 100 + [second - DAY],
    }
    import_lakehouse(one_file(tmp_path / "old", "metrics", logged), root)

    assert metric_trend("a", root=root).rows() == [(1, "f1", 99.0)]


def test_a_moment_that_is_yet_to_come_wins_over_nothing_that_is_logged_later(root: Path, tmp_path: Path) -> None:
    moments = [datetime.now(UTC) - DAY, datetime(2999, 1, 1, tzinfo=UTC)]
    logged = {"run_id": ["a", "a"], "status": ["running", "done"], "logged_at": moments}
    import_lakehouse(one_file(tmp_path / "old", "runs", logged), root)
    database = root / "analytics.duckdb"

    assert rows(database, "SELECT status, logged_at < now() FROM runs") == [("done", True)]
    assert rows(database, "SELECT min(logged_at) FROM experiments_raw.runs") == [(moments[0],)]
    log_run("a", {}, "archived", root=root)
    assert rows(database, "SELECT status FROM runs") == [("archived",)]


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("runs", "run_id", ["a", "b", None]),
        ("runs", "run_id", ["a", "b", ""]),
        ("configs", "run_id", ["a", "b", ""]),
        ("datasets", "dataset_id", ["a", "b", None]),
        ("metrics", "run_id", ["a", "b", ""]),
        ("metrics", "epoch", [1, 2, None]),
        ("metrics", "metric", ["f1", "f1", None]),
        ("metrics", "metric", ["f1", "f1", ""]),
    ],
)
def test_a_row_without_what_names_it_is_refused_by_its_number(
    root: Path, tmp_path: Path, table: str, column: str, values: list[object]
) -> None:
    sound = "runs" if table == "datasets" else "datasets"
    folder = one_file(tmp_path / "old", table, WHOLE[table] | {column: values})
    one_file(folder, sound, WHOLE[sound])
    with pytest.raises(LakehouseNotImported, match=rf"{table}.parquet has no {column} in row 3"):
        import_lakehouse(folder, root)

    assert not (root / sound).exists()


@pytest.mark.parametrize("table", ["metrics", "datasets"])
def test_columns_that_have_no_place_are_refused_by_name(root: Path, tmp_path: Path, table: str) -> None:
    extra: dict[str, list[object]] = {"split": ["val"] * 3, "host": ["h"] * 3}
    with pytest.raises(LakehouseNotImported, match=f"{table} has no place for: 'split', 'host'"):
        import_lakehouse(one_file(tmp_path / "old", table, WHOLE[table] | extra), root)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"bin": [b"\xff"]}, "column 'bin' of runs.parquet"),
        ({"logged_at": [1]}, "column 'logged_at' of runs.parquet"),
        ({"lr": [1], "LR": [2]}, "'lr' and 'LR'"),
        ({"": [1]}, "the column ''"),
        ({"Status": ["done"]}, "'Status', which SQL does not tell apart from 'status'"),
        ({"EXPERIMENT_ID": ["e"]}, "'EXPERIMENT_ID', which SQL does not tell apart from 'experiment_id'"),
        ({"Logged_At": [datetime(2026, 1, 1, tzinfo=UTC)]}, "'Logged_At', which SQL does not tell apart"),
        ({"t": pa.array([10**12], pa.timestamp("s"))}, "column 't' of runs.parquet: .*after the year 9999"),
        ({"t": pa.array([-(10**12)], pa.timestamp("s", "UTC"))}, "column 't' of runs.parquet: .*before the year 1"),
        ({"t": pa.array([10**7], pa.date32())}, "column 't' of runs.parquet: .*after the year 9999"),
        ({"t": pa.array([[10**12]], pa.list_(pa.timestamp("s")))}, "column 't' of runs.parquet"),
        ({"logged_at": pa.array([10**14], pa.timestamp("s"))}, "column 'logged_at' of runs.parquet"),
    ],
)
def test_a_column_that_cannot_be_one_of_ours_is_refused_by_name(
    root: Path, tmp_path: Path, columns: dict[str, list[object]], named: str
) -> None:
    with pytest.raises(LakehouseNotImported, match=named):
        import_lakehouse(one_file(tmp_path / "old", "runs", {"run_id": ["a"], **columns}), root)


@pytest.mark.parametrize("column", ["fields", "status", "experiment_id", "Run_ID", "Fields"])
def test_a_config_that_is_called_like_a_column_of_runs_is_refused_by_name(
    root: Path, tmp_path: Path, column: str
) -> None:
    """It once was left out without a word."""
    with pytest.raises(LakehouseNotImported, match=f"configs.parquet has the column '{column}'"):
        import_lakehouse(one_file(tmp_path / "old", "configs", {"run_id": ["a"], column: ["x"], "lr": [1]}), root)

    assert not (root / "configs").exists()


def test_times_of_all_years_that_python_has_are_taken(root: Path, tmp_path: Path) -> None:
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    import_lakehouse(one_file(tmp_path / "old", "runs", {"run_id": ["a", "b"], "t": moments}), root)

    assert leaderboard(root=root)["t"].to_list() == moments


def test_a_root_that_is_a_file_is_refused_by_name(old: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakehouseNotImported, match=re.escape(str(tmp_path / "file"))):
        import_lakehouse(old, tmp_path / "file")


def test_durations_keep_their_unit(root: Path, tmp_path: Path) -> None:
    logged = {"run_id": ["a"], "took": pa.array([90], pa.duration("s"))}
    import_lakehouse(one_file(tmp_path / "old", "runs", logged), root)

    assert rows(root / "analytics.duckdb", "SELECT took FROM configs") == [("0:01:30",)]
