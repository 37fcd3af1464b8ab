"""A user's working folder: where commands run as a user types them, away from this repository."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from analytics_pipeline.settings import SOURCE_URL_VARIABLES
from analytics_pipeline.store import open_store

REPOSITORY = Path(__file__).parents[1]
SUPERSEDED = "superseded and its usage is discouraged"
TIMEOUT = 120


class Workplace:
    """A folder with the shipped settings, and the environment of the commands that run in it."""

    def __init__(self, folder: Path, urls: Mapping[str, str]) -> None:
        self.folder = folder
        self.home = folder / "home"
        folder.mkdir(parents=True)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(REPOSITORY / name, folder)
        ours = {"DAGSTER_HOME", "PYTHONWARNINGS", *SOURCE_URL_VARIABLES}
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        self.environment = {**inherited, "ANALYTICS_HOME": str(self.home), **urls}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python here; standard output and error come back as one text."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def dagster(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `dagster …` here."""
        return self.python("-m", "dagster", *arguments)

    def materialize(self, selection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `dagster asset materialize` on the shipped code location."""
        code = ("-m", "analytics_pipeline.definitions")
        return self.dagster("asset", "materialize", *code, "--select", selection, *arguments)

    def execute(self, job: str) -> subprocess.CompletedProcess[str]:
        """Run `dagster job execute` on the shipped code location."""
        return self.dagster("job", "execute", "-m", "analytics_pipeline.definitions", "-j", job)

    def events(self) -> list[tuple[str, str | None]]:
        """Asset and partition of every materialisation event in this folder's `.dagster`, in order."""
        database = self.folder / ".dagster" / "storage" / "history" / "runs" / "index.db"
        if not database.exists():
            return []
        query = (
            "SELECT json_extract(asset_key, '$[0]'), partition FROM event_logs "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id"
        )
        with closing(sqlite3.connect(database)) as connection:
            return [(str(asset), partition) for asset, partition in connection.execute(query)]

    def version(self) -> int:
        """Of the store; 0 where nothing was committed."""
        store = self.home / "store"
        return open_store(store).manifest().version if store.exists() else 0

    def holds(self, secret: str) -> list[Path]:
        """The files here that hold a text."""
        return [path for path in self.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
