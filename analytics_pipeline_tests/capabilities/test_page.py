"""The page of the capability store: what it shows is run as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from analytics_pipeline.capabilities import AnalyticsStore, Provenance, get_provenance_defaults, reset_provenance
from analytics_pipeline_tests.capabilities.scenario import run, uids
from analytics_pipeline_tests.workplace import REPOSITORY

PAGE = REPOSITORY / "docs" / "capabilities.md"
EVENTS = "SELECT DISTINCT run_event_id FROM runs ORDER BY ALL"


@pytest.fixture(autouse=True)
def _nothing_stays_configured() -> Iterator[None]:
    yield
    reset_provenance()


def shown(words: str, **names: object) -> dict[str, Any]:
    """The names after the one example with certain words, which sees some already."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if words in block]
    exec(block, names)  # noqa: S102 - our own page
    return names


def test_the_backend_of_four_methods_keeps_what_it_is_given_once() -> None:
    store: AnalyticsStore = shown("class MemoryBackend", AnalyticsStore=AnalyticsStore)["store"]
    store.write([run("a", rows=2), run("b")])
    store.write([run("a", rows=2), run("c", notes="new")])

    assert store.list_tables() == ["example", "runs"]
    assert uids(store) == ["a", "a", "b", "c"]
    assert store.query_sql("SELECT count(*) FROM runs").item() == 9
    assert store.describe_table("example")["score"] == "Float64"
    assert store.get_run_uri("c") == "example"


def test_the_backend_of_four_methods_keeps_each_event_of_a_run() -> None:
    store: AnalyticsStore = shown("class MemoryBackend", AnalyticsStore=AnalyticsStore)["store"]
    for event in ("one", "one", "two"):
        store.write([run("a")], provenance={"run_event_id": event})

    assert uids(store) == ["a"]
    assert store.query_sql(EVENTS).rows() == [("one",), ("two",)]
    assert store.query_sql("SELECT count(*) FROM runs").item() == 6


def test_configured_provenance_is_stored_as_the_page_says() -> None:
    names = shown("class MemoryBackend", AnalyticsStore=AnalyticsStore)
    shown("configure_provenance(user_id", store=names["store"], run=run("a"))

    told = names["store"].query_sql("SELECT DISTINCT user_id, environment, request_id FROM runs").rows()
    assert told == [("ada", "production", "r-17")]
    assert get_provenance_defaults() == Provenance(user_id="ada", environment="production")
