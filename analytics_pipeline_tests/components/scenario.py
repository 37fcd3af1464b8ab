"""A small source of orders and their reviews, which every test of the assets shares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg

from analytics_pipeline.components import build_sync_assets
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.spec import SplitSyncSpec

URL = "ORDERS_DB_URL"
TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days) for days in (3, 2, 1, 0)]
"""Each has one order with two reviews; the partitions begin on the first. The last was today when the tests began."""


def keys() -> list[str]:
    """All partitions that there are now: one more than `DAYS` once midnight has passed."""
    return [str(DAYS[0] + timedelta(number)) for number in range((datetime.now(UTC).date() - DAYS[0]).days + 1)]


TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, placed_at timestamptz, city text, amount numeric(10, 2));
CREATE TABLE reviews (id int PRIMARY KEY, order_id int, placed_at timestamptz, metric_score float8);
"""
ORDERS = "SELECT id AS dataset_id, placed_at, city, amount FROM orders"
REVIEWS = "SELECT order_id AS dataset_id, id AS review_id, placed_at, metric_score FROM reviews"


def create_source(url: str) -> None:
    """Make the tables and their rows."""
    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
        for number, day in enumerate(DAYS, start=1):
            connection.execute("INSERT INTO orders VALUES (%s, %s::date, 'Oslo', 9.5)", [number, day])
            reviews = "INSERT INTO reviews VALUES (%(a)s, %(n)s, %(day)s::date, 1), (%(b)s, %(n)s, %(day)s::date, 0)"
            connection.execute(reviews, {"a": 2 * number, "b": 2 * number + 1, "n": number, "day": day})


def change_source(url: str, statement: str) -> None:
    """Run a statement in the source."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def spec(**changes: object) -> SplitSyncSpec:
    """The spec of the orders, in daily partitions."""
    fields = {
        "name": "orders",
        "url": URL,
        "dataset_query": ORDERS,
        "results_query": REVIEWS,
        "incremental_column": "placed_at",
        "start": str(DAYS[0]),
    }
    return SplitSyncSpec.model_validate({key: value for key, value in (fields | changes).items() if value is not None})


def definitions(*specs: SplitSyncSpec) -> dg.Definitions:
    """The assets of some datasets, bound to the home of the environment."""
    resources = dg.Definitions(resources={"analytics": AnalyticsResource()}, executor=dg.in_process_executor)
    return dg.Definitions.merge(*(build_sync_assets(spec) for spec in specs), resources)


def materialize(
    code: dg.Definitions,
    instance: dg.DagsterInstance,
    selection: Sequence[str],
    *,
    partition: str | None = None,
    until: str | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialise assets as a user does, of one partition, of a range to `until`, or without."""
    job = code.resolve_implicit_global_asset_job_def()
    ranged = partition and until
    tags = {"dagster/asset_partition_range_start": partition, "dagster/asset_partition_range_end": until}
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in selection],
        partition_key=None if ranged else partition,
        tags={name: value for name, value in tags.items() if value} if ranged else None,
        raise_on_error=False,
    )


def events(instance: dg.DagsterInstance, asset: str) -> Sequence[dg.AssetMaterialization]:
    """The materialisations of an asset, oldest first."""
    found = instance.fetch_materializations(dg.AssetKey(asset), limit=1000, ascending=True)
    return [record.asset_materialization for record in found.records if record.asset_materialization]


def partitions(instance: dg.DagsterInstance, asset: str) -> list[str | None]:
    """The partitions of the materialisations of an asset, oldest first."""
    return [event.partition for event in events(instance, asset)]


def run_in(instance: dg.DagsterInstance, job: dg.ExecutableDefinition, status: str) -> dg.DagsterRun:
    """A run of a job as Dagster's storage has it in some status; no process belongs to it."""
    assert isinstance(job, dg.JobDefinition)
    run = instance.create_run_for_job(job)
    for event in _UNTIL[status]:
        instance.report_dagster_event(dg.DagsterEvent(event_type_value=event, job_name=job.name), run.run_id)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus[status]
    return found


_BEGUN = ["PIPELINE_STARTING", "PIPELINE_START"]
_UNTIL = {
    "NOT_STARTED": [],
    "STARTING": _BEGUN[:1],
    "STARTED": _BEGUN,
    "SUCCESS": [*_BEGUN, "PIPELINE_SUCCESS"],
    "FAILURE": [*_BEGUN, "PIPELINE_FAILURE"],
    "CANCELED": [*_BEGUN, "PIPELINE_CANCELED"],
}
