"""What Dagster's pages show of a dataset's checks, metadata and status."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.components.all_datasets import all_datasets
from analytics_pipeline.store import Store
from analytics_pipeline.sync.status import read_status
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import DAYS, events, materialize, spec
from analytics_pipeline_tests.damage import flip

KEYED = {"dataset": ["dataset_id"]}
CHECKS = {
    "orders_dataset": {"equals_source", "rows_in_rest", "schema_unchanged", "unique_keys", "files_intact"},
    "orders_results": {"equals_source", "rows_in_rest", "schema_unchanged", "files_intact"},
    "orders_data": {"no_orphan_results", "no_row_security", "verified_in_time"},
}
EVERYTHING = [*CHECKS, "orders_metadata"]


@pytest.fixture
def code(orders_url: str, store: Store) -> dg.Definitions:
    code = scenario.definitions(spec(primary_key=KEYED, refresh_interval_minutes=15))
    return dg.Definitions.merge(code, all_datasets(code))


def run(
    code: dg.Definitions, instance: dg.DagsterInstance, job: str = "orders_refresh_job"
) -> dg.ExecuteInProcessResult:
    return code.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def run_checks(code: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """As by the button on a check's page."""
    job = code.resolve_implicit_global_asset_job_def()
    keys = [key for key in code.resolve_asset_graph().asset_check_keys if key.asset_key.path[-1] in CHECKS]
    return job.get_subset(asset_check_selection=set(keys), asset_selection=set()).execute_in_process(
        instance=instance, raise_on_error=False
    )


def answers(instance: dg.DagsterInstance) -> dict[tuple[str, str], str]:
    """The newest status of every check, as the UI's history of it begins."""
    found = {}
    for asset, name in every(""):
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=1):
            found[asset, name] = record.status.value
    return found


def every(status: str, *, but: str = "") -> dict[tuple[str, str], str]:
    return {(asset, name): status for asset, names in CHECKS.items() for name in names if name != but}


def test_the_checks_guard_the_assets_that_they_are_about(code: dg.Definitions) -> None:
    found: dict[str, set[str]] = {}
    for key in code.resolve_asset_graph().asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)

    assert found == CHECKS


@pytest.mark.parametrize("job", ["orders_refresh_job", "orders_rebuild_job", "orders_audit_job", "audit_job"])
def test_every_job_of_a_dataset_evaluates_every_check(
    code: dg.Definitions, instance: dg.DagsterInstance, job: str
) -> None:
    assert run(code, instance, job).success

    assert answers(instance) == every("SUCCEEDED", but="" if "audit" in job else "files_intact")


def test_an_audit_names_a_damaged_file_in_the_check_of_its_table_and_heals_it(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store
) -> None:
    assert run(code, instance).success
    path = store.root / next(store.manifest().tables["orders_results"].files).path
    flip(path)

    assert run(code, instance, "orders_audit_job").success

    assert answers(instance) == every("SUCCEEDED") | {("orders_results", "files_intact"): "FAILED"}
    assert run(code, instance, "orders_audit_job").success
    assert answers(instance) == every("SUCCEEDED")


def test_a_check_that_fails_is_red_and_says_why(
    code: dg.Definitions, instance: dg.DagsterInstance, orders_url: str
) -> None:
    scenario.change_source(orders_url, "INSERT INTO reviews VALUES (98, 77, now(), 1), (99, 1, NULL, 1)")

    result = run(code, instance)

    assert result.success
    red = {key for key, status in answers(instance).items() if status == "FAILED"}
    assert red == {("orders_data", "no_orphan_results"), ("orders_results", "rows_in_rest")}
    key = dg.AssetCheckKey(dg.AssetKey("orders_results"), "rows_in_rest")
    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert str(evaluation.description).startswith("1 of 10 rows have no time")
    assert evaluation.metadata["rows"].value == 1
    said = [entry.user_message for entry in instance.all_logs(result.run_id) if " fails: " in entry.user_message]
    assert len(said) == 2, "and so does the log of the run"
    assert f"rows_in_rest of orders_results fails: {evaluation.description}" in said


