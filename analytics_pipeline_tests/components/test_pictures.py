"""The picture of a dataset's scores in the metadata of its syncs."""

from __future__ import annotations

import base64
import sys

import dagster as dg
import pytest

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
def test_a_dataset_without_metrics_has_no_picture(instance: dg.DagsterInstance) -> None:
    assert "scores" not in refresh(instance).metadata


@pytest.mark.usefixtures("orders_url", "store")
def test_without_matplotlib_the_metadata_says_what_to_install(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra; a refresh does not depend on it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    shown = str(refresh(instance, **SCORED).metadata["scores"].value)
    assert "analytics_pipeline[plots]" in shown
