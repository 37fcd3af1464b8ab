"""Cases kept in step with their rows, by case: as if all were made anew, at the cost of those that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from analytics_pipeline.human_signals import buckets
from analytics_pipeline.human_signals.cases import aggregate_cases
from analytics_pipeline.human_signals.layout import Layout, SignalColumn
from analytics_pipeline.human_signals.schema import build_metric_schema
from analytics_pipeline.human_signals.state import difference
from analytics_pipeline.store import CompactionRules, Replace, Store, create_store
from analytics_pipeline_tests.human_signals import scenario, strategies
from analytics_pipeline_tests.human_signals.scenario import VIEW, Synced, result

Rows = Sequence[Mapping[str, Any]]
RECORDS = {"r": [{"dataset_id": f"c{number}", "source_name": "bot"} for number in range(1, 10)]}
FIRST = {
    "d1": [result("c1", "tone", '{"stars": 1, "tenant": "acme"}'), result("c1", "help", '{"tenant": "acme"}')],
    "d2": [result("c2", "tone", '{"stars": 2}'), result("c3", "tone", '{"stars": 3}')],
}


@contextmanager
def empty_dataset() -> Iterator[Synced]:
    with TemporaryDirectory() as folder:
        store = create_store(Path(folder) / "store")
        yield Synced(store)
        store.close()


@pytest.fixture
def dataset(store: Store) -> Synced:
    """Three cases."""
    synced = Synced(store)
    synced.sync(FIRST, RECORDS)
    return synced


def is_in_step(dataset: Synced) -> None:
    """The published cases and schema are those that follow from the published rows, made from nothing."""
    made = aggregate_cases(dataset.rows()).sort("Case_ID")
    assert_frame_equal(dataset.cases(), made)
    in_time = dataset.rows("timestamp NULLS LAST, dataset_id, metric_name, metric_category, signals")
    assert dataset.schema() == build_metric_schema(in_time)


def test_one_changed_case_writes_one_bucket_of_each_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a refresh rewrites everything."""
    monkeypatch.setattr(buckets, "CASES_OF_A_BUCKET", 4)
    dataset = Synced(store)
    ids = [f"case {number}" for number in range(100)]
    records = {"r": [{"dataset_id": case} for case in ids]}
    before = dataset.sync({"d": [result(case, "tone", '{"stars": 1}') for case in ids]}, records)
    rows = [result(case, "tone", '{"stars": 1}') for case in ids[1:]]
    after = dataset.sync({"d": [*rows, result(ids[0], "tone", '{"stars": 2}')]})
    assert dataset.said == ["hs_cases: 1 cases with changed rows of 100 were made again."]
    for table in ("hs_cases", "hs_case_signals"):
        old, new = before.tables[table].partitions, after.tables[table].partitions
        assert len(new) == 32
        assert sum(old[key] != new[key] for key in new) == 1
    is_in_step(dataset)


