"""Cases through whole syncs, from Postgres: one commit with the rows, refreshed with them, whatever dies meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from analytics_pipeline.errors import CaseColumnsMissing
from analytics_pipeline.human_signals import derivation
from analytics_pipeline.human_signals.cases import aggregate_cases
from analytics_pipeline.store import Manifest, Store, open_store
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline_tests.human_signals.processes import refresh_until_killed
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.processes import start
from analytics_pipeline_tests.sync.scenario import NOW, job_of, leavings, published, spec_of

TABLES = (
    "CREATE TABLE talks (id text, at timestamptz, source_name text, conversation jsonb)",
    "CREATE TABLE notes (id text, at timestamptz, metric_name text, metric_category text, signals text, note text)",
)
ROWS = (
    """INSERT INTO talks SELECT 'c' || g, timestamptz '2024-01-01' + g * interval '1 day', 'bot', jsonb_build_object(
        'messages', jsonb_build_array(jsonb_build_object('content', 'New x case: Firm ' || g)))
    FROM generate_series(1, 6) AS g""",
    """INSERT INTO notes SELECT 'c' || g, timestamptz '2024-01-02' + g * interval '1 day', m, NULL,
        jsonb_build_object(CASE m WHEN 'tone' THEN 'stars' ELSE 'rating' END, g, 'tenant', 'acme')::text, NULL
    FROM generate_series(1, 6) AS g, unnest(ARRAY['tone', 'help']) AS m""",
)
STEPS, STRIDE = 60, 8


def with_cases(**changes: Any) -> SplitSyncSpec:
    """A daily dataset `demo` with cases."""
    return spec_of(
        **{
            "normalize": "none",
            "columns": {"id": "dataset_id", "at": "timestamp"},
            "dataset_query": "SELECT * FROM talks",
            "results_query": "SELECT * FROM notes",
            "incremental_column": "at",
            "cases": True,
        }
        | changes
    )


def cases(store: Store) -> Sequence[Mapping[str, Any]]:
    return store.query('SELECT * FROM demo_cases ORDER BY "Case_ID"').to_dicts()


def expected(store: Store) -> Sequence[Mapping[str, Any]]:
    """The cases of the published rows, made from nothing."""
    rows = store.query("SELECT * FROM demo_data ORDER BY dataset_id, timestamp, metric_name, signals")
    return aggregate_cases(rows).sort("Case_ID").to_dicts()


def sync_ids(manifest: Manifest, *tables: str) -> set[str]:
    return {part.sync_id for table in tables for part in manifest.tables[table].partitions.values()}


@pytest.fixture
def filled(postgres_url: str) -> str:
    """The URL of a source with six cases."""
    execute(postgres_url, *TABLES, *ROWS)
    return postgres_url


def refresh(store: Store, url: str, **changes: Any) -> list[str]:
    """A refresh; gives its log."""
    said: list[str] = []
    job_of(store, url, with_cases(**changes), log=said.append).refresh(now=NOW)
    return [line for line in said if "cases" in line]


def test_cases_come_in_the_commit_of_their_rows(filled: str, store: Store) -> None:
    """Otherwise a reader between two commits sees cases of rows that are not there."""
    assert refresh(store, filled) == ["demo_cases: all 6 cases were made: there were none."]
    manifest = store.manifest()
    assert manifest.version == 1
    assert len(sync_ids(manifest, "demo_cases", "demo_case_signals", "demo_dataset", "demo_results")) == 1
    assert cases(store) == expected(store)
    assert cases(store)[2]["tone__stars"] == 3
    assert cases(store)[2]["Business"] == "Firm 3"


def test_a_refresh_makes_the_changed_cases_again(filled: str, store: Store) -> None:
    """Otherwise cases are those of the first sync, or every refresh costs as much as the first one."""
    refresh(store, filled)
    execute(
        filled,
        "UPDATE notes SET signals = '{\"stars\": 9}' WHERE id = 'c2' AND metric_name = 'tone'",
        "DELETE FROM notes WHERE id = 'c3'",
        "UPDATE notes SET note = 'no matter' WHERE id = 'c4'",
        "UPDATE talks SET source_name = 'other' WHERE id = 'c5'",
    )
    assert refresh(store, filled) == ["demo_cases: 3 cases with changed rows of 6 were made again."]
    assert cases(store) == expected(store)
    assert [case["Case_ID"] for case in cases(store)] == ["c1", "c2", "c4", "c5", "c6"]


def test_a_change_that_no_case_shows_writes_no_case(filled: str, store: Store) -> None:
    """Otherwise a corrected remark rewrites the cases."""
    refresh(store, filled)
    before = store.manifest()
    execute(filled, "UPDATE notes SET note = 'no matter'")
    assert refresh(store, filled) == []
    after = store.manifest()
    assert after.version == before.version + 1
    for table in ("demo_cases", "demo_case_signals"):
        assert after.tables[table] == before.tables[table]
    assert refresh(store, filled) == []
    assert store.manifest().version == after.version


def test_the_last_case_that_goes_leaves_an_empty_table_and_schema(filled: str, store: Store) -> None:
    """Otherwise yesterday's cases stay for ever."""
    refresh(store, filled)
    execute(filled, "DELETE FROM notes")
    refresh(store, filled)
    assert cases(store) == []
    value: Any = store.manifest().metadata["demo_cases"].value
    assert value["metric_schema"] == {"metrics": {}, "source_fields": ["source_name"], "has_timestamp": True}
    assert value["row_count"] == 0


