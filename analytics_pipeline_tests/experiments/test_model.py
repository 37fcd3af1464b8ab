"""Whatever is logged in whatever order: the views show what a plain dictionary holds."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from analytics_pipeline.experiments import leaderboard, log_metrics, log_run, metric_trend
from analytics_pipeline.experiments.reading import frame, opened
from analytics_pipeline.experiments.tables import tables_at
from analytics_pipeline_tests.thinning import run_histories, thinned

RUNS = st.sampled_from(["a", "b", "run c"])
VALUES = st.one_of(st.integers(-3, 3), st.floats(-1, 1), st.just(math.nan))
CONFIGS = st.dictionaries(st.sampled_from(["lr", "hidden dim", "x"]), st.one_of(st.integers(0, 9), st.floats(0, 1)))


class Logged(RuleBasedStateMachine):
    """The latest status and config of each run, the latest value of each epoch and metric."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name, "lake")
        self.statuses: dict[str, str] = {}
        self.configs: dict[str, dict[str, float]] = {}
        self.experiments: dict[str, str] = {}
        self.values: dict[tuple[str, int, str], float] = {}

    @rule(
        run_id=RUNS,
        config=CONFIGS,
        status=st.sampled_from(["running", "done", "failed"]),
        experiment=st.sampled_from([None, "e", "f"]),
    )
    def run(self, run_id: str, config: dict[str, float], status: str, experiment: str | None) -> None:
        log_run(run_id, config, status, experiment_id=experiment, root=self.root)
        self.statuses[run_id] = status
        if experiment:
            self.experiments[run_id] = experiment
        if config:
            self.configs[run_id] = config

    @rule(run_id=RUNS, epoch=st.integers(0, 2), values=st.dictionaries(st.sampled_from(["val_f1", "loss"]), VALUES))
    def metrics(self, run_id: str, epoch: int, values: dict[str, float]) -> None:
        log_metrics(run_id, epoch, values, root=self.root)
        self.values.update({(run_id, epoch, name): float(value) for name, value in values.items()})

    @rule()
    def compact(self) -> None:
        tables_at(self.root).compact()

    @rule()
    def throw_copies_away(self) -> None:
        shutil.rmtree(self.root / ".compacted", ignore_errors=True)

    @invariant()
    def the_trends_are_the_latest_values(self) -> None:
        for run_id in ("a", "b", "run c"):
            found = {(epoch, name): value for epoch, name, value in metric_trend(run_id, root=self.root).iter_rows()}
            wanted = {(epoch, name): value for (run, epoch, name), value in self.values.items() if run == run_id}
            assert repr(found) == repr(dict(sorted(wanted.items())))

    @invariant()
    def the_leaderboard_is_reckoned_from_them(self) -> None:
        board = leaderboard(root=self.root)
        assert board["run_id"].to_list() == sorted(self.statuses, key=self.rank)
        for row in board.iter_rows(named=True):
            run_id = row["run_id"]
            epochs = [epoch for run, epoch, _ in self.values if run == run_id]
            assert row["status"] == self.statuses[run_id]
            assert row["epochs_completed"] == max(epochs, default=None)
            assert row["best_f1"] == self.best(run_id)
            config = self.configs.get(run_id, {})
            for key in ("lr", "hidden dim", "x"):
                assert row.get(key) == config.get(key)

    @invariant()
    def the_runs_have_all_that_was_said_of_them(self) -> None:
        with opened(self.root, ["runs"]) as connection:
            found = frame(connection, "SELECT * FROM runs ORDER BY run_id").to_dicts()
        assert [row["run_id"] for row in found] == sorted(self.statuses)
        for row in found:
            run_id = row["run_id"]
            assert (row["status"], row["experiment_id"]) == (self.statuses[run_id], self.experiments.get(run_id))
            for key in ("lr", "hidden dim", "x"):
                assert row.get(key) == self.configs.get(run_id, {}).get(key)

    def best(self, run_id: str) -> float | None:
        known = [value for (run, _, name), value in self.values.items() if run == run_id and name == "val_f1"]
        return max((value for value in known if not math.isnan(value)), default=None)

    def rank(self, run_id: str) -> tuple[bool, float, str]:
        best = self.best(run_id)
        return best is None, -(best or 0), run_id

    def teardown(self) -> None:
        self.folder.cleanup()


@pytest.mark.parametrize("examples", thinned([5, 40], 2))
def test_views_show_what_was_logged_last(examples: int) -> None:
    """Short histories in each build, long ones in the slow suite."""
    run_histories(Logged, examples, steps=12)
