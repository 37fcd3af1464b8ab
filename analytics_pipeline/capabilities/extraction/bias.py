"""`dataeval_bias`: what a dataset shows too little or too much of.

Belongs here: the outputs of that capability and their row. Does not: embedding images, scoring factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from analytics_pipeline.capabilities.extraction.arithmetic import mean, ratio
from analytics_pipeline.capabilities.extraction.outputs import Count, Name, Number, Outputs, Places, RunFacts, within
from analytics_pipeline.capabilities.tables import DataevalBiasRecord

_BALANCE_TOO_HIGH = 0.5
_DIVERSITY_TOO_LOW = 0.4

Distance = Annotated[Number, Field(ge=0)]


class DataevalBiasOutputs(Outputs):
    """How well a dataset covers what it is about.

    Args:
        image_count: images of the dataset.
        uncovered: places of images with too few others near them.
        coverage_radius: the distance that counts as near; null where there are too few images for one.
        balance: by metadata factor, its mutual information with the class; null or empty without factors.
        diversity: by metadata factor, how evenly it fills its range; null or empty without factors.
    """

    capability: ClassVar[str] = "dataeval_bias"

    image_count: Count
    uncovered: Places
    coverage_radius: Distance | None
    balance: Mapping[Name, Number] | None = None
    diversity: Mapping[Name, Number] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        within(self.uncovered, self.image_count, of="images")
        return self


def extract_dataeval_bias(outputs: DataevalBiasOutputs, run: RunFacts) -> Sequence[DataevalBiasRecord]:
    """One row, of the run's dataset.

    Raises:
        RunRefused: the run has not exactly one dataset.
    """
    balance = list((outputs.balance or {}).values())
    diversity = list((outputs.diversity or {}).values())
    return [
        DataevalBiasRecord(
            **run.stamp(),
            dataset_id=run.only_dataset(),
            coverage_total=outputs.image_count,
            coverage_uncovered_count=len(outputs.uncovered),
            coverage_uncovered_ratio=ratio(len(outputs.uncovered), outputs.image_count),
            coverage_radius=outputs.coverage_radius,
            balance_num_factors=len(balance) or None,
            balance_mean=mean(balance),
            balance_max=max(balance, default=None),
            balance_factors_above_05=sum(score >= _BALANCE_TOO_HIGH for score in balance) if balance else None,
            diversity_num_factors=len(diversity) or None,
            diversity_mean=mean(diversity),
            diversity_min=min(diversity, default=None),
            diversity_factors_below_04=sum(index < _DIVERSITY_TOO_LOW for index in diversity) if diversity else None,
        )
    ]
