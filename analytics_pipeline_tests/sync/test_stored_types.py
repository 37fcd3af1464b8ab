"""A dataset may give a column another type than the default one; what does not fit stops the sync, by column."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from analytics_pipeline.errors import (
    ColumnMissing,
    IncrementalColumnUnfit,
    MultidimensionalArray,
    TypeImpossible,
    ValueDoesNotFit,
)
from analytics_pipeline.store import Store
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, UNPARTITIONED, job_of, published, spec_of

_ROWS = """
INSERT INTO v VALUES
  (1, 1.5, 9007199254740993, '2024-01-01', '2024-01-01 10:00', '2024-01-01 10:00+02', 0.1, '{{1,2},{3,4}}'),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""
TABLE = (
    "CREATE TABLE v (id int, n numeric, big bigint, day date, local timestamp, at timestamptz, f float8, grid int[])",
    _ROWS,
)
QUERY = {"dataset_query": "SELECT * FROM v", "results_query": "SELECT id FROM v", **UNPARTITIONED}
STORED = [
    ("n", "text", "VARCHAR", "1.5"),
    ("n", "json", "VARCHAR", "1.5"),
    ("n", "decimal(38,9)", "DECIMAL(38,9)", "1.500000000"),
    ("n", "double", "DOUBLE", "1.5"),
    ("big", "decimal(20,1)", "DECIMAL(20,1)", "9007199254740993.0"),
    ("big", "double", "DOUBLE", "9007199254740992.0"),
    ("day", "timestamp", "TIMESTAMP", "2024-01-01 00:00:00"),
    ("day", "date", "DATE", "2024-01-01"),
    ("local", "timestamp", "TIMESTAMP", "2024-01-01 10:00:00"),
    ("at", "timestamp", "TIMESTAMP", "2024-01-01 08:00:00"),
    ("at", "timestamptz", "TIMESTAMP WITH TIME ZONE", "2024-01-01 08:00:00+00"),
    ("f", "text", "VARCHAR", "0.1"),
    ("grid", "text", "VARCHAR", "{{1,2},{3,4}}"),
    ("grid", "json", "VARCHAR", "[[1,2],[3,4]]"),
]


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_every_type_that_may_be_given_holds_the_value_and_null(postgres_url: str, store: Store, tier: Tier) -> None:
    """Otherwise a type is taken, and its values are others."""
    execute(postgres_url, *TABLE)
    listed = ", ".join(f"{column} AS c{n}" for n, (column, *_) in enumerate(STORED))
    types = {"dataset": {f"c{n}": wanted for n, (_, wanted, *_) in enumerate(STORED)}}
    spec = spec_of(**QUERY | {"dataset_query": f"SELECT id, {listed} FROM v", "types": types})
    job = job_of(store, postgres_url, spec, tier=tier)
    job.refresh(now=NOW)
    columns = {column.name: column.type for column in store.manifest().tables["demo_dataset"].columns}
    for n, (column, wanted, type_, value) in enumerate(STORED):
        assert columns[f"c{n}"] == type_, (column, wanted)
        shown = f"SELECT timezone('UTC', c{n})::VARCHAR || '+00'" if type_.endswith("ZONE") else f"SELECT c{n}::VARCHAR"
        assert published(store, f"{shown} FROM demo_dataset ORDER BY dataset_id") == [(value,), (None,)], wanted
    assert not job.refresh(now=NOW).halves
    assert not job.audit(now=NOW).halves


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [
        ("n", "1.25", "decimal(10,1)"),
        ("n", "1000", "decimal(4,1)"),
        ("n", "'NaN'", "decimal(38,9)"),
        ("n", "1e300", "decimal(38,9)"),
        ("n", "0.5", "bigint"),
        ("n", "9223372036854775808", "bigint"),
        ("day", "'infinity'", "date"),
        ("day", "'-infinity'", "timestamp"),
        ("local", "'infinity'", "timestamp"),
        ("at", "'-infinity'", "timestamptz"),
    ],
)
def test_a_value_that_does_not_fit_stops_the_sync_and_names_the_column(
    postgres_url: str, store: Store, column: str, value: str, wanted: str
) -> None:
    """Otherwise it is rounded, or NULL, where somebody asked for all of it."""
    execute(postgres_url, *TABLE, f"UPDATE v SET {column} = {value} WHERE id = 2")
    spec = spec_of(**QUERY | {"types": {"dataset": {column: wanted}}})
    for tier in (Tier.STREAM, Tier.CURSOR):
        with pytest.raises(ValueDoesNotFit, match=rf"Column {column} .*{wanted[:7]}"):
            job_of(store, postgres_url, spec, tier=tier).refresh(now=NOW)


