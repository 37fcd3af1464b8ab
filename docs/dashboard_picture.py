"""The picture of the dashboard in docs/images, taken from the running page: `python docs/dashboard_picture.py`.

Needs Debian's chromium. It syncs the sample in a temporary folder first, so that the picture shows figures.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize

from analytics_pipeline_tests.ui.browser import chromium, served_api
from analytics_pipeline_tests.workplace import REPOSITORY, Workplace

PICTURE = REPOSITORY / "docs" / "images" / "dashboard.png"
SIZE = ViewportSize(width=1320, height=1180)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        workplace = Workplace(Path(folder) / "workplace", {})
        done = workplace.execute("refresh_all_job")
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, "refresh_all_job", done.stdout)
        with served_api(workplace.folder, workplace.environment) as address, chromium() as browser:
            page = browser.new_page(viewport=SIZE)
            page.goto(address)
            page.wait_for_selector("body[data-drawn]")
            page.screenshot(path=str(PICTURE), animations="disabled")
    print(f"{PICTURE.relative_to(REPOSITORY)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
