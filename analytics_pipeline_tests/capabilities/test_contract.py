"""What every backend keeps: the rules that a user of the store can rely on, whatever keeps the records."""

from __future__ import annotations

import multiprocessing
import threading
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import polars as pl
import pytest
from pydantic import BaseModel

from analytics_pipeline.capabilities import (
    AnalyticsStore,
    BaseRecord,
    DuckDBBackend,
    ParquetBackend,
    Provenance,
    Record,
)
from analytics_pipeline.capabilities.tables import DataevalCleaningRecord
from analytics_pipeline.errors import (
    AnalyticsError,
    ColumnTypeChanged,
    NameRefused,
    ProvenanceRefused,
    QueryFailed,
    QueryRefused,
    QueryTimedOut,
    RecordsDisagree,
    RecordValueRefused,
    RunNotFound,
    RunRefused,
    TableNotFound,
    TablesNotFound,
    TooManyRows,
)
from analytics_pipeline_tests.capabilities.scenario import (
    BACKENDS,
    SHARED,
    ExampleRecord,
    Make,
    OtherRecord,
    Run,
    WiderRecord,
    example,
    run,
    uids,
)

RUNS = "SELECT run_uid, capability_table, entity_type, entity_id, run_event_id, user_id FROM runs ORDER BY ALL"
DESCRIPTION = {
    "run_uid": "String",
    "created_at": "Datetime(time_unit='us', time_zone='UTC')",
    "dataset_id": "String",
    "score": "Float64",
    "sample_count": "Int64",
    "notes": "String",
}


def test_a_home_that_does_not_exist_is_named_by_a_query_and_made_by_a_write(tmp_path: Path) -> None:
    """An empty frame would say of a mistyped path that nothing was ever stored there."""
    places = tmp_path / "mistyped", tmp_path / "mistyped.duckdb"
    for backend, place in zip((ParquetBackend(places[0]), DuckDBBackend(places[1])), places, strict=True):
        with pytest.raises(TablesNotFound, match="mistyped"):
            backend.query_sql("SELECT count(*) FROM example")
        assert not place.exists(), "reading makes nothing"
        backend.write([example("a")])
        assert backend.query_sql("SELECT count(*) FROM example").item() == 1
    (tmp_path / "new").mkdir()
    assert ParquetBackend(tmp_path / "new").query_sql("SELECT count(*) FROM example").is_empty()


def test_an_empty_store_answers_and_does_not_fail(store: AnalyticsStore) -> None:
    """A notebook opens the store before the first run."""
    assert store.list_tables() == []
    with pytest.raises(TableNotFound, match="example"):
        store.describe_table("example")
    with pytest.raises(RunNotFound, match="nobody"):
        store.get_run_uri("nobody")


def test_written_runs_are_there_with_their_entities(store: AnalyticsStore) -> None:
    """The tutorial's first steps."""
    store.write([run("a"), Run("b", [example("b", "mnist")], datasets=["mnist"], models=[], metrics=["f1", "map"])])
    assert store.list_tables() == ["example", "runs"]
    assert uids(store) == ["a", "b"]
    assert store.query_sql(RUNS).rows() == [
        ("a", "example", "dataset", "cifar10", None, None),
        ("a", "example", "metric", "accuracy", None, None),
        ("a", "example", "model", "resnet50", None, None),
        ("b", "example", "dataset", "mnist", None, None),
        ("b", "example", "metric", "f1", None, None),
        ("b", "example", "metric", "map", None, None),
    ]


def test_a_table_is_described_by_the_types_of_polars(store: AnalyticsStore) -> None:
    """The published examples print these very words."""
    store.backend.write([example("a")])
    assert store.describe_table("example") == DESCRIPTION
    with pytest.raises(TableNotFound, match="example"):
        store.describe_table("nothing")


def test_a_run_is_stored_once_whoever_writes_it_again(make: Make) -> None:
    """Notebooks are run again; retries write what is there."""
    AnalyticsStore(make()).write([run("a", rows=3)])
    again = AnalyticsStore(make())
    receipt = again.write_with_receipt([run("a", rows=3, score=0.9)])
    assert uids(again) == ["a", "a", "a"]
    assert again.query_sql("SELECT DISTINCT score FROM example").rows() == [(0.5,)]
    assert again.query_sql("SELECT count(*) FROM runs").item() == 3
    assert dict(receipt.run_table_files) == {}
    assert set(receipt.rows.values()) == {0}


def test_of_known_and_new_runs_in_one_call_the_new_ones_are_stored(store: AnalyticsStore) -> None:
    """A batch that was half done is simply written again."""
    store.write([run("a"), run("b")])
    receipt = store.write_with_receipt([run("b"), run("c", rows=2), run("a")])
    assert uids(store) == ["a", "b", "c", "c"]
    assert receipt.rows == {"runs": 3, "example": 2}
    assert set(receipt.run_table_files) == {"c"}


