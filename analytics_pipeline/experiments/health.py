"""The health of a lakehouse: runs that fell silent, metrics that are no number.

Belongs here: those questions. Does not: who is told (`components`).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from analytics_pipeline.experiments.reading import frame, opened

SILENCE = timedelta(days=1)
"""After which a run that says it is running has probably died."""

_SILENT = """\
WITH spoke AS (SELECT run_id, max(logged_at) AS at FROM metrics GROUP BY run_id)
SELECT r.run_id, greatest(r.logged_at, s.at) AS last_seen
FROM runs r LEFT JOIN spoke s ON s.run_id = r.run_id
WHERE r.status = 'running' AND greatest(r.logged_at, s.at) < now() - to_microseconds(?)
ORDER BY last_seen, r.run_id"""

_NOT_NUMBERS = """\
SELECT run_id, metric, count(*) AS epochs, min(epoch) AS first_epoch
FROM metrics WHERE isnan(value) GROUP BY run_id, metric ORDER BY run_id, metric"""


def silent_runs(root: Path, silence: timedelta = SILENCE) -> pl.DataFrame:
    """Runs with the status `running` of which nothing was logged for so long: run_id, last_seen."""
    with opened(root, ("runs", "metrics")) as connection:
        return frame(connection, _SILENT, [round(silence.total_seconds() * 1e6)])


def nan_metrics(root: Path) -> pl.DataFrame:
    """Metrics that are NaN at some epoch: run_id, metric, epochs, first_epoch."""
    with opened(root, ["metrics"]) as connection:
        return frame(connection, _NOT_NUMBERS)
