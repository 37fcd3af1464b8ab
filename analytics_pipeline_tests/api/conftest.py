"""Fixtures of the API's tests: an application on an event loop of its own, asked over its real interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from analytics_pipeline.api.app import create_app
from analytics_pipeline.settings import ApiSettings
from analytics_pipeline.store import Store, create_store
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline_tests.api import scenario


class Api:
    """An application and a client of it."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def get(self, path: str, *, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        """Ask."""
        return self._portal.call(partial(self._client.get, path, params=params or None, headers=headers))

    def post(self, path: str, *, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        """Tell."""
        return self._portal.call(partial(self._client.post, path, params=params or None, headers=headers))

    def options(self, path: str, headers: dict[str, str]) -> httpx.Response:
        """Ask whether one may ask."""
        return self._portal.call(partial(self._client.options, path, headers=headers))

    def at_once(self, paths: Sequence[str]) -> list[httpx.Response]:
        """Ask several things at the same time."""
        futures = [self._portal.start_task_soon(partial(self._client.get, path)) for path in paths]
        return [future.result() for future in futures]

    def json(self, path: str, **params: Any) -> Any:
        """The JSON of an answer that must be one."""
        answer = self.get(path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()


Serve = Callable[..., Api]


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Makes applications; all end with the session."""
    with ExitStack() as until_end:
        portal = until_end.enter_context(start_blocking_portal())

        def make(root: Path, *specs: SplitSyncSpec, **settings: Any) -> Api:
            app = create_app(ApiSettings(**settings), root, specs or [scenario.spec_of()])
            transport = httpx.ASGITransport(app)
            client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
            until_end.callback(lambda: portal.call(client.aclose))
            return Api(portal, client)

        yield make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create_store(tmp_path / "home" / "store")


@pytest.fixture(scope="session")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with 300 records and their results; tests only read it."""
    found = create_store(tmp_path_factory.mktemp("monitoring") / "home" / "store")
    dataset = scenario.records(300)
    scenario.publish(found, scenario.spec_of(), dataset, scenario.results(dataset))
    return found


@pytest.fixture(scope="session")
def api(serve: Serve, monitoring: Store) -> Api:
    """The API over those."""
    return serve(monitoring.root)


@pytest.fixture(scope="session")
def frame() -> pl.DataFrame:
    """The same rows, joined by Polars."""
    dataset = scenario.records(300)
    return scenario.joined(dataset, scenario.results(dataset))
