"""The code location: what is in it, and what loading it costs and does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analytics_pipeline.components.run_documents import TABLES
from analytics_pipeline.settings import SOURCE_URL_VARIABLES
from analytics_pipeline_tests.workplace import REPOSITORY

SNAPSHOT = Path(__file__).parent / "asset_graph.json"
HEAVY = ("adbc_driver_manager", "adbc_driver_postgresql", "pandas", "polars", "psycopg", "pyarrow", "sqlalchemy")
EVAL = ("eval_data", "eval_dataset", "eval_metadata", "eval_results")
OF_NO_DATASET = (
    *(f"capabilities/{table}" for table in TABLES),
    "digits_bias",
    "digits_cleaning",
    "digits_evaluation",
    "experiments/exports",
    "experiments/leaderboard",
)
DATASETS = ("monitoring", "human_signals", "eval")


def run(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in an empty folder, with an environment that holds nothing of the project's."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_asset_graph_is_the_one_that_was_reviewed() -> None:
    """Renew it as `graph` says, and read the difference."""
    done = subprocess.run([sys.executable, "-m", "analytics_pipeline_tests.graph"], capture_output=True, check=True)

    assert done.stdout.decode() == SNAPSHOT.read_text()


def test_loading_writes_nothing_and_starts_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "import analytics_pipeline.definitions", ANALYTICS_HOME=str(tmp_path / "home"))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("url", ["postgresql://bob:hunter2secret@127.0.0.1:1/db", "no url at all"])
def test_loading_asks_no_source(tmp_path: Path, url: str) -> None:
    """A source that is down, or misspelt, must not take the code location down with it."""
    done = run(tmp_path, "import analytics_pipeline.definitions", **dict.fromkeys(SOURCE_URL_VARIABLES, url))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loading_leaves_drivers_and_data_frames_for_the_run(tmp_path: Path) -> None:
    """Every command, the UI's server and the daemon load the definitions; few of them touch data."""
    done = run(tmp_path, f"import sys, analytics_pipeline.definitions; print({set(HEAVY)} & set(sys.modules))")

    assert done.stdout == "set()\n", done.stderr


def test_datasets_without_a_source_are_left_out_and_say_so(tmp_path: Path) -> None:
    """Otherwise who has one database only cannot load the code location; one variable switches the sample off."""
    code = (
        "from analytics_pipeline.settings import SOURCE_URL_VARIABLES\n"
        "import os; os.environ['EVAL_DB_URL'] = 'postgresql://h/d'\n"
        "from analytics_pipeline.definitions import defs\n"
        "keys = defs.resolve_asset_graph().materializable_asset_keys\n"
        "print(sorted(key.to_user_string() for key in keys))"
    )

    done = run(tmp_path, code)

    assert done.stdout == f"{sorted([*EVAL, *OF_NO_DATASET])}\n"
    assert done.stderr.count("is disabled") == len(DATASETS) - 1


def test_the_location_keeps_to_its_size() -> None:
    assert len((REPOSITORY / "analytics_pipeline" / "definitions.py").read_text().splitlines()) <= 60
