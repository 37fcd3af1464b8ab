"""Outputs of each capability, small enough to reckon by hand: what the tests of tables, runs and jobs start from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs
from analytics_pipeline.capabilities.extraction.cleaning import CleanedImage, DataevalCleaningOutputs
from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs, MetricValues
from analytics_pipeline.capabilities.extraction.explanation import SaliencyMap, XaitkExplainableOutputs
from analytics_pipeline.capabilities.extraction.feasibility import DataevalFeasibilityOutputs
from analytics_pipeline.capabilities.extraction.outputs import Outputs, RunFacts
from analytics_pipeline.capabilities.extraction.robustness import NrtkRobustnessOutputs
from analytics_pipeline.capabilities.extraction.shift import (
    DataevalShiftOutputs,
    DriftTest,
    FeatureDriftTest,
    ScoredSample,
)
from analytics_pipeline.capabilities.finished import FinishedRun

MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)


def facts(
    *, datasets: tuple[str, ...] = ("cifar10",), models: tuple[str, ...] = (), metrics: tuple[str, ...] = ()
) -> RunFacts:
    return RunFacts("a1b2", "tests.Capability", datasets, models, metrics, MOMENT)


def image(*labels: str, width: int = 32, height: int = 32, brightness: float = 0.5) -> CleanedImage:
    return CleanedImage(
        width=width, height=height, brightness=brightness, contrast=0.25, sharpness=2.0, labels=tuple(labels)
    )


CLEANING = DataevalCleaningOutputs(
    classes=("cat", "dog"),
    images=(
        image("cat", width=10, height=20, brightness=0.25),
        image("cat", width=20, height=20, brightness=0.75),
        image("cat", width=30, height=20),
        image("dog", width=40, height=20),
    ),
    exact_duplicates=((0, 1),),
    near_duplicates=((1, 2, 3),),
    image_outliers=(3,),
)
BIAS = DataevalBiasOutputs(
    image_count=4,
    uncovered=(2,),
    coverage_radius=0.5,
    balance={"weather": 0.5, "hour": 0.25, "camera": 0.75},
    diversity={"weather": 0.4, "hour": 0.2, "camera": 0.9},
)
FEASIBILITY = DataevalFeasibilityOutputs(ber_upper=0.3, ber_lower=0.2)
SHIFT = DataevalShiftOutputs(
    mmd=DriftTest(drifted=True, distance=0.5, p_val=0.01, threshold=0.05),
    cvm=FeatureDriftTest(drifted=True, distance=0.25, p_val=0.02, threshold=0.05, feature_drift=(True, False, True)),
    ks=FeatureDriftTest(drifted=False, distance=0.125, p_val=0.5, threshold=0.05, feature_drift=(False, False, False)),
    samples=(
        ScoredSample(is_ood=True, instance_score=4.0),
        ScoredSample(is_ood=False, instance_score=1.0),
        ScoredSample(is_ood=False, instance_score=1.0),
        ScoredSample(is_ood=False, instance_score=2.0),
    ),
)
EVALUATION = MaiteEvaluationOutputs(
    metrics={
        "map": MetricValues(overall={"map50": 0.5, "map75": 0.25}),
        "precision": MetricValues(
            overall={"precision": 0.75}, class_key="precision", classes={"cat": 0.5, "dog": 1.0, "owl": None}
        ),
    }
)
ROBUSTNESS = NrtkRobustnessOutputs(
    perturber="nrtk.impls.perturb_image.enhance.BrightnessPerturber",
    theta_key="factor",
    thetas=(1.0, 0.5),
    scores=({"accuracy": 0.9, "f1": 0.8}, {"accuracy": 0.4, "f1": None}),
    return_key="accuracy",
)
EXPLANATION = XaitkExplainableOutputs(
    saliency_generator="xaitk_saliency.RISEStack",
    maps=(SaliencyMap(image_index=0, gt_label="cat", pixels=((0.0, 0.5), (-0.5, 1.0))),),
)

RUNS: Mapping[str, tuple[Outputs, RunFacts]] = {
    "dataeval_bias": (BIAS, facts()),
    "dataeval_cleaning": (CLEANING, facts()),
    "dataeval_feasibility": (FEASIBILITY, facts()),
    "dataeval_shift": (SHIFT, facts(datasets=("cifar10", "cifar10-night"))),
    "maite_evaluation": (EVALUATION, facts(models=("resnet50",), metrics=("map", "precision"))),
    "nrtk_robustness": (ROBUSTNESS, facts(models=("resnet50",), metrics=("accuracy",))),
    "xaitk_explainable": (EXPLANATION, facts(models=("resnet50",))),
}
"""By table."""


def finished(table: str) -> FinishedRun:
    """A run of the capability whose table that is."""
    outputs, run = RUNS[table]
    return FinishedRun.of(
        run.capability_id,
        outputs,
        datasets=run.datasets,
        models=run.models,
        metrics=run.metrics,
        created_at=run.created_at,
    )


def extracted(outputs: Outputs, run: RunFacts | None = None) -> list[dict[str, Any]]:
    """The rows, without what they have in common."""
    rows = CAPABILITIES[outputs.capability].extract(outputs, run or RUNS[outputs.capability][1])
    return [row.model_dump(exclude={"run_uid", "created_at"}) for row in rows]


def changed(outputs: Outputs, **fields: object) -> Outputs:
    """The outputs with other fields, checked again."""
    return type(outputs).model_validate({**outputs.model_dump(), **fields})


def refusal(outputs: Outputs, **fields: object) -> str:
    with pytest.raises(ValidationError) as refused:
        changed(outputs, **fields)
    return str(refused.value)
