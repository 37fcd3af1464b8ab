"""A dataset by YAML alone, and what a user is told about every way to get it wrong."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
import yaml

from analytics_pipeline.components import load_datasets
from analytics_pipeline.errors import DatasetFileInvalid
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.store import Store
from analytics_pipeline.sync.spec_files import rendered
from analytics_pipeline_tests.components import scenario
from analytics_pipeline_tests.components.scenario import URL, materialize

# `dataset_files` switches it off for good; pytest has filters of its own in each test.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `execution_type` of function `AssetsDefinition.__init__`")

PASSWORD = "hunter2secret"
GOOD = """\
type: analytics_pipeline.components.SplitSyncComponent

attributes:
  url: ORDERS_DB_URL
  incremental_column: placed_at
  partitions: daily
  start: 2026-10-01
  dataset_query: |
    SELECT id AS dataset_id, placed_at, city, amount
    FROM orders
  results_query: |
    SELECT order_id AS dataset_id, id AS review_id, placed_at, metric_score
    FROM reviews
"""
_numbers = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty package of definitions."""
    name = f"shop_{next(_numbers)}"
    folder = tmp_path / "code" / name / "defs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    yield f"{name}.defs"
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.fixture
def folder(package: str, tmp_path: Path) -> Path:
    """The folder of that package."""
    return tmp_path / "code" / package.replace(".", "/")


@pytest.fixture(autouse=True)
def source_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, f"postgresql://bob:{PASSWORD}@db.example.com/orders")


def write(folder: Path, text: str, name: str = "orders") -> Path:
    file = folder / name / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def load(package: str) -> dg.Definitions:
    resources = dg.Definitions(resources={"analytics": AnalyticsResource()})
    return dg.Definitions.merge(load_datasets(importlib.import_module(package)), resources)


def assets(package: str) -> set[str]:
    return {key.to_user_string() for key in load(package).resolve_asset_graph().get_all_asset_keys()}