def test_an_empty_source_gives_empty_cases(postgres_url: str, store: Store) -> None:
    """Otherwise a new project's first sync fails."""
    execute(postgres_url, *TABLES)
    refresh(store, postgres_url)
    assert cases(store) == []
    assert published(store, "SELECT count(*) FROM demo_case_signals") == [(0,)]


def test_cases_that_are_switched_on_later_are_made_though_nothing_changed(filled: str, store: Store) -> None:
    """Otherwise they appear with the next change of the source, whenever that is; the gate must not spare it either."""
    refresh(store, filled, cases=False)
    assert "demo_cases" not in store.manifest().tables
    assert refresh(store, filled) == ["demo_cases: all 6 cases were made: there were none."]
    assert cases(store) == expected(store)


def test_cases_that_are_switched_off_are_gone_with_the_next_refresh(filled: str, store: Store) -> None:
    """Otherwise they stay as they were for ever, also those of people who asked to be forgotten."""
    refresh(store, filled)
    assert refresh(store, filled, cases=False) == [
        "demo_cases: 6 cases were taken away: the dataset asks for none any more."
    ]
    manifest = store.manifest()
    for table in ("demo_cases", "demo_case_signals"):
        assert published(store, f"SELECT count(*) FROM {table}") == [(0,)]
        assert list(manifest.tables[table].files) == []
        assert (manifest.metadata[table].value["row_count"], manifest.metadata[table].value["filter_values"]) == (0, {})
    assert "metric_schema" not in manifest.metadata["demo_cases"].value
    assert refresh(store, filled, cases=False) == []
    assert store.manifest().version == manifest.version
    execute(filled, "DELETE FROM notes WHERE id = 'c3'")
    assert refresh(store, filled, cases=False) == []
    assert refresh(store, filled) == ["demo_cases: all 5 cases were made: there were none."]
    assert cases(store) == expected(store)


