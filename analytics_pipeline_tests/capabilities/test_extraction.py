"""Extraction: what holds for the outputs of every capability."""

from __future__ import annotations

import copy
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.extraction.outputs import RunFacts
from analytics_pipeline.errors import OutputsRefused, RunRefused
from analytics_pipeline_tests.capabilities.outputs import (
    CLEANING,
    EVALUATION,
    MOMENT,
    ROBUSTNESS,
    RUNS,
    extracted,
    facts,
    refusal,
)


@pytest.mark.parametrize("table", RUNS)
def test_rows_belong_to_their_table_and_run(table: str) -> None:
    outputs, run = RUNS[table]

    rows = CAPABILITIES[table].extract(outputs, run)

    assert {(row.table_name, row.run_uid, row.created_at) for row in rows} == {(table, "a1b2", MOMENT)}


@pytest.mark.parametrize("table", RUNS)
def test_outputs_are_as_they_were_after_their_rows_were_extracted(table: str) -> None:
    """Otherwise a second extraction, or whoever has the outputs next, would see something else."""
    outputs, run = RUNS[table]
    before = copy.deepcopy(outputs)

    rows = CAPABILITIES[table].extract(outputs, run)

    assert outputs == before
    assert rows == CAPABILITIES[table].extract(before, run)
    assert rows


def test_all_rows_of_an_extraction_have_one_moment() -> None:
    before = datetime.now(UTC)
    run = RunFacts("a1b2", "c", ("d",), ("m",), ("map", "precision"))

    (moment,) = {row.created_at for row in CAPABILITIES["maite_evaluation"].extract(EVALUATION, run)}
    assert before <= moment <= datetime.now(UTC)


@pytest.mark.parametrize("table", RUNS)
def test_outputs_survive_json(table: str) -> None:
    outputs, run = RUNS[table]
    model = CAPABILITIES[table].outputs

    again = model.model_validate_json(outputs.model_dump_json())

    assert again == outputs
    assert model.model_validate(json.loads(outputs.model_dump_json())) == outputs, "so does a document read by json"
    assert CAPABILITIES[table].extract(again, run) == CAPABILITIES[table].extract(outputs, run)


@pytest.mark.parametrize("table", RUNS)
def test_outputs_with_a_field_nobody_knows_are_refused(table: str) -> None:
    assert "more\n  Extra inputs are not permitted" in refusal(RUNS[table][0], more=1)


def broken(document: Any, value: object) -> list[Any]:
    """The document once for each of its numbers, with that one replaced."""
    if isinstance(document, dict):
        return [{**document, key: other} for key, item in document.items() for other in broken(item, value)]
    if isinstance(document, list):
        return [
            [*document[:place], other, *document[place + 1 :]]
            for place, item in enumerate(document)
            for other in broken(item, value)
        ]
    return [value] if isinstance(document, (int, float)) and not isinstance(document, bool) else []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", True, [1]])
@pytest.mark.parametrize("table", RUNS)
def test_no_number_of_any_outputs_may_be_something_else(table: str, value: object) -> None:
    documents = broken(json.loads(RUNS[table][0].model_dump_json()), value)

    assert documents
    for document in documents:
        with pytest.raises(ValidationError):
            CAPABILITIES[table].outputs.model_validate_json(json.dumps(document))


@pytest.mark.parametrize("table", RUNS)
def test_a_run_on_no_dataset_or_too_many_is_refused(table: str) -> None:
    outputs, run = RUNS[table]
    for datasets in ((), ("a", "b", "c")):
        with pytest.raises(RunRefused, match=rf"Run 'a1b2' has {len(datasets)} datasets .* exactly (one|two)"):
            CAPABILITIES[table].extract(outputs, facts(datasets=datasets, models=run.models, metrics=run.metrics))


@pytest.mark.parametrize("table", ["maite_evaluation", "nrtk_robustness", "xaitk_explainable"])
def test_a_run_of_two_models_is_refused_where_rows_name_one(table: str) -> None:
    outputs, run = RUNS[table]
    with pytest.raises(RunRefused, match="has 2 models where its capability takes exactly one"):
        CAPABILITIES[table].extract(outputs, facts(models=("a", "b"), metrics=run.metrics))


def test_a_robustness_run_has_one_metric() -> None:
    with pytest.raises(RunRefused, match="has 2 metrics"):
        extracted(ROBUSTNESS, facts(models=("m",), metrics=("a", "b")))


def test_outputs_of_another_capability_are_refused() -> None:
    with pytest.raises(OutputsRefused, match="dataeval_bias extracts records from DataevalBiasOutputs, not from Datae"):
        CAPABILITIES["dataeval_bias"].extract(CLEANING, facts())


def test_capabilities_are_found_by_the_name_that_their_outputs_carry() -> None:
    assert {table: known.outputs.capability for table, known in CAPABILITIES.items()} == {
        table: table for table in RUNS
    }