def test_equal_rows_of_one_call_are_all_kept_but_each_entity_once(store: AnalyticsStore) -> None:
    """Several rows of a run are normal; its dataset is one."""
    store.write([Run("a", [example("a"), example("a")], datasets=["cifar10", "cifar10"])])
    assert uids(store) == ["a", "a"]
    assert store.query_sql("SELECT count(*) FROM runs").item() == 3


def test_a_run_that_comes_twice_in_one_call_is_stored_once(store: AnalyticsStore) -> None:
    """A list of results to which one was added twice; of entities that only the second names none is lost."""
    again = Run("a", [example("a", score=0.9)], datasets=["cifar10", "mnist"])
    receipt = store.write_with_receipt([run("a", rows=2), run("b"), run("a", rows=2), again])
    assert receipt.rows == {"runs": 7, "example": 3}
    assert uids(store) == ["a", "a", "b"]
    assert store.query_sql("SELECT DISTINCT score FROM example").rows() == [(0.5,)]
    store.write([Run("a", [OtherRecord(run_uid="a", dataset_id="d")])])
    assert "other" in store.list_tables()


def test_records_that_are_written_directly_are_all_kept(store: AnalyticsStore) -> None:
    """Without runs nobody knows which rows belong together."""
    store.backend.write([example("a"), example("a")])
    assert uids(store) == ["a", "a"]


def test_a_receipt_and_a_uri_tell_where_a_run_is(store: AnalyticsStore) -> None:
    """Clients of remote workers find what these wrote."""
    receipt = store.write_with_receipt([run("it's"), run("b")])
    assert receipt.rows == {"runs": 6, "example": 2}
    assert receipt.resolve_run_uri("it's") == store.get_run_uri("it's")
    assert receipt.resolve_run_uri("nobody") is None
    with pytest.raises(RunNotFound, match="nobody"):
        store.get_run_uri("nobody")


def test_an_empty_write_changes_nothing(store: AnalyticsStore) -> None:
    """A capability may have nothing to say."""
    assert store.write_with_receipt([]).rows == {}
    assert store.write_with_receipt([Run("a", [])]).rows == {}
    store.backend.write([])
    assert store.list_tables() == []


def test_a_later_event_of_a_known_run_is_added_to_runs(store: AnalyticsStore) -> None:
    """A run that is executed again keeps its rows, and both executions are known."""
    store.write([run("a")], provenance={"run_event_id": "1", "user_id": "ada"})
    store.write([run("a")], provenance=Provenance(run_event_id="2", user_id="bob"))
    store.write([run("a")], provenance={"run_event_id": "1", "user_id": "eve"})
    assert uids(store) == ["a"]
    assert store.query_sql("SELECT run_event_id, user_id, count(*) FROM runs GROUP BY ALL ORDER BY 1").rows() == [
        ("1", "ada", 3),
        ("2", "bob", 3),
    ]


def test_a_row_without_an_event_is_a_duplicate_of_any_row_of_its_entity(store: AnalyticsStore) -> None:
    """But an event of a run that was stored without one is news."""
    store.write([run("a")], provenance={"run_event_id": "1"})
    store.write([run("a")])
    assert store.query_sql("SELECT count(*) FROM runs").item() == 3
    store.write([run("b")])
    store.write([run("b")], provenance={"run_event_id": "1"})
    store.write([run("b")])
    assert store.query_sql("SELECT count(*) FROM runs WHERE run_uid = 'b'").item() == 6


def test_provenance_is_stored_in_utc_and_checked(store: AnalyticsStore) -> None:
    """A time without a zone is no moment, and a misspelt field would be lost."""
    oslo = timezone(timedelta(hours=2))
    store.write([run("a")], provenance={"submitted_at": datetime(2026, 1, 1, 12, tzinfo=oslo), "job_id": "7"})
    found = store.query_sql("SELECT DISTINCT submitted_at, job_id, workspace_id FROM runs")
    assert found.rows() == [(datetime(2026, 1, 1, 10, tzinfo=UTC), "7", None)]
    assert uids(store) == ["a"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"submitted_at": datetime(2026, 1, 1)}, r"submitted_at.*time zone"),  # noqa: DTZ001
        ({"password": "hunter2"}, "password"),
        ({"user_id": ["hunter2"]}, "user_id"),
        ("hunter2", "str"),
        (["hunter2"], "list"),
    ],
    ids=str,
)
def test_provenance_that_cannot_be_used_is_refused_and_not_repeated(
    store: AnalyticsStore, wrong: dict[str, object], told: str
) -> None:
    """A misspelt field would be lost, and a value in the wrong place may be a secret."""
    with pytest.raises(ProvenanceRefused, match=told) as refused:
        store.write([run("b")], provenance=wrong)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))
    assert store.list_tables() == []


