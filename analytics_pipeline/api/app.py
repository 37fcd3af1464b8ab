"""The application: routes, gates and failures put together.

Belongs here: that, and the page that is served at `/`. Does not: any answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from analytics_pipeline.api.access import AccessLog, gates
from analytics_pipeline.api.headers import SECURITY_HEADERS, SecurityHeaders
from analytics_pipeline.api.hosts import AllowedHosts
from analytics_pipeline.api.routes import analytics, process, store, sync
from analytics_pipeline.api.routes.shared import failures
from analytics_pipeline.api.service import Service
from analytics_pipeline.api.shapes import Failure
from analytics_pipeline.errors import ApiError
from analytics_pipeline.settings import ApiSettings
from analytics_pipeline.sync.spec import SplitSyncSpec

STATIC = Path(__file__).parent / "static"
VENDOR = Path(__file__).parents[1] / "static"
"""Libraries of others, for all our pages."""

logger = logging.getLogger(__name__)

_DESCRIPTION = "Every analytics question over the published store. Read-only, but for starting syncs."
_PAGE_HEADERS = {"Cache-Control": "no-cache"}


def create_app(settings: ApiSettings, root: Path, specs: Sequence[SplitSyncSpec]) -> FastAPI:
    """The API over one store.

    Args:
        settings: how it is served.
        root: the store's folder; it may come into being later.
        specs: of all datasets.
    """
    app = FastAPI(
        title="Analytics read API",
        description=_DESCRIPTION,
        version="1",
        openapi_url=None,  # served below, behind the token
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = Service(settings, root, specs)
    refusals = failures(*([401] if settings.token else []))
    for router in (analytics.router, store.router):
        app.include_router(router, dependencies=gates(settings), responses=refusals)
    app.include_router(sync.router, dependencies=gates(settings), responses=refusals | failures(403))
    app.include_router(process.router)
    _serve_openapi(app, settings)
    _serve_page(app)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "If-None-Match"],
            expose_headers=["ETag"],
        )
    app.add_middleware(AllowedHosts, settings=settings)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AccessLog)
    return app


def _serve_openapi(app: FastAPI, settings: ApiSettings) -> None:
    """The OpenAPI document, for those who may ask."""

    @app.get("/openapi.json", include_in_schema=False, dependencies=gates(settings))
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())


def _serve_page(app: FastAPI) -> None:
    """The dashboard: files that came with the package."""
    if not (STATIC / "index.html").is_file():
        return
    app.mount("/static/vendor", StaticFiles(directory=VENDOR), name="vendor")
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=_PAGE_HEADERS)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException):
        return _failure(error.status_code, str(error.detail), dict(error.headers or {}))
    assert isinstance(error, ApiError)
    return _failure(error.status, str(error), {})


async def _failed(request: Request, _error: Exception) -> JSONResponse:
    """The log has the error; its words may hold what nobody else should read."""
    logger.error("%s failed.", request.url.path)
    # This answer is made outside of all middleware.
    return _failure(500, "The API failed. Its log says why.", dict(SECURITY_HEADERS))


def _failure(status: int, detail: str, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(Failure(detail=detail).model_dump(), status, headers)
