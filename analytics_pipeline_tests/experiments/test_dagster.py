"""The lakehouse in Dagster: assets, checks, and the sensor that asks for new exports."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.components.experiments import (
    experiments,
    experiments_export_job,
    experiments_sensor,
    no_nan_metrics,
    no_silent_runs,
)
from analytics_pipeline.components.maintenance import tend_capabilities
from analytics_pipeline.experiments import log_metrics, log_run
from analytics_pipeline.experiments.health import silent_runs
from analytics_pipeline.experiments.rows import Row, clock
from analytics_pipeline.experiments.tables import append
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline_tests.experiments.scenario import log_all

DAY = timedelta(days=1)


@pytest.fixture
def analytics(tmp_path: Path) -> AnalyticsResource:
    return AnalyticsResource(home_path=str(tmp_path / "it's a home"))


@pytest.fixture
def lake(analytics: AnalyticsResource) -> Path:
    return analytics.home().experiments


def executed(
    analytics: AnalyticsResource, instance: dg.DagsterInstance, *, raises: bool = True
) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions.merge(experiments(), dg.Definitions(resources={"analytics": analytics}))
    job = definitions.resolve_job_def(experiments_export_job.name)
    return job.execute_in_process(instance=instance, raise_on_error=raises)


def test_the_job_writes_the_exports_and_shows_how_many_runs_there_are(analytics: AnalyticsResource, lake: Path) -> None:
    log_all(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        result = executed(analytics, instance)
    counts = {
        event.asset_key.to_user_string(): event.materialization.metadata["dagster/row_count"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }

    assert counts == {"experiments/leaderboard": 3, "experiments/exports": 3}
    assert len(json.loads((analytics.home().exports / "leaderboard.json").read_text())) == 3
    assert (analytics.home().exports / "index.html").exists()
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert checks == {"no_silent_runs": True, "no_nan_metrics": False}


def test_the_job_succeeds_before_anything_was_logged(analytics: AnalyticsResource) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert executed(analytics, instance).success


def test_nan_is_a_warning_that_names_run_and_metric(analytics: AnalyticsResource, lake: Path) -> None:
    log_all(lake)
    result = no_nan_metrics(analytics)

    assert isinstance(result, dg.AssetCheckResult)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "| r3 | val_f1 | 1 | 2 |" in str(result.metadata["found"].value)


def test_a_running_run_without_metrics_for_a_day_is_a_warning(analytics: AnalyticsResource, lake: Path) -> None:
    old = round((datetime.now(UTC) - 2 * DAY).timestamp() * 1e6)
    for run_id, status in (("silent", "running"), ("talks", "running"), ("over", "done")):
        append(lake, {"runs": [{"run_id": run_id, "status": status, "logged_at": old}]})
        metric: Row = {"run_id": run_id, "epoch": 1, "metric": "val_f1", "value": 0.5, "logged_at": old + 1}
        append(lake, {"metrics": [metric]})
    log_run("new", {}, root=lake)
    log_metrics("talks", 2, {"val_f1": 0.6}, root=lake)
    result = no_silent_runs(analytics)

    assert isinstance(result, dg.AssetCheckResult)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert silent_runs(lake)["run_id"].to_list() == ["silent"]
    assert silent_runs(lake, 3 * DAY).is_empty()
    assert clock.take(1) > old


def test_the_sensor_asks_once_for_runs_that_arrived(analytics: AnalyticsResource, lake: Path) -> None:
    def look(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance, cursor=cursor, resources={"analytics": analytics})
            found = experiments_sensor(context)
            assert isinstance(found, dg.SensorResult | dg.SkipReason)
            return found

    assert isinstance(look(None), dg.SkipReason)
    log_run("a", {}, root=lake)
    first = look(None)
    assert isinstance(first, dg.SensorResult)
    assert len(first.run_requests or ()) == 1
    assert isinstance(look(first.cursor), dg.SkipReason)
    log_metrics("a", 1, {"val_f1": 1}, root=lake)
    assert isinstance(look(first.cursor), dg.SkipReason)
    log_run("a", {}, "done", root=lake)
    assert isinstance(look(first.cursor), dg.SensorResult)


def test_an_export_that_failed_is_tried_again_in_time(analytics: AnalyticsResource, lake: Path) -> None:
    """Or nobody would see the runs until somebody logs another one."""
    log_run("a", {}, root=lake)

    def look(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(instance, cursor=cursor, resources={"analytics": analytics})
        found = experiments_sensor(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    with dg.DagsterInstance.ephemeral() as instance:
        first = look(instance, None)
        assert isinstance(first, dg.SensorResult)
        analytics.home().exports.parent.mkdir(exist_ok=True)
        analytics.home().exports.write_text("in the way")
        assert not executed(analytics, instance, raises=False).success
        waiting = look(instance, first.cursor)
        assert isinstance(waiting, dg.SkipReason)
        assert "The last export failed; the next follows at" in str(waiting.skip_message)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("analytics_pipeline.components.experiments.RETRY_AFTER", timedelta(0))
            again = look(instance, first.cursor)
            assert isinstance(again, dg.SensorResult)
            analytics.home().exports.unlink()
            assert executed(analytics, instance).success
            assert isinstance(look(instance, again.cursor), dg.SkipReason)


def test_the_nightly_maintenance_compacts_the_tables(analytics: AnalyticsResource, lake: Path) -> None:
    log_all(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        tend_capabilities(dg.build_op_context(instance=instance, resources={"analytics": analytics}))

    assert len(os.listdir(lake / ".compacted")) == 3  # noqa: PTH208 - a count
