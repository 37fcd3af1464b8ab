"""Pages as a user has them: `dagster dev` or the read API on a free port, and Debian's chromium in front of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
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
NEEDS_CHROMIUM = [
    pytest.mark.ui,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium"),
]
"""Marks of a module of tests."""


@contextmanager
def served_ui(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """`dagster dev` on a free port, in a folder with the shipped settings; yields its address once it answers."""
    port = _free_port()
    command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with _served(command, folder, environment, port, "/server_info") as address:
        yield address


@contextmanager
def served_api(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The read API on a free port, over the home that the environment names; yields its address once it answers."""
    port = _free_port()
    variables = {**environment, "ANALYTICS_API_PORT": str(port)}
    with _served(["analytics_pipeline.api"], folder, variables, port, "/health") as address:
        yield address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _served(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], port: int, health: str
) -> Iterator[str]:
    log_file = folder / f"{command[0]}-{port}.log"
    with log_file.open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address + health, server, log_file)
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)


def _await(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{address} does not answer:\n{log.read_text()}") from error
            time.sleep(0.2)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
