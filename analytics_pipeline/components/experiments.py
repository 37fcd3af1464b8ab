"""Experiments in Dagster: the leaderboard and the exports as assets, checks of what was logged, a sensor for new runs.

Belongs here: what Dagster shows, when the sensor asks for a run. Does not: views, exports, health (`experiments`).

Training scripts log without Dagster; nothing here stands between them and the tables.
"""
# No `from __future__ import annotations`: Dagster reads the annotations of assets.

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from analytics_pipeline.components import ticks
from analytics_pipeline.components.sync_events import MetadataValues, failing_plainly
from analytics_pipeline.components.sync_sensor import MINIMUM_INTERVAL_SECONDS
from analytics_pipeline.display import displayed
from analytics_pipeline.resources import AnalyticsResource

if TYPE_CHECKING:
    import polars as pl

GROUP = "experiments"
RETRY_AFTER = timedelta(minutes=10)
_SHOWN = 20
_BOARD = dg.AssetKey([GROUP, "leaderboard"])


@dg.asset(
    key=_BOARD,
    group_name=GROUP,
    kinds={"duckdb", "parquet"},
    description="All training runs, the best first: `experiments.leaderboard` in the catalog, and in analytics.duckdb.",
)
def leaderboard(context: dg.AssetExecutionContext, analytics: AnalyticsResource) -> dg.MaterializeResult[None]:
    """Renews the views, and shows the first runs."""
    from analytics_pipeline.experiments import leaderboard as ranked  # noqa: PLC0415 - imports Polars
    from analytics_pipeline.experiments.build import build  # noqa: PLC0415

    analytics.store()  # its catalog gets the views
    root = analytics.home().experiments
    with failing_plainly():
        database = build(root)
    shown = displayed("best", lambda: _shown(ranked(root=root)), context.log)
    return dg.MaterializeResult(metadata={**shown, "database": dg.MetadataValue.path(str(database))})


def _shown(board: "pl.DataFrame") -> MetadataValues:
    return {
        "dagster/row_count": dg.MetadataValue.int(board.height),
        "best": dg.MetadataValue.md(_table(board)),
        "columns": dg.MetadataValue.text(", ".join(board.columns)),
    }


@dg.asset(
    key=[GROUP, "exports"],
    deps=[_BOARD],
    group_name=GROUP,
    kinds={"json"},
    description="leaderboard.json, metric_trends.json, and index.html, which draws both without a network.",
)
def exports(analytics: AnalyticsResource) -> dg.MaterializeResult[None]:
    """Writes the files anew."""
    from analytics_pipeline.experiments.database import write_views  # noqa: PLC0415 - imports Polars
    from analytics_pipeline.experiments.exports import export  # noqa: PLC0415

    home = analytics.home()
    with failing_plainly():
        write_views(home.experiments)  # a home in which nothing was logged yet has a lakehouse, too
        done = export(home.experiments, home.exports)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": dg.MetadataValue.int(done.runs),
            "points_of_trends": dg.MetadataValue.int(done.points),
            "page": dg.MetadataValue.path(str(done.folder / "index.html")),
        }
    )


@dg.asset_check(asset=_BOARD, description="No run says that it is running and has logged nothing for a day.")
def no_silent_runs(analytics: AnalyticsResource) -> dg.AssetCheckResult:
    """Silent runs are a warning: their process may have been killed."""
    from analytics_pipeline.experiments.health import silent_runs  # noqa: PLC0415 - imports Polars

    with failing_plainly():
        return _warning(silent_runs(analytics.home().experiments))


@dg.asset_check(asset=_BOARD, description="No metric is NaN at any epoch.")
def no_nan_metrics(analytics: AnalyticsResource) -> dg.AssetCheckResult:
    """NaN is a warning: it is kept, and no leaderboard counts it."""
    from analytics_pipeline.experiments.health import nan_metrics  # noqa: PLC0415 - imports Polars

    with failing_plainly():
        return _warning(nan_metrics(analytics.home().experiments))


def _warning(found: "pl.DataFrame") -> dg.AssetCheckResult:
    shown = {"found": dg.MetadataValue.md(_table(found))} if found.height else {}
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"count": dg.MetadataValue.int(found.height), **shown},
    )


def _table(rows: "pl.DataFrame") -> str:
    lines = [rows.columns, ["---"] * rows.width, *rows.head(_SHOWN).iter_rows()]
    cells = (
        [str("" if cell is None else cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


experiments_export_job = dg.define_asset_job(
    "experiments_export_job",
    selection=dg.AssetSelection.groups(GROUP),
    description="Renews the leaderboard's views, checks what was logged, writes the exports.",
    executor_def=dg.in_process_executor,
)


def _look(context: dg.SensorEvaluationContext, analytics: AnalyticsResource) -> dg.SensorResult | dg.SkipReason:
    runs = analytics.home().experiments / "runs"
    if not runs.is_dir():
        return dg.SkipReason("No run has been logged yet.")
    changed_at = str(runs.stat().st_mtime_ns)
    if changed_at == context.cursor:
        failed_at = _failed_at(context.instance)
        if failed_at is None:
            return dg.SkipReason("No run has been logged since the last export.")
        if datetime.now(UTC) < failed_at + RETRY_AFTER:
            return dg.SkipReason(f"The last export failed; the next follows at {failed_at + RETRY_AFTER:%H:%M:%S} UTC.")
    if active := ticks.active_run(context.instance, experiments_export_job.name):
        return dg.SkipReason(f"Run {active} is at it; later runs are looked for when it has ended.")
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=changed_at)


def _failed_at(instance: dg.DagsterInstance) -> datetime | None:
    """When the newest export failed; None where it went well, or where there is none."""
    last = ticks.last_end(instance, experiments_export_job.name)
    return last[0] if last is not None and not last[1] else None


# By a name, and not by the decorator: Dagster 1.13 would warn that a parameter is in beta, which nobody gave.
experiments_sensor = dg.SensorDefinition(
    name="experiments_sensor",
    evaluation_fn=_look,
    job_name=experiments_export_job.name,
    minimum_interval_seconds=MINIMUM_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Exports anew when runs were logged: looks at the time of one folder.",
)


def experiments() -> dg.Definitions:
    """The assets, their checks, the job and its sensor."""
    return dg.Definitions(
        assets=[leaderboard, exports],
        asset_checks=[no_silent_runs, no_nan_metrics],
        jobs=[experiments_export_job],
        sensors=[experiments_sensor],
    )
