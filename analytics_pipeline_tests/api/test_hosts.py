"""The API answers to its own names alone, and every answer carries the security headers."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from analytics_pipeline.api.app import create_app
from analytics_pipeline.api.headers import SECURITY_HEADERS
from analytics_pipeline.api.hosts import AllowedHosts
from analytics_pipeline.settings import ApiSettings
from analytics_pipeline.store import Store
from analytics_pipeline_tests.api.conftest import Api, Serve

TRENDS = "/api/monitoring/analytics/trends"
ROUTES = ["/", "/static/app.js", "/openapi.json", "/health", TRENDS, "/api/store/status", "/nowhere"]
REBOUND = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.example", "192.0.2.7", ""]


def messages(scope: dict[str, Any], settings: ApiSettings) -> list[Message]:
    """What an application behind `AllowedHosts` sends; without a refusal that is the path it was asked for."""
    sent: list[Message] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "reached", "path": scope["path"]})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "GET", "path": "/", "server": ("127.0.0.1", 8000), **scope}
    anyio.run(AllowedHosts(app, settings), whole, receive, send)
    return sent


def is_allowed(host: str, settings: ApiSettings | None = None, server: str = "127.0.0.1") -> bool:
    scope = {"headers": [(b"host", host.encode())], "server": (server, 8000)}
    first = messages(scope, settings or ApiSettings())[0]
    return str(first["type"]) == "reached"


@pytest.mark.parametrize("host", REBOUND)
@pytest.mark.parametrize("route", ROUTES)
def test_a_rebound_name_gets_nothing_but_a_400(api: Api, route: str, host: str) -> None:
    """Otherwise a page of another site reads everything, by a name that it makes resolve to this machine."""
    answers = [api.get(route, headers={"Host": host}), api.post(route, headers={"Host": host})]
    answers.append(api.options(route, {"Host": host, "Origin": "https://a", "Access-Control-Request-Method": "GET"}))

    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("This server does not answer to the host of the request.")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1:8000", "[::1]:9", "[0:0::0:1]"])
def test_loopback_names_are_allowed_at_any_port(host: str) -> None:
    assert is_allowed(host)


@pytest.mark.parametrize("host", ["[::1", "::1]", "[localhost", "localhost:x", "localhost:1:2", "u@localhost", "a,b"])
def test_what_is_not_a_host_is_refused(host: str) -> None:
    assert not is_allowed(host)


def test_a_request_has_one_host() -> None:
    for headers in ([], [(b"host", b"localhost")] * 2):
        assert messages({"headers": headers}, ApiSettings())[0]["status"] == 400


def test_the_bound_address_and_those_of_the_setting_are_allowed() -> None:
    settings = ApiSettings(host="192.0.2.7", hosts=("Analytics.example", "[2001:db8::1]"))

    for host in ("192.0.2.7:8000", "analytics.example", "[2001:DB8:0::1]:80", "localhost"):
        assert is_allowed(host, settings)
    assert not is_allowed("other.example", settings)
    assert is_allowed("other.example", ApiSettings(hosts=("*",)))


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])  # noqa: S104 - nothing listens
def test_bound_to_all_addresses_it_answers_to_the_one_that_was_connected_to(bound: str) -> None:
    settings = ApiSettings(host=bound)

    assert is_allowed("192.0.2.7:8000", settings, server="192.0.2.7")
    assert is_allowed("192.0.2.7", settings, server="::ffff:192.0.2.7")
    assert not is_allowed("192.0.2.8", settings, server="192.0.2.7")
    assert not is_allowed("evil.example", settings, server="evil.example"), "a name could be rebound"
    assert not is_allowed("192.0.2.7", server="192.0.2.7"), "only where all are listened on"


@pytest.mark.parametrize(
    ("extensions", "refusal"),
    [({}, {"type": "websocket.close", "code": 1008}), ({"websocket.http.response": {}}, {"status": 400})],
)
def test_a_websocket_of_another_host_is_refused(extensions: dict[str, Any], refusal: dict[str, Any]) -> None:
    scope = {"type": "websocket", "headers": [(b"host", b"evil.example")], "extensions": extensions}

    assert refusal.items() <= messages(scope, ApiSettings())[0].items()


def test_every_answer_has_the_security_headers(serve: Serve, api: Api, monitoring: Store) -> None:
    guarded = serve(monitoring.root, token="secret", cors_origins=("https://a.example",))
    tag = api.get(TRENDS).headers["etag"]
    answers = {
        "a static file": (200, api.get("/static/app.js")),
        "the page": (200, api.get("/")),
        "an answer": (200, api.get(TRENDS)),
        "a known answer": (304, api.get(TRENDS, headers={"If-None-Match": tag})),
        "no such route": (404, api.get("/nowhere")),
        "no such file": (404, api.get("/static/nowhere.js")),
        "no such method": (405, api.post(TRENDS)),
        "a wrong parameter": (422, api.get(TRENDS, granularity="x")),
        "another host": (400, api.get("/", headers={"Host": "evil.example"})),
        "no token": (401, guarded.get(TRENDS)),
        "a preflight": (
            200,
            guarded.options(TRENDS, {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}),
        ),
    }

    for name, (status, answer) in answers.items():
        assert answer.status_code == status, name
        for header, value in SECURITY_HEADERS.items():
            assert answer.headers.get_list(header) == [value], name


def test_a_failure_of_the_api_has_the_security_headers(store: Store) -> None:
    """It is answered outside of all middleware."""
    app = create_app(ApiSettings(), store.root, [])

    @app.get("/fails")
    async def fails() -> None:
        raise ZeroDivisionError

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/fails")

    answer = anyio.run(ask)

    assert answer.status_code == 500
    for header, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(header) == [value]


def test_the_openapi_document_needs_the_token_where_one_is_set(serve: Serve, api: Api, monitoring: Store) -> None:
    guarded = serve(monitoring.root, token="secret")

    assert TRENDS in api.json("/openapi.json")["paths"]
    assert guarded.get("/openapi.json").status_code == 401
    assert guarded.get("/openapi.json", headers={"Authorization": "Bearer secret"}).status_code == 200
    for page in ("/docs", "/redoc"):
        assert api.get(page).status_code == 404


def test_pages_cannot_be_framed_nor_moved_nor_sent_elsewhere() -> None:
    policy = SECURITY_HEADERS["Content-Security-Policy"].split("; ")

    assert {"default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy)
