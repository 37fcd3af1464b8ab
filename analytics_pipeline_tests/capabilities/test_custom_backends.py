"""Backends of somebody's own class: four methods are enough, and what they have besides is used."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, Record, StorageBackend, StorageWriteReceipt
from analytics_pipeline.errors import RunNotFound
from analytics_pipeline_tests.capabilities.scenario import UIDS, NotebookBackend, run, uids


def test_four_methods_of_any_class_are_enough_for_a_backend() -> None:
    """The published example of one: no base class, no receipt, no location."""
    store = AnalyticsStore(NotebookBackend())
    store.write([run("a"), run("b")])
    store.write([run("a"), run("c", rows=2)])
    assert store.list_tables() == ["example", "runs"]
    assert uids(store) == ["a", "b", "c", "c"]
    assert store.write_with_receipt([run("d")]).resolve_run_uri("d") is None
    assert store.get_run_uri("d") == "example"
    assert store.backend.scan_table("example").collect().height == 5
    with pytest.raises(RunNotFound):
        store.get_run_uri("nobody")


def test_a_backend_that_inherits_has_the_rest_by_default() -> None:
    """The four methods are written, the others are there."""

    class Inheriting(NotebookBackend, StorageBackend):
        """The same, by inheritance."""

    backend = Inheriting()
    store = AnalyticsStore(backend)
    assert store.backend is backend
    store.write([run("a")])
    assert store.get_run_uri("a") == "example"
    assert store.query_sql(UIDS, timeout=1, max_rows=9).height == 1


class SixVerbs(NotebookBackend):
    """The six verbs, without inheriting anything of the store's."""

    def write_with_receipt(self, records: Sequence[Record]) -> StorageWriteReceipt:
        """Tell a place for each run."""
        self.write(records)
        files = {str(record.model_dump(mode="python")["run_uid"]): {"example": "mine://file"} for record in records}
        return StorageWriteReceipt(files, {"example": len(files)})

    def get_run_uri(self, run_uid: str) -> str:
        """A place."""
        return f"mine://{run_uid}"

    def query_sql(self, sql: str, *, max_rows: int | None = None) -> pl.DataFrame:
        """No more than some of the rows."""
        return super().query_sql(sql).head(max_rows or 1000)


def test_a_backend_of_six_verbs_keeps_its_own_receipts_and_uris() -> None:
    """It knows better than any default where its runs are."""
    store = AnalyticsStore(SixVerbs())
    receipt = store.write_with_receipt([run("a"), run("b")])
    assert receipt.resolve_run_uri("b") == "mine://file"
    assert receipt.rows == {"example": 2}
    assert store.get_run_uri("a") == "mine://a"
    assert uids(store) == ["a", "b"]
    assert store.backend.scan_table("example").collect().height == 2


def test_a_backend_is_given_those_limits_that_it_takes() -> None:
    """The others it would not understand."""
    store = AnalyticsStore(SixVerbs())
    store.write([run("a"), run("b")])
    assert store.query_sql(UIDS, timeout=5, max_rows=1).height == 1
    four = AnalyticsStore(NotebookBackend())
    four.write([run("a"), run("b")])
    assert four.query_sql(UIDS, timeout=5, max_rows=1).height == 2
