"""One job for every dataset: the refresh by hand, the audit of every night."""

from __future__ import annotations

import dagster as dg
import pytest

from analytics_pipeline.components.all_datasets import all_datasets
from analytics_pipeline.store import Store
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import ORDERS, partitions, spec


@pytest.mark.parametrize("job", ["refresh_all_job", "audit_job"])
def test_a_dataset_that_fails_does_not_hold_up_the_others(
    orders_url: str, store: Store, instance: dg.DagsterInstance, job: str
) -> None:
    broken = spec(name="broken", dataset_query=ORDERS.replace("orders", "no_such_table"))
    code = scenario.definitions(broken, spec(), spec(name="zebra"))
    everything = dg.Definitions.merge(code, all_datasets(code))

    result = everything.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    assert partitions(instance, "orders_data") == [None]
    assert partitions(instance, "zebra_data") == [None]
    assert partitions(instance, "broken_data") == []


def test_the_audit_runs_every_night_without_a_click(orders_url: str) -> None:
    [schedule] = all_datasets(scenario.definitions(spec())).schedules or ()

    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.cron_schedule) == ("audit_job_schedule", "30 2 * * *")
    assert (schedule.execution_timezone, schedule.default_status) == ("UTC", dg.DefaultScheduleStatus.RUNNING)


def test_an_audit_leaves_the_order_to_the_engine(orders_url: str) -> None:
    """In pools, one run over all datasets would keep every refresh waiting until the largest is done."""
    code = scenario.definitions(spec(), spec(name="zebra"))
    job = dg.Definitions.merge(code, all_datasets(code)).resolve_job_def("audit_job")

    assert {node.pool for node in job.graph.node_defs if isinstance(node, dg.OpDefinition)} == {None}


def test_without_datasets_there_is_no_job() -> None:
    assert all_datasets(dg.Definitions()).jobs is None
