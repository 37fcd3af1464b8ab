"""The example that users begin with."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from analytics_pipeline.experiments import leaderboard, metric_trend
from analytics_pipeline.objects import DataStore
from analytics_pipeline_tests.experiments.scenario import rows
from analytics_pipeline_tests.workplace import REPOSITORY


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_sweep", REPOSITORY / "examples" / "digits_sweep.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "digits_sweep", module)
    spec.loader.exec_module(module)
    return module


def test_the_sweep_learns_and_logs_what_it_did(
    example: ModuleType, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    chosen = [config for config in example.CONFIGS if config.hidden_dim == 32 and config.lr in {0.01, 0.1, 1}]
    assert len(example.CONFIGS) == 30
    assert list(example.sweep(root, chosen)) == [f"digits_{number:03d}" for number in range(1, 7)]
    board = leaderboard(root=root)

    assert board["best_f1"][0] > 0.9
    assert set(board["status"]) == {"done"}
    assert set(board["epochs_completed"]) == {example.EPOCHS}
    assert board.schema["hidden_dim"].is_integer()
    assert metric_trend("digits_001", root=root).height == 4 * example.EPOCHS
    url = json.loads(rows(root / "analytics.duckdb", "SELECT fields FROM runs LIMIT 1")[0][0])["result"]
    assert DataStore.from_url(url).confusion_matrix.sum() == len(example.digits("test")[1])
