"""The lakehouse of experiments: one more append, the leaderboard and one run's trend, up to a million metrics.

Beside it what the page that it follows does for an append: read the file, concatenate, rewrite. Both in one process, in
turns; each figure is the median of its repeats. The tables are as logging leaves them: copies and newest small files.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from harness import median, record

from analytics_pipeline.experiments import MetricsBuffer, leaderboard, log_metrics, log_run, metric_trend
from analytics_pipeline.experiments.build import build

SIZES = (10_000, 100_000, 1_000_000)
RUNS = 1_000
METRICS = ("val_f1", "val_accuracy", "val_loss", "train_loss")
APPENDS, PAGE_APPENDS, QUERIES = 300, 5, 7
MOST_MS, FLAT, BOARD_MS = 10, 2, 300


def seconds(action: Callable[[], object], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        found.append(time.perf_counter() - begin)
    return found


def fill(root: Path, rows: int) -> None:
    """So many metrics of a thousand runs, logged as a training script does it."""
    dice = random.Random(rows)  # noqa: S311 - the same figures in every run
    for number in range(RUNS):
        run_id = f"run_{number:04d}"
        log_run(run_id, {"lr": dice.random(), "hidden_dim": 2 ** dice.randrange(4, 9)}, "done", root=root)
        with MetricsBuffer(run_id, root=root) as log:
            for epoch in range(max(1, rows // RUNS // len(METRICS))):
                log(epoch, {name: dice.random() for name in METRICS})


def page_append(path: Path, run_id: str) -> None:
    """`log_metrics` of the page."""
    rows = [{"run_id": run_id, "epoch": 1, "metric": name, "value": 0.5} for name in METRICS]
    new = pd.concat([pd.read_parquet(path), pd.DataFrame(rows)], ignore_index=True)
    new.to_parquet(path, index=False)


def measured(folder: Path, rows: int) -> Sequence[float]:
    """Milliseconds: an append's median and 95th percentile, the page's, the leaderboard, a trend."""
    root, single = folder / f"lake-{rows}", folder / f"metrics-{rows}.parquet"
    fill(root, rows)
    every = pd.concat([frame_of(number, rows) for number in range(RUNS)], ignore_index=True)
    every.to_parquet(single, index=False)
    own = seconds(lambda: log_metrics("run_0001", 10**6, dict.fromkeys(METRICS, 0.5), root=root), APPENDS)
    page = seconds(lambda: page_append(single, "run_0001"), PAGE_APPENDS)
    build(root)
    board = seconds(lambda: leaderboard(root=root), QUERIES)
    trend = seconds(lambda: metric_trend("run_0500", ["val_f1", "val_loss"], root=root), QUERIES)
    slow = sorted(own)[int(len(own) * 0.95)]
    return [1000 * value for value in (median(own), slow, median(page), median(board), median(trend))]


def frame_of(number: int, rows: int) -> pd.DataFrame:
    epochs = range(max(1, rows // RUNS // len(METRICS)))
    values = [(f"run_{number:04d}", epoch, name, 0.5) for epoch in epochs for name in METRICS]
    return pd.DataFrame(values, columns=["run_id", "epoch", "metric", "value"])


def verdicts(found: dict[int, Sequence[float]]) -> Iterator[str]:
    first, last = found[min(found)], found[max(found)]
    yield f"- An append with {max(found):,} rows there: {last[0]:.1f} ms (asked: at most {MOST_MS})."
    yield f"- That is {last[0] / first[0]:.1f} x of one with {min(found):,} rows (asked: at most {FLAT})."
    yield f"- The leaderboard of {RUNS:,} runs over {max(found):,} rows: {last[3]:.0f} ms (asked: at most {BOARD_MS})."


def main(sizes: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {rows: measured(Path(folder), rows) for rows in sizes}
    lines = [
        "| metric rows | append, ms | 95th percentile | the page's append, ms | leaderboard, ms | trend of a run, ms |",
        "|---:|---:|---:|---:|---:|---:|",
        *(f"| {rows:,} | {' | '.join(f'{value:,.1f}' for value in values)} |" for rows, values in found.items()),
        "",
        *verdicts(found),
    ]
    record("experiments", "python benchmarks/experiments.py", lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    main(parser.parse_args().sizes)
