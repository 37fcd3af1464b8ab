"""The picture of a dataset's scores in the metadata of its syncs."""

from __future__ import annotations

import base64
import errno
import sys

import dagster as dg
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import change_source, events, materialize, spec

SCORED = {
    "results_query": "SELECT order_id AS dataset_id, placed_at, 'tone' AS metric_name, metric_score FROM reviews",
    "columns": {"placed_at": "timestamp"},
}
PNG = b"\x89PNG\r\n\x1a\n"


def refresh(instance: dg.DagsterInstance, **changes: object) -> dg.AssetMaterialization:
    code = scenario.definitions(spec(**changes))
    job = code.resolve_job_def("orders_refresh_job")
    assert job.execute_in_process(instance=instance).success
    return events(instance, "orders_metadata")[-1]


@pytest.mark.usefixtures("orders_url", "store")
def test_the_first_sync_shows_a_picture_of_the_scores(instance: dg.DagsterInstance) -> None:
    """People look at a curve before they ask for numbers."""
    shown = refresh(instance, **SCORED).metadata["scores"].value
    begin, _, picture = str(shown).partition("base64,")
    assert begin == "![Scores by day and metric](data:image/png;"
    assert base64.b64decode(picture.removesuffix(")")).startswith(PNG)


@pytest.mark.usefixtures("store")
def test_a_refresh_of_some_rows_draws_nothing_until_somebody_asks(
    instance: dg.DagsterInstance, orders_url: str
) -> None:
    """A picture is made of all rows, so it would cost more than the refresh."""
    refresh(instance, **SCORED)
    change_source(
        orders_url, "UPDATE reviews SET metric_score = 0.25 WHERE order_id = (SELECT max(order_id) FROM reviews)"
    )
    small = refresh(instance, **SCORED)
    assert (small.metadata["last_sync_type"].value, "scores" in small.metadata) == ("incremental", False)
    assert materialize(scenario.definitions(spec(**SCORED)), instance, ["orders_metadata"]).success
    assert "data:image/png" in str(events(instance, "orders_metadata")[-1].metadata["scores"].value)


@pytest.mark.usefixtures("orders_url", "store")
def test_a_dataset_without_metrics_says_so_in_place_of_a_picture(instance: dg.DagsterInstance) -> None:
    shown = refresh(instance).metadata["scores"].value
    assert shown == (
        "Left out: There is nothing to make a picture of the scores of: orders_data has no column `metric_name`."
    )


TEXT = {
    "cases": True,
    "incremental_column": None,
    "start": None,
    "columns": {"placed_at": "timestamp"},
    "dataset_query": "SELECT id AS dataset_id, placed_at, city, '{}' AS additional_input FROM orders",
    "results_query": "SELECT order_id AS dataset_id, placed_at::text, 'tone' AS metric_name, metric_score, "
    "'{}' AS signals FROM reviews",
}


def test_a_timestamp_of_text_leaves_the_picture_out_and_says_why(
    instance: dg.DagsterInstance, orders_url: str, store: Store
) -> None:
    """Otherwise the run fails after its commit, before cases and checks are reported."""
    code = scenario.definitions(spec(**TEXT))

    result = code.resolve_job_def("orders_refresh_job").execute_in_process(instance=instance)

    assert result.success
    kinds = [event.event_type_value for event in result.all_events if event.event_type_value.startswith("ASSET_")]
    assert kinds[-2:] == ["ASSET_CHECK_EVALUATION", "ASSET_MATERIALIZATION"], "what only shows comes last"
    assert events(instance, "orders_cases")
    shown = str(events(instance, "orders_metadata")[-1].metadata["scores"].value)
    assert "`timestamp` is VARCHAR" in shown
    assert "::timestamptz" in shown
    assert materialize(code, instance, ["orders_metadata"]).success


@pytest.mark.usefixtures("orders_url", "store")
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: No space left on device, raised in"),
        (ValueError("a score of Oslo"), "ValueError, raised in score_picture"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["disk full", "bug", "memory"],
)
def test_whatever_goes_wrong_with_a_picture_no_run_fails(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    """The text of foreign errors may quote rows, and event logs outlive these."""

    def fail(_points: object) -> bytes:
        raise failure

    monkeypatch.setattr("analytics_pipeline.plots.scores.draw_scores", fail)
    shown = str(refresh(instance, **SCORED).metadata["scores"].value)
    assert shown.startswith("Left out: ")
    assert reason in shown
    assert "Oslo" not in shown


@pytest.mark.usefixtures("store")
def test_a_failed_sync_still_fails_its_run(instance: dg.DagsterInstance, orders_url: str) -> None:
    change_source(orders_url, "DROP TABLE reviews")
    job = scenario.definitions(spec(**SCORED)).resolve_job_def("orders_refresh_job")
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success


@pytest.mark.usefixtures("orders_url", "store")
def test_without_matplotlib_the_metadata_says_what_to_install(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra; a refresh does not depend on it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    shown = str(refresh(instance, **SCORED).metadata["scores"].value)
    assert "analytics_pipeline[plots]" in shown