def test_many_more_cases_are_cut_into_more_buckets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a store that began small rewrites half of itself for one case."""
    monkeypatch.setattr(buckets, "CASES_OF_A_BUCKET", 4)
    dataset = Synced(store)
    ids = [f"case {number}" for number in range(50)]
    records = {"r": [{"dataset_id": case} for case in ids]}
    first = dataset.sync({"d": [result(case, "tone", "{}") for case in ids[:3]]}, records)
    assert len(first.tables["hs_cases"].partitions) == 1
    second = dataset.sync({"d": [result(case, "tone", "{}") for case in ids]})
    assert len(second.tables["hs_cases"].partitions) == 16
    assert dataset.said == ["hs_cases: all 50 cases were made: they have become many."]
    is_in_step(dataset)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([result("c2", "new", "{}")], "metrics changed (new: new)"),
        ([result("c2", "tone", '{"stars": 2.5}')], "types changed (tone__stars from BIGINT to DOUBLE)"),
        ([result("c2", "tone", '{"stars": "many"}')], "types changed (tone__stars from BIGINT to VARCHAR)"),
        ([result("c2", "tone", '{"more": 1}')], "columns changed (new: tone__more)"),
        (
            [result("c2", "help", '{"stars": 2}')],
            "common metadata changed (new: stars); columns changed (new: stars, gone: tone__stars)",
        ),
    ],
)
def test_where_the_columns_of_all_cases_change_all_are_made_again_and_the_log_says_why(
    dataset: Synced, rows: Rows, why: str
) -> None:
    """Otherwise cases of before and after have different columns, or a long refresh has no reason."""
    manifest = dataset.sync({"d2": rows})
    assert dataset.said == [f"hs_cases: all 2 cases were made: {why}."]
    is_in_step(dataset)
    assert {part.sync_id for part in manifest.tables["hs_cases"].partitions.values()} == {"hs-2"}


def test_signals_that_change_places_under_the_names_of_their_columns_make_all_cases_anew() -> None:
    """`a` of `x__y` and `y__a` of `x` are both `x__y__a`: only what the column holds tells the layouts apart."""
    before = Layout(("x", "x__y"), (SignalColumn("x__y__a", "VARCHAR", "a", "x__y"),))
    after = Layout(("x", "x__y"), (SignalColumn("x__y__a", "VARCHAR", "y__a", "x"),))

    assert difference(before, after) == "other signals have the columns' names"
    assert difference(before, before) is None


def test_cases_are_cut_anew_from_four_times_as_many_on() -> None:
    """Each bucket would be read and written as a whole for ever larger refreshes."""
    assert not buckets.is_outgrown(1, 2 * buckets.CASES_OF_A_BUCKET)
    assert buckets.is_outgrown(1, 4 * buckets.CASES_OF_A_BUCKET)


def test_another_view_or_another_column_makes_all_cases_anew(dataset: Synced) -> None:
    """Otherwise cases are those of a join that is no more."""
    dataset.sync(view=replace(VIEW, kind="left"))
    assert dataset.said == ["hs_cases: all 3 cases were made: columns, the join or files are not as they were."]


@pytest.mark.parametrize("others", [{"revision": 3}, {"revision": 2, "zone": "a"}], ids=["newer", "as new"])
def test_another_row_of_a_record_becomes_the_newest_by_columns_that_no_case_shows(
    store: Store, others: dict[str, Any]
) -> None:
    """Otherwise a case shows the row that was the newest once, for ever."""
    dataset, view = Synced(store), replace(VIEW, newest_by="revision")
    newest = {"dataset_id": "c1", "source_name": "new", "revision": 2, "zone": "b"}
    former = {"dataset_id": "c1", "source_name": "old", "revision": 1, "zone": "b"}
    dataset.sync(FIRST, {"r": [former, newest]}, view)
    assert dataset.cases()["source_name"].to_list() == ["new"]
    dataset.sync(records={"r": [former | others, newest]}, view=view)
    assert dataset.cases()["source_name"].to_list() == ["old"]
    is_in_step(dataset)


def test_rows_that_were_committed_without_cases_are_caught_up(dataset: Synced) -> None:
    """Otherwise a restore, or an older version of this package, leaves the cases behind for ever."""
    manifest = dataset.store.manifest()
    old = manifest.tables["hs_results"]
    with dataset.store.stage("by-hand") as stage:
        changed = replace(old.partitions["d2"], sync_id="other")
        from analytics_pipeline.store import Change, TableChange  # noqa: PLC0415

        dataset.store.commit(stage, Change([TableChange("hs_results", old.columns, [changed])]))
    assert not dataset.derivation().is_current(dataset.store, VIEW)
    dataset.sync()
    assert dataset.said == ["hs_cases: all 3 cases were made: they were made of other rows."]
    assert dataset.derivation().is_current(dataset.store, VIEW)


def test_a_compaction_changes_nothing_for_cases(dataset: Synced) -> None:
    """Otherwise tidying up costs a full computation."""
    dataset.store.compact(CompactionRules())
    assert dataset.derivation().is_current(dataset.store, VIEW)


def test_other_visible_metrics_change_the_schema_and_no_case(dataset: Synced) -> None:
    """Otherwise a change of the spec shows with the next change of the source, or rewrites the cases."""
    assert not dataset.derivation(visible_metrics=["tone"]).is_current(dataset.store, VIEW)
    before = dataset.store.manifest().tables["hs_cases"]
    dataset.sync(visible_metrics=["tone"])
    assert list(dataset.schema()["metrics"]) == ["tone"]
    assert dataset.store.manifest().tables["hs_cases"] == before


def test_metadata_has_the_keys_of_every_table(store: Store) -> None:
    """Otherwise whoever asks for a table's metadata must know which kind of table it is."""
    dataset = Synced(store)
    records = {"r": [{"dataset_id": "c1", "source_name": "bot", "environment": "test"}]}
    dataset.sync({"d": [result("c1", "tone", '{"label": "ok"}'), result("c1", None, "{}")]}, records)
    metadata: Any = store.manifest().metadata["hs_cases"].value
    assert list(metadata)[:5] == ["row_count", "columns", "filter_values", "time_range", "summary_stats"]
    assert (metadata["row_count"], metadata["summary_stats"], metadata["rows_without_metric"]) == (1, None, 1)
    assert metadata["filter_values"] == {"source_name": ["bot"], "environment": ["test"]}
    assert {"column_name": "tone__label", "column_type": "VARCHAR"} in metadata["columns"]
    shown = store.query(
        "SELECT metadata->>'$.metric_schema.metrics.tone.values.label[0]' FROM _store_metadata "
        "WHERE table_name = 'hs_cases'"
    )
    assert shown.item() == "ok"
    assert dataset.said[-1] == "hs_cases: 1 rows without the name of a metric were skipped."


