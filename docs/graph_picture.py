"""The picture of the asset graph in docs/images, taken from the running UI: `python docs/graph_picture.py`.

Needs Debian's chromium. It syncs the sample in a temporary folder first, so that the picture shows a store at work.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, FloatRect, ViewportSize

from analytics_pipeline_tests.ui.browser import chromium, served_ui
from analytics_pipeline_tests.workplace import REPOSITORY, Workplace

PICTURE = REPOSITORY / "docs" / "images" / "asset-graph.png"
GROUPS = ("eval", "human_signals", "monitoring")
OPEN = "monitoring"
"""With all three open, Dagster zooms out until no check, partition or kind is left in the boxes."""
SIZE = ViewportSize(width=1700, height=1000)
GRAPH = FloatRect(x=472, y=125, width=1124, height=800)
"""The graph itself within the page, without Dagster's lists and buttons around it."""


def take_picture(browser: Browser, address: str, target: Path) -> None:
    """Screenshot of the global asset graph with one group open."""
    page = browser.new_page(viewport=SIZE)
    page.goto(f"{address}/asset-groups?expanded={quote(f'global@global:{OPEN}', safe='')}", wait_until="networkidle")
    page.get_by_role("button", name="Hide navigation").click()
    page.reload(wait_until="networkidle")
    for group in GROUPS:
        page.get_by_text(group, exact=True).first.wait_for()
    page.get_by_text("2 / 2 Passed").wait_for()
    page.screenshot(path=str(target), animations="disabled", clip=GRAPH)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        workplace = Workplace(Path(folder) / "workplace", {})
        done = workplace.execute("refresh_all_job")
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, "refresh_all_job", done.stdout)
        with served_ui(workplace.folder, workplace.environment) as address, chromium() as browser:
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            take_picture(browser, address, PICTURE)
    print(f"{PICTURE.relative_to(REPOSITORY)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
