"""The import of a lakehouse that was written by the seed's own functions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import LakehouseNotImported
from analytics_pipeline.experiments import log_metrics, log_run
from analytics_pipeline.experiments.__main__ import main
from analytics_pipeline.experiments.importing import import_lakehouse
from analytics_pipeline_tests.experiments.scenario import (
    CONFIGS,
    F1,
    LOSS,
    assert_queries_of_the_page_are_right,
    rows,
)


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
    about = {"dataset_id": ["d"], "name": ["digits"], "num_samples": [3], "path": ["x"], "extra": [1]}
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
    with pytest.raises(LakehouseNotImported, match=r"needs a run_id in every row"):
        import_lakehouse(folder, root)
    assert not (root / "runs").exists()
