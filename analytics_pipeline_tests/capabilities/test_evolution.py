"""Columns come and go over the versions of a record; what was stored stays, and is known."""

from __future__ import annotations

from itertools import pairwise

import pytest

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord
from analytics_pipeline.errors import ColumnTypeChanged
from analytics_pipeline_tests.capabilities.scenario import Make, Run


def version(*fields: str) -> type[BaseRecord]:
    """A record class with some of the fields a, b, c, d, e; each has a type of its own."""
    types = {"a": int, "b": str | None, "c": float | None, "d": bool | None, "e": bytes | None}
    body = {"__annotations__": {name: types[name] for name in fields}}
    return type(f"Version{''.join(fields)}", (BaseRecord,), body, table_name="evolving")


VERSIONS = [version("a"), version("a", "b"), version("b", "c"), version("a", "c", "d", "b"), version("d", "e")]
VALUES = {"a": 1, "b": "text", "c": 0.5, "d": True, "e": b"raw"}
TYPES = {"a": "Int64", "b": "String", "c": "Float64", "d": "Boolean", "e": "Binary"}


def of(kind: type[BaseRecord], uid: str) -> Run:
    """A run with one row of a version."""
    fields = kind.model_fields.keys() & VALUES.keys()
    return Run(uid, [kind.model_validate({"run_uid": uid, **{name: VALUES[name] for name in fields}})])


@pytest.mark.parametrize("order", [1, -1], ids=["forward", "backward"])
def test_five_versions_of_a_record_live_in_one_table(make: Make, order: int) -> None:
    """Each row has its own columns and NULL in the others; every version knows the runs of all."""
    versions = VERSIONS[::order]
    for number, kind in enumerate(versions):
        AnalyticsStore(make()).write([of(kind, f"run-{number}")])
        for other in versions:
            AnalyticsStore(make()).write([of(other, f"run-{known}") for known in range(number + 1)])
    store = AnalyticsStore(make())
    expected = [
        (f"run-{number}", *(VALUES[name] if name in kind.model_fields else None for name in VALUES))
        for number, kind in enumerate(versions)
    ]
    assert store.query_sql("SELECT run_uid, a, b, c, d, e FROM evolving ORDER BY 1").rows() == expected
    described = store.describe_table("evolving")
    assert {name: described[name] for name in VALUES} == TYPES
    assert len(described) == 7
    assert store.query_sql("SELECT count(*) FROM runs").item() == 15


def test_versions_that_alternate_are_one_table(store: AnalyticsStore) -> None:
    """Clients are not updated all at once."""
    for number, (older, newer) in enumerate(pairwise([*VERSIONS, *VERSIONS])):
        store.write([of(newer, f"new-{number}"), of(older, f"old-{number}")])
    assert store.query_sql("SELECT count(DISTINCT run_uid), count(*) FROM evolving").rows() == [(18, 18)]


@pytest.mark.parametrize("kind", [str, float, bool, bytes])
def test_a_changed_type_is_refused_by_name_and_nothing_is_written(store: AnalyticsStore, kind: type) -> None:
    """Also a wider one: the rows that are there have the other type, in files that never change."""
    fields = {"__annotations__": {"a": kind, "z": int}}
    changed: type[BaseRecord] = type("Changed", (BaseRecord,), fields, table_name="evolving")
    store.write([of(VERSIONS[0], "first")])
    with pytest.raises(ColumnTypeChanged) as refused:
        store.write([Run("second", [changed.model_validate({"run_uid": "second", "a": kind(), "z": 1})])])
    assert isinstance(refused.value, TypeError)
    new = {str: "VARCHAR", float: "DOUBLE", bool: "BOOLEAN", bytes: "BLOB"}[kind]
    assert all(word in str(refused.value) for word in ("evolving", "a", "BIGINT", new))
    assert "z" not in store.describe_table("evolving")
    assert store.query_sql("SELECT DISTINCT run_uid FROM runs").rows() == [("first",)]
    store.write([of(VERSIONS[1], "second")])
    assert store.query_sql("SELECT run_uid FROM evolving ORDER BY 1").rows() == [("first",), ("second",)]
