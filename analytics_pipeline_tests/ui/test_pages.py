"""Dagster's pages in a real browser: the graph is there, and what is materialised from a page arrives in the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from analytics_pipeline.store import open_store
from analytics_pipeline_tests.ui.browser import NEEDS_CHROMIUM, PATIENCE, served_ui
from analytics_pipeline_tests.workplace import Workplace

pytestmark = NEEDS_CHROMIUM

WEEK = timedelta(7)
FIRST_WEEK = date(2026, 9, 28)
GROUPS = ("eval", "human_signals", "monitoring")
RUNS = "{ runsOrError { ... on Runs { results { status jobName tags { key value } } } } }"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sample_urls: Mapping[str, str]) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("ui") / "workplace", sample_urls)


@pytest.fixture(scope="module")
def address(place: Workplace) -> Iterator[str]:
    with served_ui(place.folder, place.environment) as address:
        yield address


@pytest.fixture(scope="module")
def filled(place: Workplace, address: str) -> Workplace:
    """The place once the sensors have filled its store."""
    tables = {f"{group}_metadata" for group in GROUPS}
    wait_for(lambda: tables <= {asset for asset, _ in place.events()}, place.events)
    return place


def wait_for(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def weeks() -> list[str]:
    amount = (datetime.now(UTC).date() - FIRST_WEEK) // WEEK + 1
    return [str(FIRST_WEEK + number * WEEK) for number in range(amount)]


def runs(page: Page, address: str) -> list[Mapping[str, object]]:
    answer = page.request.post(f"{address}/graphql", data={"query": RUNS}).json()
    found = answer["data"]["runsOrError"]["results"]
    assert isinstance(found, list)
    return found


def backfill_runs(page: Page, address: str) -> list[Mapping[str, object]]:
    return [run for run in runs(page, address) if "dagster/backfill" in str(run["tags"])]


def test_the_first_page_shows_every_dataset_and_no_invitation(page: Page, address: str) -> None:
    page.goto(f"{address}/asset-groups")

    for group in GROUPS:
        expect(page.get_by_text(group, exact=True).first).to_be_visible(timeout=PATIENCE * 1000)
    expect(page.get_by_text("Join the Dagster community")).to_have_count(0)


@pytest.mark.parametrize("group", GROUPS)
def test_the_graph_of_a_dataset_shows_its_tables_and_its_view(page: Page, address: str, group: str) -> None:
    page.goto(f"{address}/locations/analytics_pipeline/asset-groups/{group}/lineage")

    for name in ("dataset", "results", "data", "metadata"):
        expect(page.get_by_text(f"{group}_{name}", exact=True).first).to_be_visible(timeout=PATIENCE * 1000)


def test_the_store_fills_by_itself(page: Page, address: str, filled: Workplace) -> None:
    page.goto(f"{address}/automation")

    for name in ("eval_source_sensor", "monitoring_refresh_job_schedule", "audit_job_schedule"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE * 1000)


def test_all_partitions_are_replaced_from_the_page_in_one_run(page: Page, address: str, filled: Workplace) -> None:
    """A backfill of years must be one query per table, not a run per partition."""
    before, version = Counter(filled.events()), filled.version()
    page.goto(f"{address}/locations/analytics_pipeline/asset-groups/eval/lineage")
    page.get_by_role("button", name="Materialize all").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch backfill").click()

    pair: list[tuple[str, str | None]] = [(f"eval_{half}", week) for half in ("dataset", "results") for week in weeks()]
    expected = Counter([*pair, ("eval_data", None), ("eval_metadata", None)])
    wait_for(lambda: Counter(filled.events()) - before == expected, filled.events)
    wait_for(lambda: {run["status"] for run in runs(page, address)} == {"SUCCESS"}, lambda: runs(page, address))
    assert len(backfill_runs(page, address)) <= 2, "one for the pair, perhaps one for the view"
    assert filled.version() == version + 1
    assert open_store(filled.home / "store").query("SELECT count(*) FROM eval_data").item() > 0


def test_the_page_of_a_table_shows_what_a_sync_said(page: Page, address: str, filled: Workplace) -> None:
    page.goto(f"{address}/assets/human_signals_results?view=events")

    expect(page.get_by_text("read_tier").first).to_be_visible(timeout=PATIENCE * 1000)
    page.get_by_text("[Show Table Schema]").first.click()
    expect(page.get_by_text("metric_score").first).to_be_visible(timeout=PATIENCE * 1000)


def test_the_page_of_a_view_shows_its_checks_and_that_they_passed(page: Page, address: str, filled: Workplace) -> None:
    page.goto(f"{address}/assets/monitoring_data?view=checks")

    for name in ("no_orphan_results", "verified_in_time"):
        expect(page.get_by_text(name).first).to_be_visible(timeout=PATIENCE * 1000)


def test_the_page_of_the_metadata_shows_a_preview_and_numbers(page: Page, address: str, filled: Workplace) -> None:
    page.goto(f"{address}/assets/monitoring_metadata?view=events")

    for name in ("preview", "monitoring_data/avg_score", "last_verified"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE * 1000)


def test_a_refresh_is_launched_from_the_page_of_its_job(page: Page, address: str, filled: Workplace) -> None:
    def done() -> int:
        ended = [run for run in runs(page, address) if run["jobName"] == "monitoring_refresh_job"]
        return sum(run["status"] == "SUCCESS" for run in ended)

    before = done()
    page.goto(f"{address}/locations/analytics_pipeline/jobs/monitoring_refresh_job/playground")
    page.get_by_role("button", name="Launch run").first.click()

    wait_for(lambda: done() == before + 1, lambda: runs(page, address))