def refusal(package: str) -> str:
    """The refusal's message, and the secret in nothing that a user or a log would see of it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Dagster wraps some of them
        load(package)
    shown: BaseException | None = caught.value
    chain = []
    while shown is not None:
        chain.append(shown)
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    assert PASSWORD not in "".join(map(str, chain))
    refused = [error for error in chain if isinstance(error, DatasetFileInvalid)]
    assert refused, chain
    return str(refused[0])


def test_a_file_of_less_than_twenty_lines_is_a_dataset(
    package: str, folder: Path, orders_url: str, store: Store, instance: dg.DagsterInstance
) -> None:
    start = f"start: {scenario.DAYS[0]}"
    assert len(write(folder, GOOD.replace("start: 2026-10-01", start)).read_text().splitlines()) <= 20

    code = load(package)

    tables = ["orders_dataset", "orders_results", "orders_data"]
    assert materialize(code, instance, tables, partition=str(scenario.TODAY)).success
    assert store.query("SELECT count(*) FROM orders_data").item() == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("incremental_column", "incremental_colum", 5, "did you mean `incremental_column`?"),
        ("partitions: daily", "partitions: dayly", 6, "'hourly', 'daily', 'weekly' or 'monthly'"),
        ("start: 2026-10-01", "start: soon", 3, "start is a day, such as 2026-01-01"),
        ("partitions: daily", "partitions: weekly", 3, "is a Monday, such as 2026-09-28"),
        ("  start: 2026-10-01\n", "", 3, "start is required with incremental_column"),
        ("url: ORDERS_DB_URL", "url: my url", 4, "url is the name of an environment variable"),
        ("url: ORDERS_DB_URL", "sync_workers: many\n  url: ORDERS_DB_URL", 4, "sync_workers: Input should be a valid"),
        ("results_query", "result_query", 11, "unknown key `result_query`: did you mean"),
        ("url: ORDERS_DB_URL", "name: My-Orders\n  url: ORDERS_DB_URL", 4, "name is lower-case letters"),
        ("SELECT id", "DELETE id", 8, "a query is one SELECT"),
        ("attributes:", "atributes:", 3, "unknown key `atributes`: did you mean `attributes`?"),
        ("SplitSyncComponent", "SplitSyncComponnt", 1, f"did you mean `{GOOD.splitlines()[0].split()[1]}`?"),
        ("type: ", "tipe: ", 1, "unknown key `tipe`: did you mean `type`?"),
        ("  url: ORDERS_DB_URL", "   url: ORDERS_DB_URL", 5, "not valid YAML"),
        ("url: ORDERS_DB_URL", "url: {{ env.ORDERS_DB_URL }}", 4, "a template stands in quotes"),
        ("FROM orders", "FROM {{ env.NO_SUCH_TABLE }}", 8, "the environment variable NO_SUCH_TABLE is not set"),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_fix(
    package: str, folder: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in GOOD
    file = write(folder, GOOD.replace(old, new, 1))

    message = refusal(package)

    assert message.startswith(f"{file}:{line}: "), message
    assert says in message


@pytest.mark.parametrize("key", ["url", "dataset_query", "results_query"])
def test_a_missing_key_is_named(package: str, folder: Path, key: str) -> None:
    head, _, attributes = GOOD.partition("attributes:\n")
    blocks = textwrap.dedent(attributes).split("\n")
    kept, dropping = [], False
    for text in blocks:
        dropping = text.startswith(f"{key}:") or (dropping and text.startswith("  "))
        if not dropping:
            kept.append(f"  {text}")
    file = write(folder, f"{head}attributes:\n" + "\n".join(kept))

    assert refusal(package) == f"{file}:3: {key}: is missing; add it under attributes"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://bob:{PASSWORD}@db.example.com/orders",
        '"{{ env.ORDERS_DB_URL }}"',
        f'"postgresql://bob:{PASSWORD}@db.example.com/orders',
        f"[postgresql://bob:{PASSWORD}@db.example.com/orders]",
        f"*postgresql://bob:{PASSWORD}@db.example.com/orders",
    ],
)
def test_a_pasted_connection_string_is_refused_and_not_repeated(package: str, folder: Path, url: str) -> None:
    file = write(folder, GOOD.replace("url: ORDERS_DB_URL", f"url: {url}"))

    assert refusal(package).startswith(f"{file}:")


@pytest.mark.parametrize("key", ["atributes", "attributes"])
def test_a_pasted_connection_string_is_not_repeated_for_the_sake_of_another_mistake(
    package: str, folder: Path, key: str
) -> None:
    """Dagster itself would print the whole mapping below a key that it does not know."""
    pasted = GOOD.replace("ORDERS_DB_URL", f"b:{PASSWORD}@h").replace("attributes:", f"{key}:")
    write(folder, pasted + "  sync_chunk_size: 1\n")

    assert PASSWORD not in refusal(package)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "type: analytics_pipeline.components.SplitSyncComponent\n"])
def test_an_unfinished_file_says_what_is_missing(package: str, folder: Path, text: str) -> None:
    write(folder, text)

    assert "a dataset begins with `type: " in (found := refusal(package)) or "url: is missing" in found


def test_attributes_that_are_no_mapping_are_refused(package: str, folder: Path) -> None:
    file = write(folder, f"{GOOD.splitlines()[0]}\nattributes: orders\n")

    assert refusal(package) == f"{file}:2: attributes: is no mapping; indent the keys of the dataset below it"


def test_a_file_that_is_no_text_is_refused(package: str, folder: Path) -> None:
    file = write(folder, "")
    file.write_bytes(b"\xff\xfe\x00")

    assert "not a text file in UTF-8" in refusal(package)


def test_a_folder_whose_name_cannot_be_a_dataset_is_told_apart_from_a_name(package: str, folder: Path) -> None:
    write(folder, GOOD, "My-Orders")

    assert refusal(package).endswith("; rename the folder")


def test_two_datasets_of_one_name_are_told_by_both_files(package: str, folder: Path) -> None:
    first, second = write(folder, GOOD, "a/orders"), write(folder, GOOD, "b/orders")

    message = refusal(package)

    assert message.startswith(f"{second}:1: orders is already the dataset of {first}; ")


def test_a_name_tells_two_folders_of_one_name_apart(package: str, folder: Path) -> None:
    write(folder, GOOD, "a/orders")
    write(folder, GOOD + "  name: returns\n", "b/orders")

    assert assets(package) == {
        f"{name}_{end}" for name in ("orders", "returns") for end in ("dataset", "results", "data", "metadata")
    }


def test_a_dataset_that_is_switched_off_has_no_assets_and_no_jobs(package: str, folder: Path) -> None:
    write(folder, GOOD + "  enabled: false\n")

    loaded = load(package)

    assert not loaded.resolve_asset_graph().get_all_asset_keys()
    assert not list(loaded.jobs or [])


def test_a_dataset_without_a_source_is_disabled_with_one_line(
    package: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, GOOD)
    monkeypatch.delenv(URL)

    assert assets(package) == set()

    said = [record.getMessage() for record in caplog.records if record.name.startswith("analytics_pipeline")]
    assert said == ["Dataset orders is disabled: ORDERS_DB_URL is not set."]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"SHOP_SCHEMA": "archive"}, "FROM archive.orders"), ({"SHOP_SCHEMA": "public"}, "FROM public.orders")],
)
def test_the_environment_can_be_woven_into_a_query(
    package: str, folder: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = write(folder, GOOD.replace("FROM orders", "FROM {{ env.SHOP_SCHEMA }}.orders"))
    load(package)

    assert expected in str(rendered(yaml.safe_load(file.read_text())["attributes"]))


def test_no_query_is_in_the_metadata_where_a_template_may_have_put_a_secret(package: str, folder: Path) -> None:
    """Otherwise `{{ env.SOME_DB_URL }}` in a dblink call shows its password in the UI."""
    write(folder, GOOD.replace("FROM orders", "FROM dblink('{{ env.ORDERS_DB_URL }}')"))
    for node in load(package).resolve_asset_graph().asset_nodes:
        assert PASSWORD not in str(node.metadata) + str(node.description)


def test_sql_that_looks_like_a_template_stays_as_it_is(package: str, folder: Path) -> None:
    """Otherwise an array literal, or a text in braces, becomes other SQL without a word."""
    odd = "SELECT id AS dataset_id, placed_at, '{{1,2}}'::int[] AS a, '{# x #}{% y{{ z }}' AS b FROM orders"
    write(folder, GOOD.replace("SELECT id AS dataset_id, placed_at, city, amount\n    FROM orders", odd))
    load(package)
    file = yaml.safe_load((folder / "orders" / "defs.yaml").read_text())
    assert file["attributes"]["dataset_query"].strip() == odd
    assert rendered({"dataset_query": odd}) == {"dataset_query": odd}
    assert rendered("{{ env.ORDERS_DB_URL }}/{{env.ORDERS_DB_URL}}") == "/".join([os.environ[URL]] * 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("  url: OTHER_DB_URL\n", "this key stands twice"),
        (f"  timezone: !secret postgresql://bob:{PASSWORD}@h/db\n", "a tag"),
        (f"  postgresql://bob:{PASSWORD}@h/db: 1\n", "a key is a plain word"),
    ],
)
def test_what_yaml_allows_and_nobody_means_is_refused(package: str, folder: Path, line: str, told: str) -> None:
    """Otherwise the last of two keys wins without a word, or Dagster quotes the line with its secret."""
    write(folder, GOOD + line)
    assert told in refusal(package)
