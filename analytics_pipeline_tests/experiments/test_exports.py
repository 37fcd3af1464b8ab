"""Exports: strict JSON, whole files, and the page in a real browser without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, expect

from analytics_pipeline.errors import ExportFailed
from analytics_pipeline.experiments import log_metrics, log_run
from analytics_pipeline.experiments.__main__ import main
from analytics_pipeline.experiments.exports import export
from analytics_pipeline.experiments.importing import import_lakehouse
from analytics_pipeline_tests.experiments.scenario import CONFIGS, F1, LOSS, log_all
from analytics_pipeline_tests.ui.browser import NEEDS_CHROMIUM, PATIENCE, chromium

HOSTILE = "</script><script>alert(1)</script> /*{library}*/ <!-- 'run'"


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def strictly(path: Path) -> list[dict[str, object]]:
    found = json.loads(path.read_text(), parse_constant=refuse)
    assert isinstance(found, list)
    return found


def test_the_leaderboard_is_exported_as_records_in_its_order(root: Path) -> None:
    log_all(root)
    folder = export(root).folder
    records = strictly(folder / "leaderboard.json")

    assert folder == root.parent / "exports"
    assert [record["run_id"] for record in records] == ["r2", "r1", "r3"]
    assert records[1] == {
        "run_id": "r1",
        "status": "done",
        **CONFIGS["r1"],
        "best_f1": 0.6,
        "best_acc": None,
        "epochs_completed": 3,
    }


def test_nan_and_infinity_are_null_in_the_trends(root: Path) -> None:
    log_all(root)
    log_metrics("r1", 4, {"val_loss": float("inf")}, root=root)
    records = strictly(export(root).folder / "metric_trends.json")
    found = {(one["run_id"], one["epoch"], one["metric"]): one["value"] for one in records}

    assert found["r3", 2, "val_f1"] is None
    assert found["r1", 4, "val_loss"] is None
    assert found["r2", 1, "val_loss"] == LOSS["r2"][0]
    assert list(found) == sorted(found)
    assert len(found) == 1 + 2 * sum(map(len, F1.values()))


def test_times_of_an_imported_lakehouse_are_text(root: Path, tmp_path: Path) -> None:
    started = datetime(2026, 1, 1, 12, tzinfo=UTC)
    pl.DataFrame({"run_id": ["r"], "status": ["done"], "started": [started], "day": [started.date()]}).write_parquet(
        tmp_path / "runs.parquet"
    )
    import_lakehouse(tmp_path, root)

    (record,) = strictly(export(root).folder / "leaderboard.json")

    assert str(record["started"]).startswith("2026-01-01T12:00:00")
    assert record["day"] == "2026-01-01"


def test_trends_are_those_of_the_best_runs_and_of_chosen_metrics(root: Path) -> None:
    log_all(root)
    records = strictly(export(root, metrics=["val_loss"], top=2).folder / "metric_trends.json")

    assert {(record["run_id"], record["metric"]) for record in records} == {("r1", "val_loss"), ("r2", "val_loss")}


def test_an_export_replaces_what_was_there_and_leaves_no_draft(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for run_id in ("a", "b"):
        log_run(run_id, {}, root=root)
        export(root, folder)

    assert len(strictly(folder / "leaderboard.json")) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "leaderboard.json", "metric_trends.json"]


def test_a_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportFailed, match=re.escape(str(tmp_path / "file"))):
        export(root, tmp_path / "file" / "exports")


def test_an_empty_lakehouse_is_exported_as_empty_lists(root: Path) -> None:
    folder = export(root).folder

    assert strictly(folder / "leaderboard.json") == []
    assert strictly(folder / "metric_trends.json") == []


def test_the_commands_build_and_export_without_dagster(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_all(root)
    (root / "analytics.duckdb").unlink()

    assert main(["build", "--root", str(root), "--best", "loss=min:val_loss"]) == 0
    assert (root / "analytics.duckdb").exists()
    assert main(["export", "--root", str(root), "--to", str(tmp_path / "out"), "--metric", "val_f1", "--top", "1"]) == 0
    assert [record["run_id"] for record in strictly(tmp_path / "out" / "leaderboard.json")] == ["r3", "r2", "r1"]
    assert "Exported 3 runs and 3 points" in capsys.readouterr().out
    assert main(["build", "--root", str(root), "--best", "nonsense"]) == 1
    assert "error: The leaderboard's metric 'nonsense'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(root: Path, browser: Browser) -> Iterator[Page]:
    """The page from its file, with every request and every word on the console noted."""
    log_all(root)
    log_run(HOSTILE, {"lr": 10}, root=root)
    log_metrics(HOSTILE, 1, {"val_f1": 0.01}, root=root)
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    requests, problems = list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((export(root).folder / "index.html").as_uri())
    expect(page.locator("#board tbody tr")).to_have_count(4)
    yield page
    assert problems == []
    assert all(url.startswith(("file://", "data:")) for url in requests)
    context.close()


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