def test_new_rules_make_cases_anew_though_nothing_changed(
    filled: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a repaired rule shows in the cases that change, and in no others."""
    refresh(store, filled)
    monkeypatch.setattr(derivation, "VERSION", derivation.VERSION + 1)
    monkeypatch.setattr("analytics_pipeline.sync.derived.VERSION", derivation.VERSION)
    assert refresh(store, filled) == ["demo_cases: all 6 cases were made: there were none."]


def test_a_lost_file_of_the_cases_is_made_again(filled: str, store: Store) -> None:
    """Otherwise a store that lost a file of theirs never has cases again."""
    refresh(store, filled)
    for file in store.manifest().tables["demo_cases"].files:
        (store.root / file.path).unlink()
    lines = refresh(store, filled)
    assert lines[0].startswith("demo_cases: all 6 cases were made")
    assert cases(store) == expected(store)


def test_a_rebuild_makes_all_cases_anew(filled: str, store: Store) -> None:
    """Otherwise there is no way to start over."""
    refresh(store, filled)
    said: list[str] = []
    job_of(store, filled, with_cases(), log=said.append).rebuild(now=NOW)
    assert "demo_cases: all 6 cases were made: the dataset is rebuilt." in said
    assert cases(store) == expected(store)
    assert len(sync_ids(store.manifest(), "demo_cases", "demo_results")) == 1


def test_a_rebuild_in_steps_publishes_cases_with_the_id_of_its_commit(filled: str, store: Store) -> None:
    """Otherwise cases that are in step look as if they were not."""
    replace(job_of(store, filled, with_cases()), rows_per_step=1).rebuild(now=NOW)
    assert len(sync_ids(store.manifest(), "demo_cases", "demo_case_signals", "demo_results")) == 1


def test_columns_that_cases_need_are_asked_for_before_anything_is_read(filled: str, store: Store) -> None:
    """Otherwise a dataset without signals fails after an hour of reading, with words of SQL."""
    with pytest.raises(CaseColumnsMissing, match=r"demo_data: cases need the column metric_name and signals") as caught:
        refresh(store, filled, results_query="SELECT id, at, note FROM notes")
    assert "The columns are: dataset_id, timestamp, source_name, conversation, note." in str(caught.value)
    assert store.manifest().version == 0


@pytest.mark.parametrize("join", ["inner", "left"])
def test_records_with_several_rows_and_results_without_record(filled: str, store: Store, join: str) -> None:
    """Otherwise a touched record doubles, or hides, what its results say."""
    refresh(store, filled, join=join)
    execute(
        filled,
        "INSERT INTO talks VALUES ('c1', '2024-01-09', 'newer', NULL)",
        "INSERT INTO notes VALUES ('lost', '2024-01-05', 'tone', NULL, '{\"stars\": 1}', NULL)",
    )
    refresh(store, filled, join=join)
    assert cases(store) == expected(store)
    assert cases(store)[0]["source_name"] == "newer"
    assert len(cases(store)) == (7 if join == "left" else 6)
    execute(filled, "DELETE FROM talks WHERE source_name = 'newer'")
    refresh(store, filled, join=join)
    assert cases(store) == expected(store)


def test_cases_of_an_unpartitioned_dataset_are_refreshed_by_case(filled: str, store: Store) -> None:
    """Otherwise, where every refresh reads everything, every refresh makes all cases anew."""
    plain = {"incremental_column": None, "start": None}
    refresh(store, filled, **plain)
    execute(filled, "UPDATE notes SET signals = '{\"stars\": 9}' WHERE id = 'c2' AND metric_name = 'tone'")
    assert refresh(store, filled, **plain) == ["demo_cases: 1 cases with changed rows of 6 were made again."]
    assert cases(store) == expected(store)


@pytest.mark.parametrize("begin", [0, *(pytest.param(begin, marks=pytest.mark.slow) for begin in range(1, STRIDE))])
def test_a_refresh_killed_at_any_step_shows_cases_of_the_published_rows(filled: str, store: Store, begin: int) -> None:
    """Otherwise a crash between rows and cases leaves readers with two states of one dataset."""
    refresh(store, filled)
    seen: set[str] = set()
    process = None
    for step in range(begin, STEPS, STRIDE):
        execute(
            filled,
            f"UPDATE notes SET signals = '{{\"stars\": {100 + step}}}' "
            f"WHERE id = 'c{1 + step % 6}' AND metric_name = 'tone'",
        )
        process = start(refresh_until_killed, store.root, filled, step)
        process.join()
        reader = open_store(store.root)
        assert cases(reader) == expected(reader)
        seen.add(_digest(reader))
        reader.close()
        refresh(store, filled)
        assert cases(store) == expected(store)
        assert leavings(store) == set()
        if process.exitcode == 0:
            break
    assert process is not None
    assert process.exitcode == 0, "the last step was reached"
    assert len(seen) > 5


def _digest(store: Store) -> str:
    return hashlib.sha256(repr(cases(store)).encode()).hexdigest()