def test_provenance_may_be_a_model_of_another_package(store: AnalyticsStore) -> None:
    """With fields of the same names."""

    class Theirs(BaseModel):
        user_id: str
        job_id: str | None = None

    store.write([run("a")], provenance=Theirs(user_id="ada"))  # type: ignore[arg-type]
    assert store.query_sql("SELECT DISTINCT user_id, job_id FROM runs").rows() == [("ada", None)]


class Silent(Run):
    """A run whose method forgot to return anything."""

    def extract(self) -> Sequence[Record]:
        """Nothing."""
        return None  # type: ignore[return-value]


class Bare(Run):
    """A run that names its model where a sequence of mappings belongs."""

    @property
    def model_metadata(self) -> Sequence[Mapping[str, str]]:
        """A name."""
        return "resnet50"  # type: ignore[return-value]


class Unnamed(Run):
    """A run that lists names where mappings belong."""

    @property
    def metric_metadata(self) -> Sequence[Mapping[str, str]]:
        """Names."""
        return ["accuracy"]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Run("x", [example("x"), OtherRecord(run_uid="x", dataset_id="d")]), "example, other"),
        (Run("x", [example("y")]), "y"),
        (Run("x", [example("x")], datasets=[7]), "dataset"),  # type: ignore[list-item]
        (Run("x", [example("x")], capability_id=7), "capability_id"),  # type: ignore[arg-type]
        (Silent("x", [example("x")]), "NoneType.*extract"),
        (Bare("x", [example("x")]), "str.*model_metadata"),
        (Unnamed("x", [example("x")]), "metric without a text as its id"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused_and_nothing_of_the_call_is_stored(
    store: AnalyticsStore, wrong: Run, words: str
) -> None:
    """One run, one table, its own uid, entities with a name."""
    with pytest.raises(RunRefused, match=words) as refused:
        store.write([run("a"), wrong])
    assert isinstance(refused.value, ValueError)
    assert store.list_tables() == []


def test_columns_may_come_and_go(store: AnalyticsStore) -> None:
    """The published example of evolution, and idempotency after it, both ways."""
    store.backend.write([example("a"), example("b", notes="old")])
    store.backend.write([WiderRecord(run_uid="c", dataset_id="svhn", score=1, sample_count=3, augmented=True)])
    store.backend.write([example("d")])
    for _ in range(2):
        store.backend.write([example("a"), example("c"), example("d")])
        store.backend.write([WiderRecord(run_uid=uid, dataset_id="x", score=1, sample_count=3) for uid in "abcd"])
    assert store.query_sql("SELECT run_uid, notes, augmented FROM example ORDER BY 1").rows() == [
        ("a", None, None),
        ("b", "old", None),
        ("c", None, True),
        ("d", None, None),
    ]
    assert store.describe_table("example") == {**DESCRIPTION, "augmented": "Boolean"}


def test_a_changed_type_is_refused_with_all_that_one_needs_to_know(store: AnalyticsStore) -> None:
    """Nothing of the call is stored, neither its payload nor its rows of runs."""

    class Changed(BaseRecord, table_name="example"):
        dataset_id: str
        score: str

    store.write([run("a")])
    with pytest.raises(ColumnTypeChanged, match=r"score.*example.*DOUBLE.*VARCHAR") as refused:
        store.write([Run("b", [Changed(run_uid="b", dataset_id="d", score="good")])])
    assert isinstance(refused.value, TypeError)
    assert uids(store) == ["a"]
    assert store.query_sql("SELECT DISTINCT run_uid FROM runs").rows() == [("a",)]


def test_a_column_that_differs_in_case_alone_is_refused(store: AnalyticsStore) -> None:
    """SQL would not tell them apart."""

    class Shouting(BaseRecord, table_name="example"):
        SCORE: float

    store.backend.write([example("a")])
    with pytest.raises(NameRefused, match="SCORE"):
        store.backend.write([Shouting(run_uid="b", SCORE=1.0)])
    assert uids(store) == ["a"]


def test_versions_of_a_record_may_be_mixed_in_one_call_if_they_agree(store: AnalyticsStore) -> None:
    """Old and new runs arrive together."""

    class Disagreeing(BaseRecord, table_name="example"):
        score: int

    wider = WiderRecord(run_uid="b", dataset_id="d", score=1, sample_count=1, augmented=False)
    store.backend.write([example("a"), wider])
    assert store.query_sql("SELECT augmented FROM example ORDER BY run_uid").rows() == [(None,), (False,)]
    with pytest.raises(RecordsDisagree, match=r"score.*float, int.*example"):
        store.backend.write([example("c"), Disagreeing(run_uid="d", score=1)])
    assert uids(store) == ["a", "b"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('/tmp/*.parquet')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT getenv('HOME')",
        "COPY example TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/other.duckdb'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE example",
        "SET memory_limit = '100GB'",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "LOAD httpfs",
        "DROP TABLE example",
        "INSERT INTO example SELECT * FROM example",
        "CREATE TABLE mine AS SELECT 1",
        "DELETE FROM example",
        "CALL pragma_version()",
        "SELECT * FROM 'https://example.com/x.parquet'",
    ],
)
def test_a_query_can_do_nothing_but_read_the_tables(store: AnalyticsStore, sql: str) -> None:
    """It may come from a dashboard, or from a model."""
    store.backend.write([example("a")])
    with pytest.raises(QueryRefused):
        store.query_sql(sql)
    assert uids(store) == ["a"]
    assert not Path("/tmp/stolen.csv").exists()


