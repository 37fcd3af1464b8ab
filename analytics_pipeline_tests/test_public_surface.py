"""What the project shows of itself: public names, charters, and documentation that cannot rot."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_pipeline_tests.workplace import REPOSITORY

PACKAGE = REPOSITORY / "analytics_pipeline"
LONGEST_MODULE = 450
PUBLIC = {
    "analytics_pipeline.capabilities": {
        "AnalyticsStore",
        "AnalyticsStoreConfig",
        "BaseRecord",
        "CapabilityRun",
        "DuckDBBackend",
        "ParquetBackend",
        "Provenance",
        "ProvenanceLike",
        "Record",
        "RunRecord",
        "StorageBackend",
        "StorageWriteReceipt",
        "build_store",
        "configure_provenance",
        "get_provenance_defaults",
        "reset_provenance",
    },
    "analytics_pipeline.components": {"SplitSyncComponent", "build_sync_assets", "load_datasets"},
    "analytics_pipeline.experiments": {
        "Best",
        "Goal",
        "MetricsBuffer",
        "hyperparameter_impact",
        "leaderboard",
        "log_artifact",
        "log_config",
        "log_dataset",
        "log_metrics",
        "log_run",
        "metric_trend",
    },
    "analytics_pipeline.objects": {
        "AttributeMapping",
        "Base",
        "DataStore",
        "DataStoreIO",
        "Durability",
        "Experiment",
        "Run",
        "Runs",
        "Swept",
        "create_experiment",
        "deserialize",
        "load_experiment",
        "open_base",
        "serialize",
        "sweep",
        "tmpdir_ctx",
        "using_base",
    },
    "analytics_pipeline.store": {
        "Change",
        "Column",
        "CompactedTable",
        "CompactionRules",
        "DataFile",
        "FileCheck",
        "JoinView",
        "JsonObject",
        "JsonValue",
        "Manifest",
        "Metadata",
        "Parameter",
        "Parameters",
        "Partition",
        "PartitionedWriter",
        "Preview",
        "Reading",
        "Replace",
        "Restored",
        "ResumableStage",
        "Stage",
        "Store",
        "Swept",
        "Table",
        "TableChange",
        "create_store",
        "open_store",
        "unopened_store",
    },
}
SCRIPTS = {PACKAGE / "sample" / "digits" / "train.py"}
"""Not imported by anything: each says how to run it instead."""
MODULES = sorted(PACKAGE.rglob("*.py"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
IN_BACKTICKS = re.compile(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|md|ya?ml|toml|sql|png|lock)|[\w-]+\.(?:toml|lock|ya?ml))`")
ELSEWHERE = re.compile(r"(.*/)?defs\.yaml|duckdb\.yaml|\w+_db\.yaml")
"""Files that a reader is to write, or has from the system that this one follows."""


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def commands(page: Path) -> Iterator[str]:
    """Every `make x` that a page tells its reader to type: in a code block, or in backticks."""
    text = page.read_text()
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE) + re.findall(r"`([^`\n]+)`", text):
        yield from re.findall(r"(?:^|[;&|]\s*|^\$ )make ((?:\w+=\S+ )*[a-z0-9-]+)", block, re.MULTILINE)


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_the_reviewed_ones_and_exist(module: str) -> None:
    imported = importlib.import_module(module)

    assert set(imported.__all__) == PUBLIC[module]
    assert list(imported.__all__) == sorted(imported.__all__)
    assert all(hasattr(imported, name) for name in imported.__all__)


def test_no_other_package_promises_names() -> None:
    promising = {
        name_of(path.parent).replace("/", ".")
        for path in PACKAGE.rglob("__init__.py")
        if re.search(r"^__all__", path.read_text(), re.MULTILINE)
    }
    assert promising == {*PUBLIC, "analytics_pipeline.errors"}


def test_every_error_can_be_imported_from_one_place() -> None:
    errors = importlib.import_module("analytics_pipeline.errors")
    defined = {
        name
        for path in (PACKAGE / "errors").glob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
    }
    assert set(errors.__all__) == defined


def lacks_of_charter(path: Path) -> list[str]:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    wanted = [""] if path.name == "__init__.py" or path in SCRIPTS else ["Belongs here:", "Does not:"]
    return [part or "a docstring" for part in wanted if not docstring or part not in docstring]


def test_every_module_opens_with_its_charter() -> None:
    assert {name_of(path): lacks for path in MODULES if (lacks := lacks_of_charter(path))} == {}


def test_every_module_fits_in_a_head() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_every_make_target_of_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {(name_of(page), command.split(" ")[-1]) for page in PAGES for command in commands(page)}
    assert {(page, target) for page, target in named if target not in targets} == set()


def test_every_relative_link_of_a_page_leads_somewhere() -> None:
    links = [(page, link.partition("#")[0]) for page in PAGES for link in LINK.findall(page.read_text())]
    dead = {
        (name_of(page), link)
        for page, link in links
        if link and "://" not in link and not (page.parent / link).exists()
    }
    assert dead == set()


def test_every_file_that_a_page_names_exists() -> None:
    named = [(page, path) for page in PAGES for path in IN_BACKTICKS.findall(page.read_text())]
    absent = {
        (name_of(page), path)
        for page, path in named
        if not ELSEWHERE.fullmatch(path)
        and not any((place / path).exists() for place in (REPOSITORY, PACKAGE, page.parent))
    }
    assert absent == set()


def test_the_repository_is_free_of_paths_of_somebodys_machine() -> None:
    private = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w")
    places = [PACKAGE, *(REPOSITORY / name for name in ("docs", "examples", "benchmarks", "deploy"))]
    texts = [path for place in places for path in place.rglob("*") if path.suffix in {".py", ".md", ".yaml", ".sql"}]

    assert [name_of(path) for path in [*texts, *PAGES] if private.search(path.read_text())] == []
