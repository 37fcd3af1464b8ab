"""`xaitk_explainable`: which pixels a model looked at.

Belongs here: the outputs of that capability and their rows. Does not: making saliency maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from analytics_pipeline.capabilities.extraction.arithmetic import ratio
from analytics_pipeline.capabilities.extraction.outputs import Count, Measured, Name, Number, Outputs, RunFacts, Share
from analytics_pipeline.capabilities.tables import XaitkExplainableRecord

PixelRow = Annotated[tuple[Number, ...], Field(min_length=1)]


class ExplainedDetection(Measured):
    """The detection that a map explains.

    Args:
        image_id: of the image in its dataset.
        index: the detection's place in the image.
        predicted_label: its class.
        confidence: of the model.
    """

    image_id: Name
    index: Count
    predicted_label: Name
    confidence: Share


class SaliencyMap(Measured):
    """How much each pixel of an image mattered.

    Args:
        image_index: the image's place in the dataset.
        gt_label: what the image shows in truth; null for object detection.
        detection: null for image classification.
        pixels: rows of one length, from the top.
    """

    image_index: Count
    gt_label: str | None = None
    detection: ExplainedDetection | None = None
    pixels: Annotated[tuple[PixelRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({len(row) for row in self.pixels}) > 1:
            raise ValueError("pixels: the rows differ in length")
        if self.gt_label is not None and self.detection is not None:
            raise ValueError("a map has a gt_label in image classification or a detection, not both")
        return self


class XaitkExplainableOutputs(Outputs):
    """The saliency maps of a run.

    Args:
        saliency_generator: its class, with or without the module before it.
        maps: one an image in image classification, one a detection in object detection.
    """

    capability: ClassVar[str] = "xaitk_explainable"

    saliency_generator: Annotated[str, Field(pattern=r"^([^.\s]+\.)*[^.\s]+$")]
    maps: tuple[SaliencyMap, ...]


def extract_xaitk_explainable(outputs: XaitkExplainableOutputs, run: RunFacts) -> Sequence[XaitkExplainableRecord]:
    """One row a saliency map.

    Raises:
        RunRefused: the run has not exactly one dataset and one model.
    """
    stamp, dataset, model = run.stamp(), run.only_dataset(), run.only_model()
    generator = outputs.saliency_generator.rpartition(".")[2]
    rows = []
    for saliency in outputs.maps:
        pixels, found = np.array(saliency.pixels), saliency.detection
        rows.append(
            XaitkExplainableRecord(
                **stamp,
                dataset_id=dataset,
                model_id=model,
                saliency_generator_type=generator,
                image_index=saliency.image_index,
                gt_label=saliency.gt_label,
                image_id=found and found.image_id,
                detection_index=found and found.index,
                predicted_label=found and found.predicted_label,
                confidence=found and found.confidence,
                mean_saliency=float(pixels.mean()),
                max_saliency=float(pixels.max()),
                std_saliency=float(pixels.std()),
                positive_saliency_ratio=ratio(int((pixels > 0).sum()), pixels.size),
            )
        )
    return rows