def test_a_write_hidden_in_a_select_is_refused(store: AnalyticsStore) -> None:
    """DuckDB 2 calls the whole a SELECT; the parser of DuckDB 1 does not know it."""
    store.backend.write([example("a")])
    with pytest.raises(QueryRefused if int(duckdb.__version__[0]) > 1 else QueryFailed):
        store.query_sql("WITH x AS (COPY example TO '/tmp/stolen.csv') SELECT 1")
    assert uids(store) == ["a"]
    assert not Path("/tmp/stolen.csv").exists()


def test_a_query_has_a_limit_of_time_and_of_rows(store: AnalyticsStore) -> None:
    """The caller sets them."""
    store.backend.write([example("a"), example("b")])
    with pytest.raises(TooManyRows, match="1"):
        store.query_sql("SELECT * FROM example", max_rows=1)
    assert store.query_sql("SELECT * FROM example", max_rows=2).height == 2
    with pytest.raises(QueryTimedOut):
        store.query_sql("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", timeout=0.2)


def test_threads_may_share_a_store(make: Make) -> None:
    """Every run once, whoever writes and reads at the same time."""
    store = AnalyticsStore(make())
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for run_number in range(6):
                store.write([run(f"run-{(run_number + number) % 6}")])
                found = uids(store)
                assert len(found) == len(set(found))
        except BaseException as error:  # noqa: BLE001 — of a thread nobody else would hear
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert uids(store) == [f"run-{number}" for number in range(6)]


def write_once(kind: str, folder: Path, start: object) -> None:
    """Write one and the same run at the same time as others."""
    store = AnalyticsStore(BACKENDS[kind](folder))
    start.wait()  # type: ignore[attr-defined]
    store.write([run("a", rows=2)])


@pytest.mark.parametrize("kind", SHARED)
def test_of_processes_that_write_one_run_exactly_one_wins(kind: str, tmp_path: Path) -> None:
    """Retries of a job overlap."""
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(4)
    processes = [context.Process(target=write_once, args=(kind, tmp_path, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    store = AnalyticsStore(BACKENDS[kind](tmp_path))
    assert uids(store) == ["a", "a"]
    assert store.query_sql("SELECT count(*) FROM runs").item() == 3


def test_the_tutorials_description_of_cleaning(store: AnalyticsStore) -> None:
    """Every column in the order and with the type that the published example shows."""
    whole = [name for name in DataevalCleaningRecord.model_fields if name.endswith("_count")]
    values = dict.fromkeys(DataevalCleaningRecord.model_fields, 1.0) | dict.fromkeys(whole, 1)
    store.backend.write([DataevalCleaningRecord.model_validate({**values, "run_uid": "a", "dataset_id": "coco",
                                                               "created_at": datetime.now(UTC)})])  # fmt: skip
    described = store.describe_table("dataeval_cleaning")
    assert list(described)[:4] == ["run_uid", "created_at", "dataset_id", "exact_duplicate_count"]
    assert described["target_outlier_count"] == "Int64"
    assert described["mean_width"] == "Float64"
    assert len(described) == 24


def test_a_table_can_be_scanned_lazily(store: AnalyticsStore) -> None:
    """Downstream assets filter before they read."""
    store.write([run("a"), run("b", score=0.9)])
    scanned = store.backend.scan_table("example")
    assert isinstance(scanned, pl.LazyFrame)
    assert scanned.filter(pl.col("score") > 0.6).select("run_uid").collect().rows() == [("b",)]


def test_every_error_of_the_store_is_one_of_its_own() -> None:
    """A caller catches one class."""
    for error in (ColumnTypeChanged, NameRefused, RecordsDisagree, RecordValueRefused, RunNotFound, RunRefused):
        assert issubclass(error, AnalyticsError)
    assert issubclass(ExampleRecord, BaseRecord)
