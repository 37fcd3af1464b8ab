"""What a user sees in Dagster of a sync: events, metadata, failures; each against a real Postgres."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg
import pytest

from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import TODAY, events, keys, materialize, partitions, spec
from analytics_pipeline_tests.thinning import thinned

PAIR = ["orders_dataset", "orders_results"]
EVERYTHING = [*PAIR, "orders_data"]


@pytest.fixture
def code(orders_url: str, store: Store) -> dg.Definitions:
    return scenario.definitions(spec())


def refresh(code: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = code.resolve_job_def("orders_refresh_job")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def failure(result: dg.ExecuteInProcessResult) -> str:
    data = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    assert data.error is not None
    assert data.error.cause is None, "one sentence, not a chain"
    return data.error.message


def rows(store: Store, table: str) -> int:
    return int(store.query(f"SELECT count(*) FROM {table}").item())


def text(event: dg.AssetMaterialization, name: str) -> object:
    return event.metadata[name].value


def test_a_range_run_gives_one_event_a_partition_and_asset(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store
) -> None:
    assert materialize(code, instance, EVERYTHING, partition=keys()[0], until=keys()[-1]).success

    assert partitions(instance, "orders_dataset") == keys()
    assert partitions(instance, "orders_results") == keys()
    assert partitions(instance, "orders_data") == [None]
    assert rows(store, "orders_data") == 8
    assert store.manifest().version == 1


def test_every_event_says_how_much_how_long_and_how(code: dg.Definitions, instance: dg.DagsterInstance) -> None:
    materialize(code, instance, EVERYTHING, partition=keys()[1], until=keys()[2])

    event = events(instance, "orders_results")[0]
    assert text(event, "dagster/row_count") == 4
    assert text(event, "dagster/partition_row_count") == 2
    assert text(event, "rows_read") == 4
    assert text(event, "partitions_replaced") == 2
    assert text(event, "store_version") == 1
    assert text(event, "read_tier") in {"parallel ranges", "single stream"}
    assert int(str(text(event, "bytes_written"))) > 0
    assert float(str(text(event, "seconds"))) > 0
    schema = text(event, "dagster/column_schema")
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [
        ("dataset_id", "INTEGER"),
        ("review_id", "INTEGER"),
        ("placed_at", "TIMESTAMP WITH TIME ZONE"),
        ("metric_score", "DOUBLE"),
    ]
    view = events(instance, "orders_data")[0]
    assert text(view, "dagster/row_count") == 4
    assert text(view, "results_without_record") == 0


def test_half_of_the_pair_alone_replaces_that_half(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store, orders_url: str
) -> None:
    materialize(code, instance, PAIR, partition=keys()[0], until=keys()[-1])
    scenario.change_source(orders_url, "UPDATE orders SET city = 'Rome'; UPDATE reviews SET metric_score = 0.5")

    assert materialize(code, instance, ["orders_results"], partition=keys()[1]).success

    assert partitions(instance, "orders_dataset") == keys()
    assert partitions(instance, "orders_results") == [*keys(), keys()[1]]
    assert store.query("SELECT DISTINCT city FROM orders_dataset").to_series().to_list() == ["Oslo"]
    assert store.query("SELECT count(*) FROM orders_results WHERE metric_score = 0.5").item() == 2


def test_partitions_that_the_limit_of_rows_leaves_out_can_be_materialised(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    """Otherwise the run fails after its commit, and Dagster shows nothing of what was published."""
    code = scenario.definitions(spec(max_sync_rows=4))
    assert refresh(code, instance).success

    assert materialize(code, instance, PAIR, partition=keys()[0]).success
    assert materialize(code, instance, PAIR, partition=keys()[1], until=keys()[2]).success

    left_out, kept = events(instance, "orders_results")[-2:]
    assert (left_out.partition, kept.partition) == (keys()[1], keys()[2])
    assert "dagster/partition_row_count" not in left_out.metadata
    assert text(kept, "dagster/partition_row_count") == 2
    assert rows(store, "orders_results") == 4


def test_a_range_that_runs_backwards_is_an_error_that_names_both_ends(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store
) -> None:
    """Dagster resolves it to no partition: the run would materialize nothing and succeed."""
    result = materialize(code, instance, EVERYTHING, partition=keys()[2], until=keys()[0])

    assert not result.success
    assert f"{keys()[2]}...{keys()[0]} ends before it starts" in failure(result)
    assert f"Write {keys()[0]}...{keys()[2]}." in failure(result)
    assert store.manifest().version == 0
    assert events(instance, "orders_dataset") == []


def test_the_unpartitioned_view_runs_along_in_a_partition_run(
    code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    assert materialize(code, instance, EVERYTHING, partition=keys()[-1]).success

    assert partitions(instance, "orders_data") == [None]


def test_a_refresh_gives_one_event_for_each_replaced_partition_and_no_more(
    code: dg.Definitions, instance: dg.DagsterInstance, orders_url: str
) -> None:
    assert refresh(code, instance).success
    assert partitions(instance, "orders_dataset") == keys()
    assert partitions(instance, "orders_results") == keys()
    assert partitions(instance, "orders_data") == [None]
    scenario.change_source(orders_url, "UPDATE reviews SET metric_score = 0.25 WHERE order_id IN (1, 3)")

    assert refresh(code, instance).success

    assert partitions(instance, "orders_dataset") == keys()
    assert partitions(instance, "orders_results") == [*keys(), keys()[0], keys()[2]]
    assert text(events(instance, "orders_results")[-1], "dagster/partition_row_count") == 2
    assert partitions(instance, "orders_data") == [None, None]


def test_a_refresh_of_an_unchanged_source_gives_no_event_and_no_commit(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store
) -> None:
    refresh(code, instance)

    assert refresh(code, instance).success

    assert partitions(instance, "orders_data") == [None]
    assert store.manifest().version == 1


def test_rows_outside_every_partition_are_mirrored_and_marked_nowhere(
    code: dg.Definitions, instance: dg.DagsterInstance, orders_url: str, store: Store
) -> None:
    """Dagster has no partition for a row without a time."""
    refresh(code, instance)
    scenario.change_source(orders_url, "INSERT INTO reviews VALUES (99, 1, NULL, 1)")

    assert refresh(code, instance).success

    assert partitions(instance, "orders_results") == keys()
    assert partitions(instance, "orders_data") == [None, None]
    assert rows(store, "orders_results") == 9


@pytest.mark.parametrize(
    ("grain", "start", "key"),
    thinned(
        [
            ("hourly", TODAY - timedelta(1), f"{TODAY - timedelta(1)}-00:00"),
            ("weekly", TODAY - timedelta(TODAY.weekday()), str(TODAY - timedelta(TODAY.weekday()))),
            ("monthly", TODAY.replace(day=1), str(TODAY.replace(day=1))),
        ],
        3,
    ),
)
def test_every_grain_works(
    orders_url: str, store: Store, instance: dg.DagsterInstance, grain: str, start: date, key: str
) -> None:
    code = scenario.definitions(spec(partitions=grain, start=str(start)))

    assert refresh(code, instance).success
    assert key in partitions(instance, "orders_dataset")
    assert materialize(code, instance, EVERYTHING, partition=key).success
    assert partitions(instance, "orders_results")[-1] == key
    assert rows(store, "orders_data") == 8, "what lies before the start is kept apart, not dropped"


def test_a_dataset_without_partitions_is_replaced_whole(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    code = scenario.definitions(spec(incremental_column=None, start=None, max_removed=1))

    assert materialize(code, instance, EVERYTHING).success
    assert refresh(code, instance).success
    assert partitions(instance, "orders_dataset") == [None]
    scenario.change_source(orders_url, "DELETE FROM reviews")
    assert refresh(code, instance).success

    assert partitions(instance, "orders_dataset") == [None]
    assert partitions(instance, "orders_results") == [None, None]
    assert rows(store, "orders_results") == 0


def test_the_view_before_any_sync_is_a_failure_of_one_sentence(
    code: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = materialize(code, instance, ["orders_data"])

    assert not result.success
    assert "orders_data does not exist yet: sync orders_dataset and orders_results first." in failure(result)


def test_a_source_unset_between_load_and_run_is_named(
    code: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code location stays up while the environment of its runs changes: sources are looked up by the run."""
    monkeypatch.delenv(scenario.URL)

    assert "the environment variable ORDERS_DB_URL is not set" in failure(refresh(code, instance))


