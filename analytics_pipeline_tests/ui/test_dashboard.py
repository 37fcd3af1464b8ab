"""The dashboard in a real browser: it draws with data and without, searches, turns pages, and asks nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from analytics_pipeline.store import open_store
from analytics_pipeline_tests.ui.browser import NEEDS_CHROMIUM, served_api
from analytics_pipeline_tests.workplace import Workplace

pytestmark = NEEDS_CHROMIUM

DRAWN = "body[data-drawn]"
PAGE_SIZE = 15


@dataclass
class Watched:
    """A page, and what it did that it should not."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def _said(self, message: object) -> None:
        if getattr(message, "type", "") in {"error", "warning"}:
            self.complaints.append(str(getattr(message, "text", "")))

    def opened(self, address: str) -> Page:
        self.page.goto(address)
        self.page.wait_for_selector(DRAWN)
        return self.page


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sample_urls: Mapping[str, str]) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("dashboard") / "workplace", sample_urls)
    done = place.execute("refresh_all_job")
    assert done.returncode == 0, done.stdout
    return place


@pytest.fixture(scope="module")
def address(place: Workplace) -> Iterator[str]:
    with served_api(place.folder, place.environment) as address:
        yield address


@pytest.fixture
def watched(page: Page) -> Iterator[Watched]:
    """Checked at the end of each test: no error on the console, no request to anybody else."""
    watched = Watched(page)
    yield watched
    page.close()
    assert watched.complaints == []
    assert watched.hosts == {"127.0.0.1"}


def drawn(page: Page, canvas: str) -> bool:
    """Whether anything is painted on a canvas."""
    return bool(
        page.locator(f"#{canvas}").evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
        )
    )


def case_count(place: Workplace, search: str = "") -> int:
    question = 'SELECT count(*) FROM human_signals_cases WHERE contains(lower("Case_ID"), lower(?))'
    return int(open_store(place.home / "store").query(question, [search]).item())


def test_it_draws_what_is_published(place: Workplace, address: str, watched: Watched) -> None:
    page = watched.opened(address)
    scored = open_store(place.home / "store").query("SELECT count(*) FROM monitoring_data WHERE isfinite(metric_score)")
    expect(page.locator("#kpis dd").first).to_have_text(f"{scored.item():,}")
    assert all(drawn(page, canvas) for canvas in ("trends", "breakdown", "latency"))
    expect(page.locator("#chips li", has_text="monitoring_data ready")).to_be_visible()
    expect(page.locator("#status tbody tr")).to_have_count(4)


def test_filters_change_the_figures(place: Workplace, address: str, watched: Watched) -> None:
    page = watched.opened(address)
    metric = open_store(place.home / "store").query(
        "SELECT metric_name, count(*) FROM monitoring_data WHERE isfinite(metric_score) GROUP BY ALL ORDER BY ALL"
    )
    name, rows = metric.row(0)
    page.locator("select[name=metric_name]").select_option(name)
    expect(page.locator("#kpis dd").first).to_have_text(f"{rows:,}")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#kpis dd").first).not_to_have_text(f"{rows:,}")


def test_cases_are_searched_and_turned_page_by_page(place: Workplace, address: str, watched: Watched) -> None:
    page, total = watched.opened(address), case_count(place)
    assert total > PAGE_SIZE
    where = page.locator("#page")
    expect(where).to_have_text(re.compile(rf"Page 1 of \d+, {total:,} cases"))
    first = page.locator("#cases tbody button").first.inner_text()
    page.locator("#next").press("Enter")  # by keyboard
    expect(where).to_have_text(re.compile("Page 2 of"))
    expect(page.locator("#cases tbody button").first).not_to_have_text(first)
    page.locator("#search").fill(first)
    expect(where).to_have_text(re.compile("Page 1 of 1, "))
    expect(page.locator("#cases tbody button").first).to_have_text(first)
    page.locator("#search").fill("no case has <b>this</b> name")
    expect(page.locator("#cases tbody tr")).to_have_count(0)
    expect(where).to_have_text("Page 1 of 1, 0 cases")


def test_a_case_opens_with_its_conversation(address: str, watched: Watched) -> None:
    page = watched.opened(address)
    page.locator("#cases tbody button").first.click()
    expect(page.locator("#case")).to_be_visible()
    expect(page.locator("#case .message").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#case")).to_be_hidden()


def test_dark_and_light_are_remembered(address: str, watched: Watched) -> None:
    page = watched.opened(address)
    before = page.locator("html").get_attribute("data-theme")
    page.locator("#theme").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", str(before))
    after = page.locator("html").get_attribute("data-theme")
    watched.opened(address)
    expect(page.locator("html")).to_have_attribute("data-theme", str(after))


def test_it_draws_without_any_data(tmp_path_factory: pytest.TempPathFactory, watched: Watched) -> None:
    """The first thing that many people see."""
    empty = Workplace(tmp_path_factory.mktemp("empty") / "workplace", {})
    with served_api(empty.folder, empty.environment) as address:
        page = watched.opened(address)
        expect(page.get_by_text("No scores in this selection.").first).to_be_visible()
        expect(page.get_by_text("No cases.")).to_be_visible()
        expect(page.locator("#kpis dd").first).to_have_text("\N{EN DASH}")
        expect(page.locator("#problem")).to_be_hidden()


def test_a_token_is_asked_for_once(place: Workplace, page: Page) -> None:
    """Refused requests stand on the console, so that this page is not watched."""
    environment = {**place.environment, "ANALYTICS_API_TOKEN": "open sesame"}
    with served_api(place.folder, environment) as address:
        page.goto(address)
        page.locator("#login input").fill("open sesame")
        page.get_by_role("button", name="Continue").click()
        page.wait_for_selector(DRAWN)
        expect(page.locator("#status tbody tr")).to_have_count(4)
