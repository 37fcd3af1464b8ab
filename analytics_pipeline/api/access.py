"""Access: who may ask, which pages may read the answers, and what is written down of it.

Belongs here: the bearer token, foreign origins, the access log. Does not: limits of work (`service`).
"""

from __future__ import annotations

import hmac
import logging
import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from analytics_pipeline.settings import ApiSettings

logger = logging.getLogger(__name__)

_bearer = HTTPBearer(auto_error=False, description="the token in ANALYTICS_API_TOKEN")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def _host_of(origin: str) -> str | None:
    """The host and port of an origin; None for what is not a URL."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def gates(settings: ApiSettings) -> list[Dependency]:
    """What a request to `/api` must pass."""
    token, origins = settings.token, settings.cors_origins

    async def from_here(request: Request) -> None:
        """A page of another site may not start syncs: browsers send such a request without asking."""
        origin = request.headers.get("origin")
        if request.method in _READING or origin is None or origin in origins or "*" in origins:
            return
        if _host_of(origin) != request.headers.get("host"):
            raise HTTPException(403, "Requests from pages of this origin are not allowed.")

    if token is None:
        return [Depends(from_here)]
    expected = token.get_secret_value().encode()

    async def with_token(
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> None:
        # Headers arrive as Latin-1, whatever their bytes mean.
        if given is None or not hmac.compare_digest(given.credentials.encode("latin-1"), expected):
            raise HTTPException(
                401, "A valid bearer token is needed: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"}
            )

    return [Depends(with_token), Depends(from_here)]


class AccessLog:
    """One line a request: method, path, code and milliseconds. Parameters may be secret, and are left out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")  # still percent-encoded
            milliseconds = (time.perf_counter() - began) * 1000
            logger.info("%s %s %d %.0f ms", scope["method"], path, status, milliseconds)