@pytest.mark.parametrize(
    ("types", "error", "words"),
    [
        ({"dataset": {"f": "decimal(9,2)"}}, TypeImpossible, "'f' is of type double precision"),
        ({"dataset": {"local": "timestamptz"}}, TypeImpossible, "'local' is of type timestamp without"),
        ({"dataset": {"grid": "bigint"}}, TypeImpossible, r"'grid' is of type integer\[\]"),
        ({"results": {"n": "text"}}, ColumnMissing, "it has a type under `types`"),
    ],
)
def test_a_type_that_a_column_cannot_have_is_refused_by_name(
    postgres_url: str, store: Store, types: Any, error: Any, words: str
) -> None:
    """Otherwise the driver's words come in the middle of the night."""
    execute(postgres_url, *TABLE)
    with pytest.raises(error, match=words):
        job_of(store, postgres_url, spec_of(**QUERY | {"types": types})).refresh(now=NOW)


def test_the_incremental_column_keeps_its_own_type(postgres_url: str, store: Store) -> None:
    """Otherwise rows fall into other partitions than Postgres counts them in."""
    execute(postgres_url, *TABLE)
    query = {"dataset_query": "SELECT * FROM v", "results_query": "SELECT * FROM v", "incremental_column": "at"}
    with pytest.raises(IncrementalColumnUnfit, match="leave it out under `types`"):
        job_of(store, postgres_url, spec_of(**query, types={"dataset": {"at": "text"}})).refresh(now=NOW)


@pytest.mark.parametrize("wanted", ["number", "decimal", "decimal(39,1)", "decimal(2,3)", ""])
def test_an_unknown_type_is_refused_before_anything_runs(wanted: str) -> None:
    """Otherwise the first sync finds the slip."""
    with pytest.raises(ValidationError, match="is not a type of the store; write text, json"):
        spec_of(types={"dataset": {"a": wanted}})


def test_a_change_of_the_type_reads_everything_again(postgres_url: str, store: Store) -> None:
    """Otherwise the store holds two types of one column's past."""
    execute(postgres_url, *TABLE)
    job_of(store, postgres_url, spec_of(**QUERY)).refresh(now=NOW)
    spec = spec_of(**QUERY | {"types": {"dataset": {"n": "decimal(38,9)"}}})
    job_of(store, postgres_url, spec).rebuild(now=NOW)
    assert published(store, "SELECT n::VARCHAR FROM demo_dataset ORDER BY dataset_id") == [("1.500000000",), (None,)]


def test_arrays_of_several_dimensions_are_stored_as_json(postgres_url: str, store: Store) -> None:
    """Otherwise a table with one of them cannot be mirrored."""
    execute(postgres_url, *TABLE)
    job = job_of(store, postgres_url, spec_of(**QUERY))
    job.refresh(now=NOW)
    shown = "SELECT grid FROM demo_dataset ORDER BY dataset_id"
    assert published(store, shown) == [("[[1,2],[3,4]]",), (None,)]
    execute(postgres_url, "UPDATE v SET grid = '{7}' WHERE id = 1")
    job.refresh(now=NOW)
    assert published(store, shown) == [("[7]",), (None,)]


def test_a_list_that_gets_a_second_dimension_stops_the_sync_and_a_rebuild_takes_it(
    postgres_url: str, store: Store
) -> None:
    """Otherwise its shape is lost, or the column can never be read again."""
    execute(postgres_url, *TABLE, "UPDATE v SET grid = '{7}' WHERE id = 1")
    job = job_of(store, postgres_url, spec_of(**QUERY))
    job.refresh(now=NOW)
    execute(postgres_url, "UPDATE v SET grid = '{{1},{2}}' WHERE id = 1")
    with pytest.raises(MultidimensionalArray, match="`grid: json`"):
        job.refresh(now=NOW)
    job.rebuild(now=NOW)
    assert published(store, "SELECT grid FROM demo_dataset ORDER BY dataset_id") == [("[[1],[2]]",), (None,)]


def test_what_the_default_types_do_not_keep_is_told_once(postgres_url: str, store: Store) -> None:
    """Otherwise somebody believes that the store holds every digit."""
    execute(postgres_url, *TABLE)
    lines: list[str] = []
    job = job_of(store, postgres_url, spec_of(**QUERY), log=lines.append)
    job.refresh(now=NOW)
    told = [line for line in lines if "does not keep every value" in line]
    assert len(told) == 1
    assert "numeric becomes the nearest double: n" in told[0]
    assert "infinity becomes NULL: day, local, at" in told[0]
    execute(postgres_url, "UPDATE v SET n = 2 WHERE id = 1")
    job.refresh(now=NOW)
    assert [line for line in lines if "does not keep every value" in line] == told
