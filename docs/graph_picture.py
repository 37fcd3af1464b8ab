"""The picture of the asset graph in docs/images, taken from the running UI: `python docs/graph_picture.py`.

Needs Debian's chromium. Runs in a temporary folder with the sample's definitions; nothing is synced.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURE = REPOSITORY / "docs" / "images" / "asset-graph.png"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 120
LOCATION = "analytics_pipeline"
GROUPS = ("eval", "human_signals", "monitoring")


@contextmanager
def served_ui(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`dagster dev` on a free port, in a folder with the shipped settings; yields its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "dev.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address, server, folder / "dev.log")
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)


def _await(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{address}/server_info", timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dagster dev did not come up:\n{log.read_text()}") from error
            time.sleep(0.2)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def take_picture(browser: Browser, address: str, target: Path) -> None:
    """Screenshot of the global asset graph, all groups open."""
    page = browser.new_page(viewport={"width": 1600, "height": 800})
    opened = ",".join(quote(f"__repository__@{LOCATION}:{group}") for group in GROUPS)
    page.goto(f"{address}/asset-groups?expanded={quote(opened)}", wait_until="networkidle")
    page.screenshot(path=str(target), animations="disabled")


def main() -> None:
    """Write the picture."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_DB_URL")}
    environment.pop("DAGSTER_HOME", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(REPOSITORY / file, folder)
        environment["ANALYTICS_HOME"] = str(folder / "home")
        with served_ui(folder, environment) as address, chromium() as browser:
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            take_picture(browser, address, PICTURE)
    print(f"{PICTURE.relative_to(REPOSITORY)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
