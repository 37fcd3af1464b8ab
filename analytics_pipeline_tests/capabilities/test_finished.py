"""Finished runs: equal results are one run, whoever made them."""

from __future__ import annotations

import json
import pickle
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.capabilities import CapabilityRun, build_store
from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs
from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs
from analytics_pipeline.capabilities.finished import FinishedRun, run_uid_of
from analytics_pipeline_tests.capabilities.outputs import BIAS, CLEANING, EVALUATION, RUNS, finished

BASE: dict[str, Any] = {
    "capability_id": "c",
    "datasets": ("d",),
    "models": ("m",),
    "metrics": ("map", "precision"),
    "outputs": EVALUATION,
}


@pytest.mark.parametrize("table", RUNS)
def test_a_finished_run_is_a_capability_run(table: str) -> None:
    run = finished(table)

    assert isinstance(run, CapabilityRun)
    assert run.extract() == CAPABILITIES[table].extract(run.outputs, run.facts)
    assert [entity["id"] for entity in run.dataset_metadata] == list(run.facts.datasets)
    assert [entity["id"] for entity in run.model_metadata] == list(run.facts.models)
    assert [entity["id"] for entity in run.metric_metadata] == list(run.facts.metrics)


@pytest.mark.parametrize("table", RUNS)
def test_a_finished_run_goes_into_the_store_once(table: str, tmp_path: Path) -> None:
    store, run = build_store({"uri": str(tmp_path)}), finished(table)

    store.write([run])
    store.write([finished(table)])

    assert store.query_sql(f"SELECT count(*) FROM {table}").item() == len(run.extract())
    assert store.query_sql("SELECT DISTINCT capability_table, capability_id FROM runs").rows() == [
        (table, run.capability_id)
    ]


def test_a_uid_is_a_sha256() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", run_uid_of(**BASE))


def test_the_uid_of_known_results_never_changes() -> None:
    """Else an upgrade would store every run once more."""
    assert run_uid_of(**BASE) == "4692ba1b411f3dc91de096e20b9dea653a7b12e8bd00fe73a5663eba7a3f357a"


@pytest.mark.parametrize(
    "other",
    [
        {"capability_id": "d"},
        {"datasets": ("e",)},
        {"datasets": ("d", "m"), "models": ()},
        {"models": ()},
        {"metrics": ("precision", "map")},
        {"outputs": BIAS},
        {"outputs": MaiteEvaluationOutputs(metrics={"map": EVALUATION.metrics["map"]})},
    ],
)
def test_other_results_are_another_run(other: dict[str, Any]) -> None:
    assert run_uid_of(**{**BASE, **other}) != run_uid_of(**BASE)


def test_the_moment_of_a_run_plays_no_part_in_its_uid() -> None:
    now = datetime.now(UTC)
    runs = [FinishedRun.of("c", CLEANING, datasets=["d"], created_at=moment) for moment in (None, now)]
    runs.append(FinishedRun.of("c", CLEANING, datasets=["d"], created_at=now - timedelta(days=1)))

    assert len({run.run_uid for run in runs}) == 1
    assert runs[1].extract()[0].created_at == now


numbers = st.integers(-3, 3).map(float) | st.just(-0.0) | st.floats(allow_nan=False, allow_infinity=False)
factors = st.dictionaries(st.text(min_size=1, max_size=3), numbers, max_size=4)


@given(factors, st.randoms(use_true_random=False), st.lists(st.integers(0, 9), unique=True))
def test_equal_outputs_have_one_uid_however_they_are_written(
    balance: dict[str, float], dice: Any, uncovered: list[int]
) -> None:
    """In any order of keys and places, with -0.0 for 0.0, and through JSON, where 1.0 may be 1."""
    keys = list(balance)
    dice.shuffle(keys)
    again = {key: int(balance[key]) if balance[key].is_integer() else balance[key] for key in keys}
    shuffled = dice.sample(uncovered, len(uncovered))
    one = DataevalBiasOutputs(image_count=10, uncovered=tuple(uncovered), coverage_radius=0.0, balance=balance)

    other = DataevalBiasOutputs.model_validate_json(
        json.dumps({"balance": again, "coverage_radius": -0.0, "uncovered": shuffled, "image_count": 10})
    )

    assert one == other
    assert run_uid_of("c", ["d"], [], [], one) == run_uid_of("c", ("d",), (), (), other)


@given(factors, factors)
def test_unequal_outputs_have_two_uids(one: dict[str, float], other: dict[str, float]) -> None:
    uids = {
        run_uid_of(
            "c", ["d"], [], [], DataevalBiasOutputs(image_count=0, uncovered=(), coverage_radius=None, balance=balance)
        )
        for balance in (one, other)
    }
    assert len(uids) == (1 if one == other else 2)


@pytest.mark.parametrize("table", RUNS)
def test_a_finished_run_can_be_sent_to_another_process(table: str) -> None:
    run = finished(table)

    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301 - our own
