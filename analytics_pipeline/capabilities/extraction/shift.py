"""`dataeval_shift`: how far a dataset has moved from a reference.

Belongs here: the outputs of that capability and their row. Does not: the tests themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from analytics_pipeline.capabilities.extraction.arithmetic import deviation, mean, ratio
from analytics_pipeline.capabilities.extraction.outputs import Flag, Measured, Number, Outputs, RunFacts, Share
from analytics_pipeline.capabilities.tables import DataevalShiftRecord
from analytics_pipeline.errors import RunRefused

_COMPARED = 2


class DriftTest(Measured):
    """Result of a test whether two datasets come from one distribution.

    Args:
        drifted: whether it says no.
        distance: the test's statistic.
        p_val: of it.
        threshold: that it was compared with.
    """

    drifted: Flag
    distance: Number
    p_val: Share
    threshold: Number


class FeatureDriftTest(DriftTest):
    """The same for a test of each feature by itself.

    Args:
        feature_drift: whether each feature drifted.
    """

    feature_drift: tuple[Flag, ...]


class ScoredSample(Measured):
    """A sample of the evaluation dataset.

    Args:
        is_ood: whether it is out of distribution.
        instance_score: how far.
    """

    is_ood: Flag
    instance_score: Number


class DataevalShiftOutputs(Outputs):
    """How an evaluation dataset compares with a reference; the run names both, the reference first.

    Args:
        mmd: maximum mean discrepancy.
        cvm: Cramér-von Mises.
        ks: Kolmogorov-Smirnov.
        samples: of the evaluation dataset.
    """

    capability: ClassVar[str] = "dataeval_shift"

    mmd: DriftTest
    cvm: FeatureDriftTest
    ks: FeatureDriftTest
    samples: tuple[ScoredSample, ...]


def extract_dataeval_shift(outputs: DataevalShiftOutputs, run: RunFacts) -> Sequence[DataevalShiftRecord]:
    """One row, of the run.

    Raises:
        RunRefused: the run has not exactly two datasets.
    """
    if len(run.datasets) != _COMPARED:
        raise RunRefused(run.run_uid, f"has {len(run.datasets)} datasets where its capability compares exactly two")
    reference, evaluation = run.datasets
    mmd, cvm, ks = outputs.mmd, outputs.cvm, outputs.ks
    strange = sum(sample.is_ood for sample in outputs.samples)
    scores = [sample.instance_score for sample in outputs.samples]
    return [
        DataevalShiftRecord(
            **run.stamp(),
            reference_dataset_id=reference,
            evaluation_dataset_id=evaluation,
            mmd_drifted=mmd.drifted,
            mmd_distance=mmd.distance,
            mmd_p_val=mmd.p_val,
            mmd_threshold=mmd.threshold,
            cvm_drifted=cvm.drifted,
            cvm_distance=cvm.distance,
            cvm_p_val=cvm.p_val,
            cvm_threshold=cvm.threshold,
            cvm_feature_drift_count=sum(cvm.feature_drift),
            ks_drifted=ks.drifted,
            ks_distance=ks.distance,
            ks_p_val=ks.p_val,
            ks_threshold=ks.threshold,
            ks_feature_drift_count=sum(ks.feature_drift),
            ood_count=strange,
            ood_total=len(scores),
            ood_ratio=ratio(strange, len(scores)),
            ood_mean_instance_score=mean(scores),
            ood_std_instance_score=deviation(scores),
            ood_max_instance_score=max(scores, default=None),
        )
    ]
