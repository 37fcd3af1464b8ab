"""Drop-in for checkmaite: its objects in our store, our backend in its store, one folder for both.

Run by `make test-checkmaite`, which installs the package; skipped where it is not there.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, ParquetBackend, RunRecord, tables
from analytics_pipeline.errors import RunNotFound

if find_spec("checkmaite") is None:
    pytest.skip("checkmaite is not installed: make test-checkmaite", allow_module_level=True)

from analytics_pipeline_tests.capabilities.checkmaite_parts import (
    RECORDS,
    cleaning_run,
    evaluation_run,
    record_of,
    theirs,
)

JOIN_BY_RUNS = """
SELECT c.image_count, r.entity_id
FROM dataeval_cleaning c JOIN runs r ON c.run_uid = r.run_uid
WHERE r.entity_type = 'dataset' AND r.entity_id = 'digits'
"""
JOIN_BY_DATASET = """
SELECT d.image_count, m.output_value
FROM dataeval_cleaning d JOIN maite_evaluation m ON d.dataset_id = m.dataset_id
WHERE m.scope = 'overall' AND m.output_key = 'accuracy'
"""
RUNS = (cleaning_run("digits"), evaluation_run("digits", "forest", 0.9), evaluation_run("letters", "forest", 0.7))


def counts(store: Any) -> dict[str, int]:
    """Rows of each table."""
    return {
        table: store.query_sql(f"SELECT count(*) AS n FROM {table}")["n"][0] for table in sorted(store.list_tables())
    }


ALL = {"dataeval_cleaning": 1, "maite_evaluation": 6, "runs": 7}


def test_its_runs_are_stored_once_and_answer_its_queries(tmp_path: Path) -> None:
    store = AnalyticsStore(ParquetBackend(str(tmp_path)))
    store.write(list(RUNS), provenance=theirs.Provenance(user_id="ada").model_dump(exclude_none=True))
    store.write(list(RUNS))
    assert counts(store) == ALL
    assert store.query_sql(JOIN_BY_RUNS).rows() == [(10, "digits")]
    assert store.query_sql(JOIN_BY_DATASET).rows() == [(10, 0.9)]
    assert store.query_sql("SELECT DISTINCT user_id FROM runs").rows() == [("ada",)]


def test_its_provenance_object_is_taken_as_it_is(tmp_path: Path) -> None:
    store = AnalyticsStore(ParquetBackend(tmp_path))
    store.write([RUNS[0]], provenance=theirs.Provenance(job_id="job-1", run_event_id="job-1"))
    assert store.query_sql("SELECT job_id, run_event_id FROM runs").rows() == [("job-1", "job-1")]


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_its_records_keep_every_field(tmp_path: Path, kind: Any) -> None:
    record = record_of(kind, "run-1")
    backend = ParquetBackend(tmp_path)
    backend.write([record])
    row = backend.query_sql(f"SELECT * FROM {kind.table_name}").row(0, named=True)
    assert {name: value for name, value in row.items() if value is not None} == record.model_dump(exclude_none=True)
    assert set(row) == set(record.model_dump())


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_our_records_have_its_fields(kind: Any) -> None:
    """A row that our extraction makes fits the table that its runs fill."""
    ours: type[BaseRecord] = getattr(tables, kind.__name__, RunRecord)
    assert ours.table_name == kind.table_name
    assert list(ours.model_fields) == list(kind.model_fields)


def test_a_class_without_images_makes_no_average_infinite(tmp_path: Path) -> None:
    run = cleaning_run("digits", empty_class=2)
    assert run.extract()[0].class_imbalance_ratio == float("inf")
    store = AnalyticsStore(ParquetBackend(tmp_path))
    store.write([run, cleaning_run("letters")])
    assert store.query_sql("SELECT avg(class_imbalance_ratio) AS ratio FROM dataeval_cleaning")["ratio"][0] == 1.0


def test_our_backend_serves_its_store(tmp_path: Path) -> None:
    store = theirs.AnalyticsStore(ParquetBackend(str(tmp_path)))
    receipt = store.write_with_receipt(list(RUNS))
    uid = RUNS[0].run_uid
    assert receipt.resolve_run_uri(uid) == store.get_run_uri(uid)
    assert Path(store.get_run_uri(uid)).parent == tmp_path / "dataeval_cleaning"
    store.write(list(RUNS))
    assert store.write_with_receipt(list(RUNS)).resolve_run_uri(uid) is None
    assert counts(store) == ALL
    assert store.query_sql(JOIN_BY_RUNS).rows() == [(10, "digits")]
    with pytest.raises(ValueError, match="nobody"):
        store.get_run_uri("nobody")


def test_our_backend_describes_tables_as_its_own_does(tmp_path: Path) -> None:
    own, ours = theirs.ParquetBackend(str(tmp_path / "theirs")), ParquetBackend(str(tmp_path / "ours"))
    for backend in (own, ours):
        backend.write([record_of(kind, "run-1") for kind in RECORDS])
    for kind in RECORDS:
        described = ours.describe_table(kind.table_name)
        known = {name: dtype for name, dtype in own.describe_table(kind.table_name).items() if dtype != "Null"}
        assert {name: described[name] for name in known} == known


def test_a_folder_that_it_wrote_is_read_and_extended_without_a_run_twice(tmp_path: Path) -> None:
    theirs.AnalyticsStore(theirs.ParquetBackend(str(tmp_path))).write(list(RUNS[:2]))
    store = AnalyticsStore(ParquetBackend(str(tmp_path)))
    assert store.query_sql(JOIN_BY_DATASET).rows() == [(10, 0.9)]
    assert store.write_with_receipt(list(RUNS[:2])).rows == {"dataeval_cleaning": 0, "maite_evaluation": 0, "runs": 0}
    store.write(list(RUNS))
    assert counts(store) == ALL
    assert Path(store.get_run_uri(RUNS[0].run_uid)).exists()
    with pytest.raises(RunNotFound):
        store.get_run_uri("nobody")


def test_a_later_event_of_a_run_that_it_wrote_goes_to_runs_alone(tmp_path: Path) -> None:
    theirs.AnalyticsStore(theirs.ParquetBackend(str(tmp_path))).write([RUNS[0]], provenance={"run_event_id": "one"})
    store = AnalyticsStore(ParquetBackend(str(tmp_path)))
    store.write([RUNS[0]], provenance={"run_event_id": "one"})
    store.write([RUNS[0]])
    store.write([RUNS[0]], provenance={"run_event_id": "two"})
    assert counts(store) == {"dataeval_cleaning": 1, "runs": 2}


def test_it_reads_and_extends_a_folder_that_we_wrote(tmp_path: Path) -> None:
    AnalyticsStore(ParquetBackend(str(tmp_path), compact_after=2)).write(list(RUNS[:2]))
    store = theirs.AnalyticsStore(theirs.ParquetBackend(str(tmp_path)))
    assert sorted(store.list_tables()) == ["dataeval_cleaning", "maite_evaluation", "runs"]
    assert store.query_sql(JOIN_BY_DATASET).rows() == [(10, 0.9)]
    assert Path(store.get_run_uri(RUNS[0].run_uid)).exists()
    store.write(list(RUNS))
    assert counts(store) == ALL
    assert counts(AnalyticsStore(ParquetBackend(str(tmp_path)))) == ALL


def test_both_write_to_one_folder_in_turns(tmp_path: Path) -> None:
    own = theirs.AnalyticsStore(theirs.ParquetBackend(str(tmp_path)))
    ours = AnalyticsStore(ParquetBackend(str(tmp_path), compact_after=3))
    runs = [evaluation_run(f"set-{number}", "forest", number / 10) for number in range(8)]
    for number, run in enumerate(runs):
        (own, ours)[number % 2].write([run])
        ours.write(runs[: number + 1])
    assert counts(ours) == counts(own) == {"maite_evaluation": 24, "runs": 24}
    files = sorted((tmp_path / "maite_evaluation").glob("*.parquet"))
    assert pl.read_parquet(files, missing_columns="insert").height == 24
