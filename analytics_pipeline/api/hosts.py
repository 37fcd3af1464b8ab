"""Allowed hosts: which names this server answers to, so that DNS rebinding ends at 400.

Belongs here: the `Host` header and its check. Does not: origins and the token (`access`).

A page of another site can make its own name resolve to this machine, and would then read the answers as its own. The
browser still sends that name as `Host`; it cannot send another one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from analytics_pipeline.api.shapes import Failure
from analytics_pipeline.settings import ApiSettings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")
_WEBSOCKET_POLICY_VIOLATION = 1008


class AllowedHosts:
    """Answers 400 to a request for another host, before anything else looks at it; ports do not matter.

    Args:
        app: handles the requests for allowed hosts.
        settings: the hosts are the loopback names, the address that is listened on, and `settings.hosts`. Where that
            address is a wildcard such as 0.0.0.0, it is the one that the connection came in at.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._allowed = {*_LOOPBACK, *map(_normal, (settings.host, *settings.hosts))}
        self._is_open = "*" in settings.hosts
        self._is_wildcard = _is_wildcard(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan" or self._allows(scope):
            await self._app(scope, receive, send)
            return
        detail = "This server does not answer to the host of the request. ANALYTICS_API_HOSTS names further ones."
        refusal = JSONResponse(Failure(detail=detail).model_dump(), 400)
        if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": _WEBSOCKET_POLICY_VIOLATION})

    def _allows(self, scope: Scope) -> bool:
        if self._is_open:
            return True
        host = _host_of(Headers(scope=scope).getlist("host"))
        if host is None:
            return False
        return host in self._allowed or (self._is_wildcard and _is_local_address(host, scope))


def _host_of(lines: Sequence[str]) -> str | None:
    """The host without its port; None where there is no single valid one."""
    found = _HOST.fullmatch(lines[0]) if len(lines) == 1 else None
    return _normal(found["ipv6"] or found["name"] or "") if found else None


def _normal(host: str) -> str:
    """One spelling of a name or an address, such as `::1` of `[0:0:0:0:0:0:0:1]`."""
    bare = host.strip("[]").lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare
    return str((address.version == 6 and address.ipv4_mapped) or address)  # noqa: PLR2004 - IPv6


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(_normal(host)).is_unspecified
    except ValueError:
        return not host


def _is_local_address(host: str, scope: Scope) -> bool:
    """Whether a host is the address that the connection came in at. A name is not: names can be rebound."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    address, _port = scope.get("server") or ("", 0)
    return _normal(address) == host
