"""Routes that start syncs in Dagster, and the one that marks a dataset as stale.

Belongs here: the POST requests. Does not: what a sync does (Dagster's side), how Dagster is asked (`dagster`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request

from analytics_pipeline.api import shapes
from analytics_pipeline.api.dagster import REFRESH_ALL, Dagster, rebuild_job, refresh_job
from analytics_pipeline.api.routes.shared import failures, service_of
from analytics_pipeline.api.service import Service
from analytics_pipeline.errors import PartitionsMoved, StoreError, StoreUnreadable, SyncRunning
from analytics_pipeline.sync.reset import forget_fingerprints
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline.sync.status import State

router = APIRouter(prefix="/api/store/sync", tags=["sync"])
Full = Annotated[bool, Query(description="replace everything, changed or not")]
DatasetName = Annotated[str, Path(description="a dataset, such as monitoring")]

_starting = threading.Lock()
"""Held from the look for a running sync to the start of one, so that two requests do not start two."""


@router.post("", response_model=shapes.SyncStarted, responses=failures(409, 503))
async def sync_all(request: Request, *, full: Full = False) -> shapes.SyncStarted:
    """Start a refresh of every dataset in one run; with `full` a rebuild of each in a run of its own."""
    service = service_of(request)
    specs = service.datasets.enabled
    jobs = [rebuild_job(spec.name) for spec in specs] if full else [REFRESH_ALL]
    runs = await anyio.to_thread.run_sync(lambda: _start(service, specs, jobs))
    return _started("all datasets", runs)


@router.post("/{dataset}", response_model=shapes.SyncStarted, responses=failures(404, 409, 503))
async def sync_one(request: Request, dataset: DatasetName, *, full: Full = False) -> shapes.SyncStarted:
    """Start a refresh of one dataset; with `full` a rebuild."""
    service = service_of(request)
    spec = service.datasets.spec(dataset)
    job = rebuild_job(spec.name) if full else refresh_job(spec.name)
    runs = await anyio.to_thread.run_sync(lambda: _start(service, [spec], [job]))
    return _started(spec.name, runs)


@router.post("/{dataset}/reset-watermark", response_model=shapes.Message, responses=failures(404, 409, 503))
async def reset_watermark(request: Request, dataset: DatasetName) -> shapes.Message:
    """Mark what is published of a dataset as stale, so that the next sync reads all of it anew."""
    service = service_of(request)
    spec = service.datasets.spec(dataset)
    await anyio.to_thread.run_sync(lambda: _reset(service, spec))
    return shapes.Message(message=f"Watermarks cleared for {dataset}. Next sync will do a full rebuild.")


def _reset(service: Service, spec: SplitSyncSpec) -> None:
    _refuse_syncing(service, spec)
    store = service.store()
    if store is None:
        return
    try:
        forget_fingerprints(store, spec)
    except PartitionsMoved:
        raise SyncRunning(spec.name, None) from None
    except StoreError as error:
        raise StoreUnreadable from error


def _start(service: Service, specs: Sequence[SplitSyncSpec], jobs: Sequence[str]) -> Mapping[str, str]:
    with _starting:
        for spec in specs:
            _refuse_syncing(service, spec)
        dagster = Dagster(service.settings.dagster_url)
        own = {job(spec.name): spec.name for spec in specs for job in (refresh_job, rebuild_job)}
        for job, run in dagster.active_runs([*own, REFRESH_ALL]).items():
            raise SyncRunning(own.get(job, "all datasets"), run)
        return {job: dagster.start(job) for job in jobs}


def _refuse_syncing(service: Service, spec: SplitSyncSpec) -> None:
    """Also of a sync that this Dagster knows nothing of, such as one from a terminal."""
    status = service.status(spec)
    if status.state is State.SYNCING:
        raise SyncRunning(spec.name, status.run_id)


def _started(what: str, runs: Mapping[str, str]) -> shapes.SyncStarted:
    ids = list(runs.values())
    return shapes.SyncStarted(
        message=f"Sync of {what} started.", run_id=ids[0] if len(ids) == 1 else None, runs=dict(runs)
    )
