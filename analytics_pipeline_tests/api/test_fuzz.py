"""Whatever fits the OpenAPI document gets an answer that fits it too; nothing makes the API trip."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from analytics_pipeline.api.app import create_app
from analytics_pipeline.settings import ApiSettings
from analytics_pipeline.store import create_store
from analytics_pipeline_tests.api import scenario


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The document of a served API over 100 records, without a Dagster."""
    store = create_store(tmp_path_factory.mktemp("fuzzed") / "home" / "store")
    dataset = scenario.records(100)
    scenario.publish(store, scenario.spec_of(), dataset, scenario.results(dataset))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # connections wait until the server takes them
        port = listening.getsockname()[1]
        settings_ = ApiSettings(dagster_url="http://127.0.0.1:1", port=port)
        app = create_app(settings_, store.root, [scenario.spec_of()])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        finally:
            server.should_exit = True
            thread.join()


schema = schemathesis.pytest.from_fixture("documented")


def check(case: schemathesis.Case) -> None:
    """An answer with a code and a shape that the document knows."""
    # Which columns there are only the store knows; numbers are also taken for times, as pydantic does.
    excluded = [negative_data_rejection, positive_data_acceptance]
    if case.method == "POST":
        excluded.append(not_a_server_error)  # 503: there is no Dagster
    response = case.call()
    case.validate_response(response, excluded_checks=excluded)
    assert response.status_code < 500 or (case.method == "POST" and response.status_code == 503)


@schema.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_route_keeps_to_the_document(case: schemathesis.Case) -> None:
    check(case)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_keeps_to_the_document_at_length(case: schemathesis.Case) -> None:
    check(case)
