"""One job for every dataset."""

from __future__ import annotations

import dagster as dg

from analytics_pipeline.components.refresh_all import refresh_all_job
from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import ORDERS, partitions, spec


def test_a_dataset_that_fails_does_not_hold_up_the_others(
    orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    broken = spec(name="broken", dataset_query=ORDERS.replace("orders", "no_such_table"))
    code = scenario.definitions(broken, spec(), spec(name="zebra"))
    job = refresh_all_job(code)
    assert job is not None
    everything = dg.Definitions.merge(code, dg.Definitions(jobs=[job]))

    result = everything.resolve_job_def("refresh_all_job").execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    assert partitions(instance, "orders_data") == [None]
    assert partitions(instance, "zebra_data") == [None]
    assert partitions(instance, "broken_data") == []


def test_without_datasets_there_is_no_job() -> None:
    assert refresh_all_job(dg.Definitions()) is None
