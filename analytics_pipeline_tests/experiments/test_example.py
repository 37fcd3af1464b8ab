"""The example that users begin with."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from analytics_pipeline.errors import ExtraMissing
from analytics_pipeline.experiments import leaderboard, metric_trend
from analytics_pipeline.objects import DataStore
from analytics_pipeline_tests.experiments.scenario import rows
from analytics_pipeline_tests.workplace import REPOSITORY


def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_sweep", REPOSITORY / "examples" / "digits_sweep.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "digits_sweep", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    return load(monkeypatch)


def test_the_sweep_learns_and_logs_what_it_did(example: ModuleType, root: Path) -> None:
    chosen = [config for config in example.CONFIGS if config.hidden_dim == 32 and config.lr in {0.001, 0.01, 0.1}]
    assert len(example.CONFIGS) == 30
    assert list(example.sweep(root, chosen)) == [f"digits_{number:03d}" for number in range(1, 7)]
    board = leaderboard(root=root)

    assert board["best_f1"][0] > 0.9
    assert set(board["status"]) == {"done"}
    assert set(board["epochs_completed"]) == {example.EPOCHS}
    assert board.schema["hidden_dim"].is_integer()
    assert metric_trend("digits_001", root=root).height == 4 * example.EPOCHS


def test_the_confusion_matrix_of_a_run_is_that_of_its_last_epoch(example: ModuleType, root: Path) -> None:
    example.train("r", example.CONFIGS[-1], root)
    url = json.loads(rows(root / "analytics.duckdb", "SELECT fields FROM runs")[0][0])["result"]
    matrix = DataStore.from_url(url).confusion_matrix

    assert matrix.sum(axis=1).tolist() == np.bincount(example.digits("test")[1]).tolist()
    accuracies = metric_trend("r", ["val_accuracy"], root=root)["value"]
    assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracies[-1])


@pytest.mark.parametrize("augmented", [False, True])
def test_a_run_gives_the_same_figures_again(example: ModuleType, root: Path, augmented: bool) -> None:  # noqa: FBT001 - a config's
    for run_id in ("first", "again"):
        example.train(run_id, example.Config(0.03, 16, augmented), root)

    assert metric_trend("first", root=root).equals(metric_trend("again", root=root))


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ExtraMissing, match=r"analytics_pipeline\[examples\]"):
        load(monkeypatch)