def test_a_failed_sync_leaves_no_event_and_the_store_as_it_was(
    code: dg.Definitions, instance: dg.DagsterInstance, orders_url: str, store: Store
) -> None:
    refresh(code, instance)
    scenario.change_source(orders_url, "DROP TABLE reviews")

    result = materialize(code, instance, EVERYTHING, partition=keys()[0], until=keys()[-1])

    assert 'relation "reviews" does not exist' in failure(result)
    assert partitions(instance, "orders_dataset") == keys()
    assert store.manifest().version == 1


def test_an_incompatible_type_stops_a_refresh_and_is_adopted_by_a_rebuild(
    code: dg.Definitions, instance: dg.DagsterInstance, store: Store, orders_url: str
) -> None:
    """Otherwise the error's advice leads nowhere."""
    assert refresh(code, instance).success
    scenario.change_source(orders_url, "ALTER TABLE orders ALTER city TYPE int USING 7")

    assert "run the dataset's rebuild job" in failure(refresh(code, instance))
    assert store.query("SELECT DISTINCT city FROM orders_dataset").rows() == [("Oslo",)]

    rebuild = code.resolve_job_def("orders_rebuild_job")
    assert rebuild.execute_in_process(instance=instance, raise_on_error=False).success
    assert store.query("SELECT DISTINCT city FROM orders_dataset").rows() == [(7,)]
    assert partitions(instance, "orders_dataset") == [*keys(), *keys()]


def test_no_definition_holds_the_connection_string(
    orders_url: str, store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter2secret"
    monkeypatch.setenv(scenario.URL, f"postgresql://bob:{secret}/@127.0.0.1:1/db")
    code = scenario.definitions(spec())

    result = refresh(code, instance)

    job = code.resolve_job_def("orders_refresh_job")
    shown = [repr(code), repr(job), repr(job.resource_defs), repr(spec()), *map(str, result.all_events)]
    shown += [str(record) for record in instance.all_logs(result.run_id)]
    assert not any(secret in text for text in shown)


def test_runs_that_write_to_one_dataset_share_a_pool_and_others_do_not(store: Store) -> None:
    code = scenario.definitions(spec(), spec(name="returns"))

    def pools(name: str) -> set[str | None]:
        nodes = code.resolve_job_def(f"{name}_refresh_job").graph.node_defs
        return {node.pool for node in nodes if isinstance(node, dg.OpDefinition)}

    assert pools("orders") == {"orders"}
    assert pools("returns") == {"returns"}
    assert code.resolve_assets_def("orders_dataset").op.pool == "orders"
    assert code.resolve_assets_def("orders_data").op.pool is None, "it writes nothing"
