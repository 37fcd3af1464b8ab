"""`dataeval_feasibility`: how well any model could do on a dataset.

Belongs here: the outputs of that capability and their row. Does not: estimating the Bayes error rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import model_validator

from analytics_pipeline.capabilities.extraction.outputs import Count, Measured, Outputs, RunFacts, Share
from analytics_pipeline.capabilities.tables import DataevalFeasibilityRecord


class BoxHealth(Measured):
    """How the boxes of a dataset for object detection are.

    Args:
        num_instances: boxes that could be cut out.
        num_classes: classes among them.
        small_object_ratio: share of small boxes.
        truncated_bbox_ratio: share of boxes that touch the border.
        overlap_image_ratio: share of images with boxes that overlap much.
        warnings: what is wrong, in words.
    """

    num_instances: Count
    num_classes: Count
    small_object_ratio: Share
    truncated_bbox_ratio: Share
    overlap_image_ratio: Share
    warnings: tuple[str, ...]


class DataevalFeasibilityOutputs(Outputs):
    """Bounds of the Bayes error rate.

    Args:
        ber_upper: no perfect model errs more often.
        ber_lower: no model errs less often.
        boxes: null for image classification.
    """

    capability: ClassVar[str] = "dataeval_feasibility"

    ber_upper: Share
    ber_lower: Share
    boxes: BoxHealth | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ber_lower > self.ber_upper:
            raise ValueError(f"ber_lower {self.ber_lower} is above ber_upper {self.ber_upper}")
        return self


def extract_dataeval_feasibility(
    outputs: DataevalFeasibilityOutputs, run: RunFacts
) -> Sequence[DataevalFeasibilityRecord]:
    """One row, of the run's dataset.

    Raises:
        RunRefused: the run has not exactly one dataset.
    """
    boxes = outputs.boxes
    return [
        DataevalFeasibilityRecord(
            **run.stamp(),
            dataset_id=run.only_dataset(),
            ber_upper=outputs.ber_upper,
            ber_lower=outputs.ber_lower,
            num_instances=boxes and boxes.num_instances,
            num_classes=boxes and boxes.num_classes,
            small_object_ratio=boxes and boxes.small_object_ratio,
            truncated_bbox_ratio=boxes and boxes.truncated_bbox_ratio,
            overlap_image_ratio=boxes and boxes.overlap_image_ratio,
            health_warning_count=boxes and len(boxes.warnings),
        )
    ]
