"""`dataeval_cleaning`: what is wrong with a dataset's images and labels.

Belongs here: the outputs of that capability and their row. Does not: finding duplicates or outliers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from analytics_pipeline.capabilities.extraction.arithmetic import deviation, mean, ratio
from analytics_pipeline.capabilities.extraction.outputs import (
    Measured,
    Name,
    Number,
    Outputs,
    Places,
    RunFacts,
    within,
)
from analytics_pipeline.capabilities.tables import DataevalCleaningRecord

Pixels = Annotated[int, Field(strict=True, gt=0)]
Group = Annotated[Places, Field(min_length=2)]
"""Places of images that are duplicates of each other."""


class CleanedImage(Measured):
    """An image of the dataset.

    Args:
        width: in pixels.
        height: in pixels.
        brightness: as the capability measures it, like contrast and sharpness.
        contrast: see brightness.
        sharpness: see brightness.
        labels: class of each label: one in image classification, one a box in object detection.
    """

    width: Pixels
    height: Pixels
    brightness: Number
    contrast: Number
    sharpness: Number
    labels: tuple[Name, ...]


class DataevalCleaningOutputs(Outputs):
    """What cleaning found in a dataset.

    Args:
        classes: all classes, also those that no image shows.
        images: in the order of the dataset.
        exact_duplicates: groups of equal images; an image stands in one group at most.
        near_duplicates: groups of similar images; likewise.
        image_outliers: places of images.
        target_outliers: places of labels, counted through all images; null for image classification.
    """

    capability: ClassVar[str] = "dataeval_cleaning"

    classes: tuple[Name, ...]
    images: tuple[CleanedImage, ...]
    exact_duplicates: tuple[Group, ...] = ()
    near_duplicates: tuple[Group, ...] = ()
    image_outliers: Places = ()
    target_outliers: Places | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a class is named twice")
        unknown = sorted({label for image in self.images for label in image.labels} - set(self.classes))
        if unknown:
            raise ValueError(f"images: the label {unknown[0]!r} is not among the classes")
        for groups in (self.exact_duplicates, self.near_duplicates):
            members = [place for group in groups for place in group]
            within(members, len(self.images), of="images")
            if len(set(members)) < len(members):
                raise ValueError("duplicates: an image stands in two groups")
        within(self.image_outliers, len(self.images), of="images")
        within(self.target_outliers or (), sum(len(image.labels) for image in self.images), of="labels")
        return self


def extract_dataeval_cleaning(outputs: DataevalCleaningOutputs, run: RunFacts) -> Sequence[DataevalCleaningRecord]:
    """One row, of the run's dataset.

    Raises:
        RunRefused: the run has not exactly one dataset.
    """
    images = outputs.images
    labels = sum(len(image.labels) for image in images)
    exact = sum(map(len, outputs.exact_duplicates))
    near = sum(map(len, outputs.near_duplicates))
    outliers = len(outputs.image_outliers)
    boxes = None if outputs.target_outliers is None else len(outputs.target_outliers)
    shown = Counter(label for image in images for label in set(image.labels))
    sizes = [shown[name] for name in outputs.classes] or [0]
    return [
        DataevalCleaningRecord(
            **run.stamp(),
            dataset_id=run.only_dataset(),
            exact_duplicate_count=exact,
            exact_duplicate_ratio=ratio(exact, len(images)),
            near_duplicate_count=near,
            near_duplicate_ratio=ratio(near, len(images)),
            image_outlier_count=outliers,
            image_outlier_ratio=ratio(outliers, len(images)),
            class_count=len(outputs.classes),
            label_count=labels,
            image_count=len(images),
            target_outlier_count=boxes,
            target_outlier_ratio=None if boxes is None else ratio(boxes, labels),
            mean_width=mean([image.width for image in images]),
            mean_height=mean([image.height for image in images]),
            std_aspect_ratio=deviation([image.width / image.height for image in images]),
            mean_brightness=mean([image.brightness for image in images]),
            mean_contrast=mean([image.contrast for image in images]),
            mean_sharpness=mean([image.sharpness for image in images]),
            class_imbalance_ratio=max(sizes) / min(sizes) if min(sizes) else None,
            min_class_image_count=min(sizes),
            max_class_image_count=max(sizes),
            mean_labels_per_image=ratio(labels, len(images)),
        )
    ]
