"""`nrtk_robustness`: how a model's scores fall as its images are perturbed.

Belongs here: the outputs of that capability and their rows. Does not: perturbing images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from analytics_pipeline.capabilities.extraction.outputs import Name, Number, Outputs, RunFacts
from analytics_pipeline.capabilities.tables import NrtkRobustnessRecord

_WORD_BEGINS = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z0-9])(?=[A-Z][a-z])")


class NrtkRobustnessOutputs(Outputs):
    """Scores along a growing perturbation.

    Args:
        perturber: its class, with or without the module before it.
        theta_key: the parameter that grows.
        thetas: its values, one a step.
        scores: of each step, by metric key; null where a score is undefined.
        return_key: the metric key that the capability is about; each step has it.
    """

    capability: ClassVar[str] = "nrtk_robustness"

    perturber: Annotated[str, Field(pattern=r"^([^.\s]+\.)*[^.\s]+$")]
    theta_key: Name
    thetas: Annotated[tuple[Number, ...], Field(min_length=1)]
    scores: tuple[Mapping[Name, Number | None], ...]
    return_key: Name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.thetas) != len(self.scores):
            raise ValueError(f"there are {len(self.thetas)} thetas and {len(self.scores)} scores: one each a step")
        for step, scores in enumerate(self.scores):
            if self.return_key not in scores:
                raise ValueError(f"return_key {self.return_key!r} is not among the scores of step {step}")
        return self


def in_words(class_name: str) -> str:
    """A class's name as words: split at capitals, where several in a row are an acronym.

    `JPEGCompressionPerturber` becomes `JPEG Compression Perturber`, `Rotation3DPerturber` `Rotation 3D Perturber`.
    """
    return _WORD_BEGINS.sub(" ", class_name)


def extract_nrtk_robustness(outputs: NrtkRobustnessOutputs, run: RunFacts) -> Sequence[NrtkRobustnessRecord]:
    """One row a step and metric key, in the order of the steps.

    Raises:
        RunRefused: the run has not exactly one dataset, one model and one metric.
    """
    stamp, dataset, model, metric = run.stamp(), run.only_dataset(), run.only_model(), run.only_metric()
    perturber = outputs.perturber.rpartition(".")[2]
    return [
        NrtkRobustnessRecord(
            **stamp,
            dataset_id=dataset,
            model_id=model,
            metric_id=metric,
            perturber_class=perturber,
            perturber_type=in_words(perturber),
            theta_key=outputs.theta_key,
            theta_index=step,
            theta_value=theta,
            metric_key=key,
            metric_value=value,
            is_primary=key == outputs.return_key,
        )
        for step, (theta, scores) in enumerate(zip(outputs.thetas, outputs.scores, strict=True))
        for key, value in scores.items()
    ]
