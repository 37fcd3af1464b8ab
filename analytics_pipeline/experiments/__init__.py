"""Experiments: training scripts log runs and metrics to Parquet files, leaderboards and trends are SQL views over them.

Belongs here: what is logged, the views, their exports, the import of a lakehouse of single files. Does not: how files
are appended (`store.append`), or Dagster (`components`).

Nothing is needed to log: no server, no Dagster. What takes long to import is imported by the first call.
"""

from analytics_pipeline.experiments.buffer import MetricsBuffer
from analytics_pipeline.experiments.log import log_artifact, log_config, log_dataset, log_metrics, log_run
from analytics_pipeline.experiments.queries import hyperparameter_impact, leaderboard, metric_trend
from analytics_pipeline.experiments.ranking import Best, Goal

__all__ = [
    "Best",
    "Goal",
    "MetricsBuffer",
    "hyperparameter_impact",
    "leaderboard",
    "log_artifact",
    "log_config",
    "log_dataset",
    "log_metrics",
    "log_run",
    "metric_trend",
]
