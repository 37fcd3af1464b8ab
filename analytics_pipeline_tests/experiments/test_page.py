"""The page of a lakehouse, in a real browser and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analytics_pipeline.experiments import log_metrics, log_run
from analytics_pipeline.experiments.exports import export
from analytics_pipeline_tests.experiments.scenario import log_all
from analytics_pipeline_tests.ui.browser import NEEDS_CHROMIUM, PATIENCE, chromium

HOSTILE = "</script><script>alert(1)</script> /*{library}*/ <!-- 'run'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@contextmanager
def page_of(root: Path, browser: Browser, runs: int) -> Iterator[Page]:
    """The page of a lakehouse from its file, with every request and every word on the console noted."""
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    requests, problems = list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((export(root).folder / "index.html").as_uri())
    expect(page.locator("#board tbody tr")).to_have_count(runs)
    yield page
    assert problems == []
    assert all(url.startswith(("file://", "data:")) for url in requests)
    context.close()


@pytest.fixture
def opened(root: Path, browser: Browser) -> Iterator[Page]:
    log_all(root)
    log_run(HOSTILE, {"lr": 10}, root=root)
    log_metrics(HOSTILE, 1, {"val_f1": 0.01}, root=root)
    with page_of(root, browser, 4) as page:
        yield page


def column(page: Page, number: int = 1) -> list[str]:
    return page.locator(f"#board tbody td:nth-child({number})").all_inner_texts()


class TestPage:
    """In chromium, from `file://`."""

    pytestmark = NEEDS_CHROMIUM

    def test_it_draws_the_leaderboard_and_the_trends(self, opened: Page) -> None:
        drawn = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"

        assert column(opened) == ["r2", "r1", "r3", HOSTILE]
        assert opened.locator("#charts h2").all_inner_texts() == ["val_f1", "val_loss"]
        assert all(canvas.evaluate(drawn) > 10 for canvas in opened.locator("canvas").all())

    def test_it_sorts_by_the_keyboard_and_back(self, opened: Page) -> None:
        opened.locator('th[data-column="lr"] button').focus()
        opened.keyboard.press("Enter")
        assert column(opened) == ["r3", "r2", "r1", HOSTILE]
        opened.keyboard.press("Enter")
        assert column(opened) == [HOSTILE, "r1", "r2", "r3"]
        expect(opened.locator('th[data-column="lr"]')).to_have_attribute("aria-sort", "descending")

    def test_rows_without_a_value_stay_at_the_end(self, opened: Page) -> None:
        button = opened.locator('th[data-column="hidden_dim"] button')
        button.click()
        assert column(opened) == ["r2", "r1", "r3", HOSTILE]
        button.click()
        assert column(opened) == ["r1", "r3", "r2", HOSTILE]

    def test_it_has_a_dark_mode(self, opened: Page) -> None:
        background = "getComputedStyle(document.body).backgroundColor"
        light = opened.evaluate(background)
        opened.locator("#theme").click()

        assert opened.evaluate(background) != light
        expect(opened.locator("#theme")).to_have_attribute("aria-pressed", "true")
        expect(opened.locator("canvas")).to_have_count(2)

    def test_whole_numbers_beyond_those_of_javascript_are_shown_and_sorted_exactly(
        self, root: Path, browser: Browser
    ) -> None:
        seeds = {"a": 2**62 + 1, "b": 7, "c": -(2**60) - 1, "d": 2**62, "e": 2**53 + 1}
        for run_id, seed in seeds.items():
            log_run(run_id, {"seed": seed, "small": 2**53}, root=root)
        log_run("none", {}, root=root)
        with page_of(root, browser, 6) as page:
            page.locator('th[data-column="seed"] button').click()
            names = page.locator("#board th").all_inner_texts()

            assert column(page) == ["c", "b", "e", "d", "a", "none"]
            assert column(page, names.index("seed") + 1) == [*map(str, sorted(seeds.values())), "\N{EN DASH}"]
            assert column(page, names.index("small") + 1)[0] == str(2**53)
            expect(page.locator('th[data-column="seed"]')).to_have_class("number")
