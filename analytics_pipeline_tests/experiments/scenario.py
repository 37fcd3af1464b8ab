"""Runs that tests log, and what is independently known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_pipeline.experiments import log_metrics, log_run

F1 = {"r1": [0.2, 0.6, 0.5], "r2": [0.7, 0.4], "r3": [0.3, math.nan, 0.3]}
LOSS = {"r1": [0.9, 0.4, 0.5], "r2": [0.8, 0.3], "r3": [0.7, 0.6, 0.2]}
CONFIGS: dict[str, dict[str, object]] = {
    "r1": {"lr": 1, "hidden_dim": 64, "use_augmentation": True},
    "r2": {"lr": 0.1, "hidden_dim": 32, "use_augmentation": False},
    "r3": {"lr": 0.01, "hidden_dim": 64, "use_augmentation": True},
}

TOP_TEN = """
-- Top 10 runs by F1 score
SELECT run_id, lr, hidden_dim, best_f1, epochs_completed
FROM leaderboard
LIMIT 10;
"""

IMPACT = """
-- Compare runs grouped by a config flag
SELECT
c.use_augmentation,
COUNT(*) AS num_runs,
AVG(m.value) AS avg_f1,
MAX(m.value) AS best_f1
FROM configs c
JOIN metrics m ON c.run_id = m.run_id
WHERE m.metric = 'val_f1'
AND m.epoch = (SELECT MAX(epoch) FROM metrics WHERE run_id = m.run_id)
GROUP BY c.use_augmentation;
"""

TREND = """
-- Loss and F1 over epochs for a specific run
SELECT epoch, metric, value
FROM metrics
WHERE run_id = 'run_20260101_001'
AND metric IN ('val_loss', 'val_f1')
ORDER BY epoch;
""".replace("run_20260101_001", "r1")


BEST_FIVE = """
SELECT run_id FROM leaderboard LIMIT 5
"""

TRENDS_OF_BEST = """
SELECT run_id, epoch, metric, value
FROM metrics
WHERE run_id = ANY($1) AND metric IN ('val_f1', 'val_loss')
ORDER BY run_id, epoch
"""


def log_all(root: Path) -> None:
    """Log the runs, each epoch by itself, and each of them as done in the end."""
    for run_id, config in CONFIGS.items():
        log_run(run_id, config, root=root)
        for epoch, (f1, loss) in enumerate(zip(F1[run_id], LOSS[run_id], strict=True), 1):
            log_metrics(run_id, epoch, {"val_f1": f1, "val_loss": loss}, root=root)
        log_run(run_id, config, "done", root=root)


def rows(
    database: Path, sql: str, schema: str = "main", params: Sequence[object] | None = None
) -> list[tuple[Any, ...]]:
    """What anybody's DuckDB answers who opens a file of views."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute(f"USE {schema}")
        return connection.execute(sql, params).fetchall()


def assert_queries_of_the_page_are_right(database: Path, schema: str) -> None:
    """Beside figures that were reckoned without any of it."""
    ranked = sorted(F1, key=lambda run: -max(value for value in F1[run] if not math.isnan(value)))
    assert rows(database, TOP_TEN, schema) == [
        (run, pytest.approx(CONFIGS[run]["lr"]), CONFIGS[run]["hidden_dim"], best, len(F1[run]))
        for run in ranked
        for best in [max(value for value in F1[run] if not math.isnan(value))]
    ]
    impact = {row[0]: row[1:] for row in rows(database, IMPACT, schema)}
    last = {run: F1[run][-1] for run in F1}
    assert impact == {
        True: (2, pytest.approx((last["r1"] + last["r3"]) / 2), max(last["r1"], last["r3"])),
        False: (1, pytest.approx(last["r2"]), last["r2"]),
    }
    trend = rows(database, TREND, schema)
    assert [row[0] for row in trend] == [1, 1, 2, 2, 3, 3]
    assert {(epoch, metric): value for epoch, metric, value in trend} == {
        (epoch, metric): value
        for metric, values in (("val_f1", F1["r1"]), ("val_loss", LOSS["r1"]))
        for epoch, value in enumerate(values, 1)
    }
    best = [run for (run,) in rows(database, BEST_FIVE, schema)]
    assert best == ranked
    trends = rows(database, TRENDS_OF_BEST, schema, [best[:2]])
    assert [row[:2] for row in trends] == sorted(row[:2] for row in trends)
    assert {row[:3]: row[3] for row in trends} == {
        (run, epoch, metric): value
        for run in best[:2]
        for metric, values in (("val_f1", F1[run]), ("val_loss", LOSS[run]))
        for epoch, value in enumerate(values, 1)
    }
