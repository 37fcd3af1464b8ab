"""Whatever fits the OpenAPI document gets an answer that fits it too; nothing makes the API trip."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from analytics_pipeline.api.app import create_app
from analytics_pipeline.settings import ApiSettings
from analytics_pipeline.store import create_store
from analytics_pipeline_tests.api import scenario

SPEC = scenario.spec_of()
documented = schemathesis.openapi.from_dict(create_app(ApiSettings(), Path("nowhere"), [SPEC]).openapi())


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served API over 100 records, without a Dagster."""
    store = create_store(tmp_path_factory.mktemp("fuzzed") / "home" / "store")
    dataset = scenario.records(100)
    scenario.publish(store, SPEC, dataset, scenario.results(dataset))
    app = create_app(ApiSettings(dagster_url="http://127.0.0.1:1"), store.root, [SPEC])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # connections wait until the server takes them
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def check(case: schemathesis.Case[Any], url: str) -> None:
    """An answer with a code and a shape that the document knows."""
    # Only the store knows which columns there are; and pydantic also takes numbers for times.
    excluded: list[CheckFunction] = [negative_data_rejection, positive_data_acceptance]
    if case.method == "POST":
        excluded.append(not_a_server_error)  # 503: there is no Dagster
    response = case.call(base_url=url)
    case.validate_response(response, excluded_checks=excluded)
    assert response.status_code < 500 or (case.method == "POST" and response.status_code == 503)


@documented.parametrize()
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_route_keeps_to_the_document(case: schemathesis.Case[Any], url: str) -> None:
    check(case, url)


@pytest.mark.slow
@documented.parametrize()
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_keeps_to_the_document_at_length(case: schemathesis.Case[Any], url: str) -> None:
    check(case, url)
