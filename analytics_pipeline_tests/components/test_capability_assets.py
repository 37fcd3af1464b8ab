"""The sample's capability assets, through Dagster into the published catalog; and what the night does for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.components.maintenance import maintenance_job
from analytics_pipeline.definitions import defs
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.settings import HOME_VARIABLE
from analytics_pipeline.store import Store, open_store

JOB = "digits_capabilities_job"
ROWS = {"dataeval_bias": 2, "dataeval_cleaning": 2, "maite_evaluation": 132}
"""Two datasets; three classifiers with four metrics, overall and for ten classes."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The store of a home in which the job ran twice."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv(HOME_VARIABLE, str(home))
        for _ in range(2):
            assert defs.resolve_job_def(JOB).execute_in_process(instance=instance).success
        yield open_store(home / "store")


def files(store: Store) -> list[Path]:
    return sorted((store.root / "capabilities").rglob("*.parquet"))


@pytest.mark.parametrize("table", ROWS)
def test_each_run_is_stored_once_however_often_the_job_runs(store: Store, table: str) -> None:
    found = store.query(f"SELECT count(*), count(DISTINCT run_uid) FROM capabilities.{table}").rows()

    assert found == [(ROWS[table], 3 if table == "maite_evaluation" else 2)]
    assert len(list((store.root / "capabilities" / table).iterdir())) == 1


def test_runs_join_their_results_in_one_place(store: Store) -> None:
    best = store.query(
        "SELECT r.entity_id, e.output_value FROM capabilities.maite_evaluation AS e "
        "JOIN capabilities.runs AS r USING (run_uid) WHERE r.entity_type = 'model' "
        "AND e.metric_id = 'accuracy' AND e.scope = 'overall' ORDER BY 2 DESC"
    ).rows()

    assert [name for name, _ in best] == ["nearest-neighbours", "logistic-regression", "naive-bayes"]
    assert best[0][1] == pytest.approx(883 / 898, abs=1e-6)


def test_the_night_copies_small_files_for_queries_and_keeps_them(store: Store) -> None:
    before = files(store)
    rows = store.query("SELECT * FROM capabilities.runs ORDER BY ALL").rows()

    done = maintenance_job.execute_in_process(
        resources={"analytics": AnalyticsResource(home_path=str(store.root.parent))},
        instance=dg.DagsterInstance.ephemeral(),
        op_selection=["tend_capabilities"],
    )

    assert done.success
    assert files(store) == before
    assert store.query("SELECT * FROM capabilities.runs ORDER BY ALL").rows() == rows
    assert len(list((store.root / "capabilities" / ".compacted").iterdir())) == 2  # runs and materializations