def test_checks_by_hand_compare_with_the_source_and_replace_nothing(
    code: dg.Definitions, instance: dg.DagsterInstance, orders_url: str, store: Store
) -> None:
    assert run(code, instance).success
    assert run_checks(code, instance).success
    assert answers(instance) == every("SUCCEEDED")
    scenario.change_source(orders_url, "DELETE FROM reviews WHERE order_id = 2")

    assert run_checks(code, instance).success

    assert answers(instance) == every("SUCCEEDED") | {("orders_results", "equals_source"): "FAILED"}
    [record] = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("orders_results"), "equals_source"), limit=1
    )
    assert f"{DAYS[1]} (2 instead of 0 rows)" in str(record.event), "it names partitions and numbers"
    assert store.manifest().version == 1
    assert len(events(instance, "orders_data")) == 1


def test_a_refresh_shows_metadata_and_status(code: dg.Definitions, instance: dg.DagsterInstance) -> None:
    assert run(code, instance).success

    [event] = events(instance, "orders_metadata")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown["state"] == "ready"
    assert shown["last_sync_type"] == "full"
    assert shown["orders_dataset/row_count"] == 4
    assert shown["orders_results/row_count"] == 8
    assert shown["orders_data/avg_score"] == 0.5
    assert {"orders_dataset", "orders_results", "orders_data", "last_sync", "last_verified"} <= shown.keys()
    assert str(shown["orders_dataset/watermark"]).startswith(str(DAYS[-1]))
    assert "| orders_results | 8 | 4 |" in str(shown["preview"])
    assert "Oslo" not in str(shown["preview"])


def test_numbers_of_the_metadata_can_be_plotted(code: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """Dagster plots what is an int or a float in every event of an asset."""
    assert run(code, instance).success

    [event] = events(instance, "orders_metadata")
    plotted = {
        name for name, value in event.metadata.items() if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue)
    }
    assert {"orders_data/row_count", "orders_data/pass_rate", "orders_results/rows_in_rest"} <= plotted


def test_metadata_can_be_looked_at_without_a_sync(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store
) -> None:
    assert materialize(code, instance, ["orders_metadata"]).success
    [before] = events(instance, "orders_metadata")
    assert before.metadata["state"].value == "not_synced"

    assert materialize(code, instance, EVERYTHING, partition=str(DAYS[0]), until=str(DAYS[-1])).success

    after = events(instance, "orders_metadata")[-1]
    assert after.metadata["orders_data/row_count"].value == 8


def test_events_tell_the_kind_of_fingerprint(code: dg.Definitions, instance: dg.DagsterInstance) -> None:
    assert run(code, instance).success

    assert events(instance, "orders_dataset")[0].metadata["fingerprint"].value == "checksum"


def test_values_of_rows_reach_dagsters_storage_as_the_docs_say(
    instance: dg.DagsterInstance, orders_url: str, store: Store
) -> None:
    """They outlive their deletion in the source, so that users must know which."""
    scenario.change_source(orders_url, "UPDATE orders SET city = 'Reykjavik'")

    def logged(**changes: object) -> str:
        result = run(scenario.definitions(spec(**changes)), instance, "orders_rebuild_job")
        return "".join(map(repr, instance.all_logs(result.run_id)))

    assert "Reykjavik" not in logged()
    assert "Reykjavik" in logged(filter_columns=["city"])
    assert "Reykjavik" in logged(primary_key={"dataset": ["city"]})
    assert "Reykjavik" in str(read_status(store, spec()).message)
    docs = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text()
    said = docs.partition("### Values of your rows in it")[2]
    assert all(word in said for word in ("`filter_columns`", "`primary_key`", "the dataset's status"))
