"""Routes about the process itself: whether it lives, and whether it can answer.

Belongs here: `/health`, `/ready`. Does not: the datasets' status (`store`).
"""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Request

from analytics_pipeline.api import shapes
from analytics_pipeline.api.routes.shared import failures, service_of

router = APIRouter(tags=["process"])


@router.get("/health", response_model=shapes.Health)
async def health() -> shapes.Health:
    """That the process answers; asks nothing of the store."""
    return shapes.Health()


@router.get("/ready", response_model=shapes.Readiness, responses=failures(503))
async def ready(request: Request) -> shapes.Readiness:
    """That the store can be read. Before the first sync there is nothing to read, and a sync can be started."""
    manifest = await anyio.to_thread.run_sync(service_of(request).version)
    return shapes.Readiness(version=manifest.version)
