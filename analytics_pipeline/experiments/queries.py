"""The questions that are asked of every lakehouse, as data frames.

Belongs here: these questions. Does not: the views they are asked of (`views`), a connection (`reading`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analytics_pipeline.errors.experiments import HyperparameterUnknown
from analytics_pipeline.experiments.ranking import Best
from analytics_pipeline.experiments.writing import lakehouse

if TYPE_CHECKING:
    import polars as pl

_OWN_COLUMNS = frozenset({"run_id", "logged_at"})
_FIGURES = frozenset({"num_runs", "average", "highest", "lowest"})

_IMPACT = """\
WITH last_epochs AS (SELECT run_id, max(epoch) AS epoch FROM metrics GROUP BY run_id)
SELECT c.{key} AS {shown}, count(*) AS num_runs,
    avg(m.value) AS average, max(m.value) AS highest, min(m.value) AS lowest
FROM configs c
JOIN last_epochs l ON l.run_id = c.run_id
JOIN metrics m ON m.run_id = l.run_id AND m.epoch = l.epoch
WHERE m.metric = ? AND NOT isnan(m.value)
GROUP BY c.{key}
ORDER BY c.{key} NULLS LAST"""

_TREND = """\
SELECT epoch, metric, value FROM metrics
WHERE run_id = ? AND (?::VARCHAR[] IS NULL OR list_contains(?::VARCHAR[], metric))
ORDER BY epoch, metric"""


def leaderboard(*, ranking: Sequence[Best] | None = None, root: str | Path | None = None) -> pl.DataFrame:
    """All runs, the best first.

    Args:
        ranking: the columns of best values, of which the first one decides; those of the lakehouse by default.
        root: of the lakehouse; that of this home by default.

    Raises:
        RankingRefused: no leaderboard can be made of it.
        StoreError: see `AppendTables.snapshot`.
    """
    return _asked(root, ["leaderboard"], "SELECT * FROM leaderboard", ranking=ranking)


def hyperparameter_impact(key: str, metric: str, *, root: str | Path | None = None) -> pl.DataFrame:
    """How a metric at each run's last epoch goes with a hyper-parameter: number of runs, average, highest, lowest.

    Runs that have no such value at their last epoch, or NaN, are left out. A hyper-parameter called like one of these
    four columns stands as `config_<its name>`.

    Raises:
        HyperparameterUnknown: no config has it.
        StoreError: see `AppendTables.snapshot`.
    """
    from analytics_pipeline.store.schema import identifier  # noqa: PLC0415 - imports Arrow

    known = [
        name for name in _asked(root, ["configs"], "SELECT * FROM configs LIMIT 0").columns if name not in _OWN_COLUMNS
    ]
    if key not in known:
        raise HyperparameterUnknown(key, known)
    shown = f"config_{key}" if key.lower() in _FIGURES else key
    sql = _IMPACT.format(key=identifier(key), shown=identifier(shown))
    return _asked(root, ["configs", "metrics"], sql, [metric])


def metric_trend(
    run_id: str, metrics: str | Sequence[str] | None = None, *, root: str | Path | None = None
) -> pl.DataFrame:
    """The values of a run by epoch and metric.

    Args:
        run_id: of the run.
        metrics: one or several; None for all.
        root: of the lakehouse; that of this home by default.

    Raises:
        StoreError: see `AppendTables.snapshot`.
    """
    if isinstance(metrics, str):
        metrics = [metrics]
    wanted = None if metrics is None else list(metrics)
    return _asked(root, ["metrics"], _TREND, [run_id, wanted, wanted])


def _asked(
    root: str | Path | None,
    views: Sequence[str],
    sql: str,
    params: Sequence[object] | None = None,
    ranking: Sequence[Best] | None = None,
) -> pl.DataFrame:
    from analytics_pipeline.experiments.reading import frame, opened  # noqa: PLC0415 - imports Polars and DuckDB

    with opened(lakehouse(root), views, ranking) as connection:
        return frame(connection, sql, params)