def test_memory_has_a_bound_cases_are_made_in_groups(dataset: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise ten times the cases take ten times the memory."""
    monkeypatch.setattr(buckets, "CASES_OF_A_BUCKET", 1)
    monkeypatch.setattr(buckets, "_ROWS_AT_ONCE", 1)
    dataset.sync(FIRST, replace=Replace.TABLE_AND_COLUMNS)
    is_in_step(dataset)
    assert len(dataset.store.manifest().tables["hs_cases"].partitions) == 4
    dataset.sync({"d2": [result("c2", "tone", '{"stars": 7}'), result("c3", "tone", '{"stars": 8}')]})
    assert dataset.said == ["hs_cases: 2 cases with changed rows of 3 were made again."]
    is_in_step(dataset)


@pytest.mark.parametrize("further", [{}, {"source_type": pl.String}], ids=["time alone", "and more"])
def test_of_what_results_say_of_a_case_the_earliest_row_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch, further: dict[str, Any]
) -> None:
    """Otherwise a case changes its source, or its time, with each row that comes after."""
    monkeypatch.setattr(scenario, "RESULTS", scenario.RESULTS | further)
    early, late = ({"timestamp": datetime(2026, 1, day)} for day in (1, 2))  # noqa: DTZ001
    said = [late | dict.fromkeys(further, "late"), early | dict.fromkeys(further, "early")]
    dataset = Synced(store)
    dataset.sync({"d": [result("c1", "tone", "{}", **each) for each in said]}, RECORDS)
    case = dataset.cases().row(0, named=True)
    assert [case["Timestamp"], *(case[name] for name in further)] == [early["timestamp"], *("early" for _ in further)]
    is_in_step(dataset)


def partitions(rows: st.SearchStrategy[Any], keys: str) -> st.SearchStrategy[Mapping[str, Rows]]:
    return st.dictionaries(st.sampled_from(list(keys)), st.lists(rows, max_size=4), max_size=2)


def records() -> st.SearchStrategy[Mapping[str, Any]]:
    made = st.tuples(st.integers(1, 3), strategies.moments(), strategies.heads())
    return made.map(lambda each: {"dataset_id": f"c{each[0]}", "timestamp": each[1], **each[2]})


def without_doubles(parts: Mapping[str, Rows]) -> Mapping[str, Rows]:
    """A record has one row, as where the view need not choose."""
    return {key: [*{row["dataset_id"]: row for row in rows}.values()] for key, rows in parts.items()}


SYNCS = st.lists(st.tuples(partitions(strategies.results(), "abc"), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=4, deadline=None)
@given(SYNCS, st.lists(partitions(records(), "r").map(without_doubles), min_size=4, max_size=4))
def test_refreshed_by_case_the_result_is_that_of_a_full_run(
    syncs: Sequence[tuple[Mapping[str, Rows], bool]], of_records: Sequence[Mapping[str, Rows]]
) -> None:
    """Otherwise what people see depends on when it was refreshed."""
    with empty_dataset() as dataset:
        dataset.sync({"a": [result("c1", "tone", '{"value": 1}')]}, RECORDS)
        for (results, has_records), further in zip(syncs, of_records, strict=False):
            dataset.sync(results, further if has_records else None)
            is_in_step(dataset)


def test_columns_are_as_wide_as_the_store_needs(dataset: Synced) -> None:
    assert dataset.cases().schema["tone__stars"] == pl.Int64
