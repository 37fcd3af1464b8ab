"""Exports: strict JSON, whole files, the commands that write them."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from analytics_pipeline.errors import ExportFailed, ExportRefused, LakehouseUnusable
from analytics_pipeline.experiments import log_metrics, log_run
from analytics_pipeline.experiments.__main__ import main
from analytics_pipeline.experiments.exports import export
from analytics_pipeline.experiments.importing import import_lakehouse
from analytics_pipeline_tests.experiments.scenario import CONFIGS, F1, LOSS, log_all, rows


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def strictly(path: Path) -> list[dict[str, object]]:
    found = json.loads(path.read_text(), parse_constant=refuse)
    assert isinstance(found, list)
    return found


def test_the_leaderboard_is_exported_as_records_in_its_order(root: Path) -> None:
    log_all(root)
    folder = export(root).folder
    records = strictly(folder / "leaderboard.json")

    assert folder == root.parent / "exports"
    assert [record["run_id"] for record in records] == ["r2", "r1", "r3"]
    assert records[1] == {
        "run_id": "r1",
        "status": "done",
        **CONFIGS["r1"],
        "best_f1": 0.6,
        "best_acc": None,
        "epochs_completed": 3,
    }


def test_nan_and_infinity_are_null_in_the_trends(root: Path) -> None:
    log_all(root)
    log_metrics("r1", 4, {"val_loss": float("inf")}, root=root)
    records = strictly(export(root).folder / "metric_trends.json")
    found = {(one["run_id"], one["epoch"], one["metric"]): one["value"] for one in records}

    assert found["r3", 2, "val_f1"] is None
    assert found["r1", 4, "val_loss"] is None
    assert found["r2", 1, "val_loss"] == LOSS["r2"][0]
    assert list(found) == sorted(found)
    assert len(found) == 1 + 2 * sum(map(len, F1.values()))


def test_times_of_an_imported_lakehouse_are_text(root: Path, tmp_path: Path) -> None:
    started = datetime(2026, 1, 1, 12, tzinfo=UTC)
    pl.DataFrame({"run_id": ["r"], "status": ["done"], "started": [started], "day": [started.date()]}).write_parquet(
        tmp_path / "runs.parquet"
    )
    import_lakehouse(tmp_path, root)

    (record,) = strictly(export(root).folder / "leaderboard.json")

    assert str(record["started"]).startswith("2026-01-01T12:00:00")
    assert record["day"] == "2026-01-01"


def test_trends_are_those_of_the_best_runs_and_of_chosen_metrics(root: Path) -> None:
    log_all(root)
    records = strictly(export(root, metrics=["val_loss"], top=2).folder / "metric_trends.json")

    assert {(record["run_id"], record["metric"]) for record in records} == {("r1", "val_loss"), ("r2", "val_loss")}


def test_an_export_replaces_what_was_there_and_leaves_no_draft(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for run_id in ("a", "b"):
        log_run(run_id, {}, root=root)
        export(root, folder)

    assert len(strictly(folder / "leaderboard.json")) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "leaderboard.json", "metric_trends.json"]


def test_a_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    log_all(root)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportFailed, match=re.escape(str(tmp_path / "file"))):
        export(root, tmp_path / "file" / "exports")


def test_fewer_than_no_runs_are_refused_by_name(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_all(root)
    with pytest.raises(ExportRefused, match="top is -1"):
        export(root, tmp_path / "out", top=-1)
    assert main(["export", "--root", str(root), "--to", str(tmp_path / "out"), "--top", "-1"]) == 1

    assert "top is -1, but must be" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_run_at_all_may_have_trends(root: Path) -> None:
    log_all(root)

    assert export(root, top=0).points == 0


def test_whole_numbers_are_exact_in_the_files(root: Path) -> None:
    log_run("r", {"seed": 2**62 + 1}, root=root)
    (record,) = strictly(export(root).folder / "leaderboard.json")

    assert record["seed"] == 2**62 + 1


def test_one_metric_is_named_without_a_list(root: Path) -> None:
    log_all(root)
    records = strictly(export(root, metrics="val_f1", top=10**20).folder / "metric_trends.json")

    assert {(record["run_id"], record["metric"]) for record in records} == {(run, "val_f1") for run in F1}


def test_a_root_in_which_nothing_was_logged_is_refused_and_nothing_written_beside_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo of the root once had an empty export beside it."""
    log_all(root)
    for typo in (root.parent / "typo", tmp_path):
        with pytest.raises(ExportRefused, match=re.escape(str(typo))):
            export(typo)
        assert not (typo.parent / "exports").exists()
    assert main(["export", "--root", "/"]) == 1

    assert "root is '/'" in capsys.readouterr().err


def test_the_lakehouse_of_a_home_is_exported_as_empty_lists_before_anything_was_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    folder = export().folder

    assert folder == tmp_path / "home" / "exports"
    assert strictly(folder / "leaderboard.json") == []
    assert strictly(folder / "metric_trends.json") == []


def test_the_commands_build_and_export_without_dagster(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_all(root)
    (root / "analytics.duckdb").unlink()

    assert main(["build", "--root", str(root), "--best", "loss=min:val_loss"]) == 0
    assert (root / "analytics.duckdb").exists()
    assert main(["export", "--root", str(root), "--to", str(tmp_path / "out"), "--metric", "val_f1", "--top", "1"]) == 0
    assert [record["run_id"] for record in strictly(tmp_path / "out" / "leaderboard.json")] == ["r3", "r2", "r1"]
    assert "Exported 3 runs and 3 points" in capsys.readouterr().out
    assert main(["build", "--root", str(root), "--best", "nonsense"]) == 1
    assert "The leaderboard's metric 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "half\udc80", "no\0thing"])
def test_a_path_that_cannot_be_one_fails_by_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    log_all(root)
    pl.DataFrame({"run_id": ["a"]}).write_parquet(tmp_path / "runs.parquet")
    commands = [
        ["build", "--root", path],
        ["export", "--root", path],
        ["export", "--root", str(root), "--to", path],
        ["import", path, "--root", str(root)],
        ["import", str(tmp_path), "--root", path],
    ]
    for command in commands:
        assert main(command) == 1
        assert f"{path!r}" in capsys.readouterr().err
    with pytest.raises(LakehouseUnusable, match=re.escape(repr(path))):
        log_run("a", {}, root=path)


@pytest.mark.parametrize("command", ["build", "export", "import"])
def test_a_root_that_cannot_be_one_fails_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "file").write_text("")
    pl.DataFrame({"run_id": ["a"]}).write_parquet(tmp_path / "runs.parquet")
    given = [str(tmp_path)] if command == "import" else []

    assert main([command, *given, "--root", str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert str(tmp_path / "file") in said.err


def test_a_build_that_made_no_file_fails_and_says_why(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It once said that it had built the file, and nobody saw new runs."""
    log_run("a", {}, root=root)
    (root / "analytics.duckdb").unlink()
    (root / "analytics.duckdb" / "in the way").mkdir(parents=True)

    assert main(["build", "--root", str(root)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{root / 'analytics.duckdb'} could not be used" in said.err
    shutil.rmtree(root / "analytics.duckdb")
    assert main(["build", "--root", str(root)]) == 0
    assert rows(root / "analytics.duckdb", "SELECT run_id FROM runs") == [("a",)]
