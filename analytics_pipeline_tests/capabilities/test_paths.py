"""Stores and folders whose paths hold what DuckDB takes for patterns, and columns with names of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.errors import NameRefused
from analytics_pipeline.store import create_store, open_store
from analytics_pipeline.store.append.tables import AppendTables
from analytics_pipeline_tests.capabilities.scenario import run
from analytics_pipeline_tests.store.scenario import facts, publish

NAMES = ("a[b]c", "a*b", "a%b#c 'd'")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_the_one_that_is_named_and_no_other(tmp_path: Path, name: str) -> None:
    """Beside it lies a copy, whose files have the same names."""
    store = create_store(tmp_path / name)
    publish(store, {"facts": {"d1": facts(1, 2)}})
    backend = ParquetBackend(store.root / "capabilities", compact_after=3)
    for uid in "abcde":
        AnalyticsStore(backend).write([run(uid)])
    for other in ("aXb", "abc"):
        shutil.copytree(store.root, tmp_path / other, symlinks=True)

    opened = open_store(store.root)
    assert opened.query("SELECT count(*) FROM facts").item() == 2
    assert opened.query("SELECT count(DISTINCT run_uid), count(*) FROM capabilities.example").rows() == [(5, 5)]
    assert backend.query_sql("SELECT count(*) FROM example").item() == 5
    AnalyticsStore(backend).write([run("f")])
    assert opened.query("SELECT count(*) FROM capabilities.example").item() == 6


def test_a_folder_that_duckdb_cannot_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NameRefused, match=r"no file whose path holds a \?"):
        create_store(tmp_path / "a?b")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_catalog_lists_may_be_deleted_by_hand(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store")
    backend = ParquetBackend(store.root / "capabilities")
    AnalyticsStore(backend).write([run("a"), run("b")])
    (file,) = (backend.path / "example").iterdir()
    foreign = file.rename(file.with_name("theirs.parquet"))
    backend.tables.compact()
    assert store.query("SELECT count(*) FROM capabilities.example").item() == 2

    foreign.unlink()
    backend.tables.forget("example")
    AnalyticsStore(backend).write([run("c")])

    assert store.query("SELECT run_uid FROM capabilities.example").rows() == [("c",)]


class NoIdentity:
    """Every row is new."""

    def columns(self, _table: str) -> tuple[str, ...]:
        return ()

    def of(self, _table: str, rows: pa.Table) -> list[tuple[str, ...]]:
        return [()] * rows.num_rows


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store")
    tables = AppendTables(store.root / "experiments", NoIdentity(), compact_after=2)
    for value in ("x", "y", "z"):
        tables.append({"runs": pa.table({"|file": [value], "|FILE|": [1]})})

    found = store.query('SELECT "|file" FROM experiments.runs ORDER BY 1').rows()
    assert found == [("x",), ("y",), ("z",)]
