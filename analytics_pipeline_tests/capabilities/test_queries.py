"""The published examples of queries run as they are written there, over every backend."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, ParquetBackend
from analytics_pipeline.capabilities.tables import (
    DataevalCleaningRecord,
    DataevalFeasibilityRecord,
    DataevalShiftRecord,
    MaiteEvaluationRecord,
    NrtkRobustnessRecord,
)
from analytics_pipeline_tests.capabilities.scenario import Run, example

QUERIES = {
    "all": ("SELECT * FROM dataeval_cleaning", 2),
    "fields": (
        """
        SELECT dataset_id, exact_duplicate_count, exact_duplicate_ratio, image_outlier_count, image_outlier_ratio,
            mean_brightness
        FROM dataeval_cleaning
        """,
        2,
    ),
    "ordered": (
        """
        SELECT dataset_id, exact_duplicate_count, image_outlier_count, image_outlier_ratio, mean_brightness
        FROM dataeval_cleaning
        ORDER BY dataset_id
        """,
        2,
    ),
    "runs": ("SELECT run_uid, capability_table, entity_type, entity_id FROM runs ORDER BY entity_id", 11),
    "tables of a dataset": (
        "SELECT DISTINCT capability_table FROM runs WHERE entity_type = 'dataset' AND entity_id = 'cifar10'",
        5,
    ),
    "example": ("SELECT dataset_id, score, notes FROM example ORDER BY score DESC", 1),
    "aggregate": (
        "SELECT dataset_id, COUNT(*) AS run_count, AVG(score) AS avg_score FROM example GROUP BY dataset_id",
        1,
    ),
    "quality and accuracy": (
        """
        SELECT
            d.dataset_id,
            d.exact_duplicate_ratio,
            d.image_outlier_ratio,
            m.output_value AS accuracy
        FROM dataeval_cleaning d
        JOIN maite_evaluation m ON d.dataset_id = m.dataset_id
        WHERE m.output_key = 'accuracy' AND m.scope = 'overall'
        """,
        1,
    ),
    "results of a model": (
        """
        SELECT e.*
        FROM maite_evaluation e
        JOIN runs r ON e.run_uid = r.run_uid
        WHERE r.entity_type = 'model' AND r.entity_id = 'resnet50'
        """,
        2,
    ),
    "feasibility and quality": (
        """
        SELECT
            f.dataset_id,
            f.ber_upper,
            f.ber_lower,
            c.exact_duplicate_ratio,
            c.image_outlier_ratio
        FROM dataeval_feasibility f
        JOIN dataeval_cleaning c ON f.dataset_id = c.dataset_id
        """,
        1,
    ),
    "drift and feasibility": (
        """
        SELECT
            s.reference_dataset_id,
            s.mmd_drifted,
            s.mmd_p_val,
            f.ber_upper,
            f.ber_lower
        FROM dataeval_shift s
        JOIN dataeval_feasibility f ON s.reference_dataset_id = f.dataset_id
        """,
        1,
    ),
    "robustness and quality": (
        """
        SELECT
            n.model_id,
            n.perturber_type,
            MIN(n.metric_value) AS worst_score,
            c.image_outlier_ratio
        FROM nrtk_robustness n
        JOIN dataeval_cleaning c ON n.dataset_id = c.dataset_id
        WHERE n.is_primary = true
        GROUP BY n.model_id, n.perturber_type, c.image_outlier_ratio
        """,
        1,
    ),
}


def record(kind: type[BaseRecord], uid: str, **values: object) -> BaseRecord:
    """A record with some plain value in every field that is not given."""
    plain = {"int": 1, "float": 0.5, "bool": True, "str": "cifar10"}
    filled = {
        name: plain[str(getattr(info.annotation, "__name__", info.annotation)).split(" ")[0]]
        for name, info in kind.model_fields.items()
        if name != "created_at"
    }
    return kind.model_validate({**filled, "run_uid": uid, **values})


def fill(store: AnalyticsStore) -> None:
    """A run of each capability."""
    evaluation = [
        record(MaiteEvaluationRecord, "eval", output_key="accuracy", scope="overall", class_name=None),
        record(MaiteEvaluationRecord, "eval", output_key="accuracy", scope="class", class_name="cat"),
    ]
    curve = [record(NrtkRobustnessRecord, "nrtk", theta_index=i, metric_value=0.9 - i / 10) for i in range(3)]
    store.write(
        [
            Run("clean", [record(DataevalCleaningRecord, "clean")], models=[], metrics=[]),
            Run("eval", evaluation),
            Run("nrtk", curve),
            Run("ber", [record(DataevalFeasibilityRecord, "ber")], models=[], metrics=[]),
            Run("shift", [record(DataevalShiftRecord, "shift")], datasets=["cifar10", "mnist"], models=[], metrics=[]),
        ]
    )
    store.write([Run("clean2", [record(DataevalCleaningRecord, "clean2", dataset_id="mnist")], ["mnist"], [], [])])
    store.backend.write([example("example", score=0.95)])


@pytest.fixture
def filled(store: AnalyticsStore) -> AnalyticsStore:
    """The store with a run of each capability."""
    fill(store)
    return store


def test_every_published_query_runs_as_written(filled: AnalyticsStore) -> None:
    """A user of checkmaite changes no query."""
    assert {name: filled.query_sql(sql).height for name, (sql, _) in QUERIES.items()} == {
        name: rows for name, (_, rows) in QUERIES.items()
    }


def test_queries_give_frames_that_polars_goes_on_with(filled: AnalyticsStore) -> None:
    """SQL to filter, Polars to transform."""
    frame = filled.query_sql(QUERIES["robustness and quality"][0])
    assert frame["worst_score"].to_list() == [pytest.approx(0.7)]
    assert filled.query_sql("SELECT * FROM example WHERE dataset_id = 'cifar10'").select("score").describe().height == 9


def rows_of(sql: str) -> list[tuple[object, ...]]:
    """What DuckDB says by itself."""
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def test_the_queries_of_other_tools_run_over_the_folder(tmp_path: Path) -> None:
    """The published examples for any SQL client."""
    root = tmp_path / "analytics_store"
    fill(AnalyticsStore(ParquetBackend(root)))
    joined = rows_of(
        f"""
        SELECT d.dataset_id, d.exact_duplicate_ratio, m.output_value
        FROM read_parquet('{root}/dataeval_cleaning/*.parquet') d
        JOIN read_parquet('{root}/maite_evaluation/*.parquet') m ON d.dataset_id = m.dataset_id
        WHERE m.output_key = 'accuracy'
        """
    )
    assert joined == [("cifar10", 0.5, 0.5)] * 2
    ordered = rows_of(
        "SELECT dataset_id, exact_duplicate_ratio, image_outlier_ratio "
        f"FROM read_parquet('{root}/dataeval_cleaning/*.parquet') ORDER BY image_outlier_ratio DESC"
    )
    assert len(ordered) == 2
