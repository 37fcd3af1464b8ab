"""Pruning: old runs of Dagster and all that hangs on them, but nothing that a status is computed from.

Belongs here: which runs may go, and every place that something of them lies in. Does not: when (`components`).

Dagster derives what its pages show from events: a partition is materialised because the newest event about it says
so, a check has passed because its newest evaluation did. A run that holds the newest event of some asset or partition,
or the newest evaluation of some check, therefore stays. What is newest can only become older, so a run that may go once
may go for ever, and nothing needs to be locked.

Dagster's own `delete_run` leaves tags, evaluations of checks, logs and the run's SQLite file behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunTagsTable
from sqlalchemy import delete, func, select, union

DEFAULT_AGE = timedelta(days=30)
AT_MOST = 5_000
"""Runs a call: some 20 ms each, so that a night's share is done in a minute or two."""

_PAGE = 200
_ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Pruned:
    """What became of the old runs.

    Args:
        runs: removed.
        kept: stay, because a status is computed from them.
    """

    runs: int
    kept: int


def prune(
    instance: dg.DagsterInstance,
    age: timedelta = DEFAULT_AGE,
    *,
    at_most: int = AT_MOST,
    now: datetime | None = None,
) -> Pruned:
    """Remove runs that ended long ago, with their events, logs, tags and evaluations.

    Args:
        instance: whose storage is SQL, as all of Dagster's own are.
        age: since a run's end.
        at_most: so many runs; the next call takes the others, oldest first.
        now: an aware time; the present by default.
    """
    before = (now or datetime.now(UTC)) - age
    events = instance.event_log_storage
    assert isinstance(events, SqlEventLogStorage), "Dagster keeps its events in SQL"
    needed = _needed_runs(events)
    ended = [*_runs_ended_before(instance, before)][::-1]
    old = [run_id for run_id in ended if run_id not in needed]
    going = old[:at_most]
    for run_id in going:
        _remove(instance, events, run_id)
    return Pruned(len(going), len(ended) - len(old))


def _needed_runs(events: SqlEventLogStorage) -> frozenset[str]:
    log, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    newest_events = (
        select(func.max(log.id))
        .where(log.asset_key.is_not(None))
        .group_by(log.asset_key, log.dagster_event_type, log.partition)
    )
    newest_checks = select(func.max(checks.id)).group_by(checks.asset_key, checks.check_name, checks.partition)
    needed = union(
        select(log.run_id).where(log.id.in_(newest_events)), select(checks.run_id).where(checks.id.in_(newest_checks))
    )
    with events.index_connection() as connection:
        return frozenset(connection.execute(needed).scalars())


def _runs_ended_before(instance: dg.DagsterInstance, moment: datetime) -> Iterator[str]:
    """Newest first, in pages; a page begins after the last run of the one before, which must still be there."""
    filters = dg.RunsFilter(statuses=_ENDED, updated_before=moment)
    cursor: str | None = None
    while page := instance.get_run_ids(filters, cursor=cursor, limit=_PAGE):
        yield from page
        cursor = page[-1]


def _remove(instance: dg.DagsterInstance, events: SqlEventLogStorage, run_id: str) -> None:
    """The run itself last, so that a killed call leaves it to the next one."""
    events.delete_events(run_id)
    with events.index_connection() as connection:
        connection.execute(delete(AssetCheckExecutionsTable).where(AssetCheckExecutionsTable.c.run_id == run_id))
    if isinstance(events, SqliteEventLogStorage):
        shard = Path(events.path_for_shard(run_id))
        for path in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            path.unlink(missing_ok=True)
    if isinstance(instance.compute_log_manager, LocalComputeLogManager):
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    if isinstance(instance.run_storage, SqlRunStorage):
        with instance.run_storage.connect() as connection:
            connection.execute(delete(RunTagsTable).where(RunTagsTable.c.run_id == run_id))
    instance.run_storage.delete_run(run_id)
