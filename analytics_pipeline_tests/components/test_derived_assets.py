"""The assets of what is derived from a dataset: cases and metric schema."""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import events, materialize, spec

DERIVED = ["orders_cases", "orders_metric_schema"]
REVIEWS = (
    "SELECT order_id AS dataset_id, id AS review_id, placed_at, 'tone' AS metric_name, "
    "json_build_object('stars', metric_score, 'remark', 'secret ' || id)::text AS signals FROM reviews"
)


def code(**changes: object) -> dg.Definitions:
    return scenario.definitions(spec(**{"results_query": REVIEWS, "cases": True} | changes))


def refresh(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    done = definitions.resolve_job_def("orders_refresh_job").execute_in_process(instance=instance, raise_on_error=False)
    assert done.success


def test_a_refresh_tells_of_cases_and_schema(orders_url: str, store: Store, instance: dg.DagsterInstance) -> None:
    """Otherwise Dagster shows them as never made."""
    refresh(code(), instance)
    cases, schema = (events(instance, name) for name in DERIVED)
    assert [event.metadata["dagster/row_count"].value for event in cases] == [4]
    assert [event.metadata["metrics"].value for event in schema] == [1]
    shown = schema[0].metadata["schema"].value
    assert "| tone | classification | remark (string), stars (number) |" in str(shown)
    assert "secret" not in str(schema[0].metadata) + str(cases[0].metadata), "rows do not belong in Dagster's log"


def test_a_refresh_that_changes_nothing_tells_nothing(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    refresh(code(), instance)
    refresh(code(), instance)
    assert [len(events(instance, name)) for name in DERIVED] == [1, 1]


def test_cases_that_are_switched_on_later_are_told_of(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    refresh(code(cases=False), instance)
    refresh(code(), instance)
    assert [len(events(instance, name)) for name in DERIVED] == [1, 1]


def test_a_dataset_without_cases_has_no_such_assets() -> None:
    keys = {key.to_user_string() for key in code(cases=False).resolve_asset_graph().get_all_asset_keys()}
    assert keys.isdisjoint(DERIVED)
    assert keys


def test_materialised_by_hand_they_show_what_is_published(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    """Or say what is to be synced first."""
    assert not materialize(code(), instance, DERIVED).success
    refresh(code(), instance)
    assert materialize(code(), instance, DERIVED).success
    assert [len(events(instance, name)) for name in DERIVED] == [2, 2]
