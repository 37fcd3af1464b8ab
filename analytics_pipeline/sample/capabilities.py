"""Capability runs of the sample: cleaning, bias and evaluation, really computed from the shipped digits.

Belongs here: the two datasets (the halves of the images), what of them is measured, the runs. Does not: definitions of
the measures (`measures`), or storing runs.

The same files give the same runs with the same uids, so that whoever stores them again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs
from analytics_pipeline.capabilities.extraction.cleaning import CleanedImage, DataevalCleaningOutputs
from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs, MetricValues
from analytics_pipeline.capabilities.finished import FinishedRun
from analytics_pipeline.sample import digits, measures

DATASETS: Mapping[str, str] = {"digits-train": "train", "digits-test": "test"}
"""Half of the images by dataset."""
EVALUATED = "digits-test"
"""What the shipped predictions are about."""
CLASSES = tuple("0123456789")

_BRIGHTEST = 16
_SIDE = 8
_BINS = 10
_NEIGHBOURS = 20
_UNCOVERED = 0.01
_DIGITS = 6
"""Decimals of a figure: the last ones of a float depend on the machine, and a uid must not."""


@dataclass(frozen=True)
class Images:
    """Images of a dataset.

    Args:
        pixels: from 0 to 16, of shape (images, 8, 8).
        labels: the digit that each shows.
    """

    pixels: measures.Integers
    labels: measures.Integers

    def looks(self) -> measures.Looks:
        """How they look."""
        return measures.looks(self.pixels / _BRIGHTEST)


def digits_runs() -> Sequence[FinishedRun]:
    """All runs of the sample."""
    return [*cleaning_runs(), *bias_runs(), *evaluation_runs()]


def cleaning_runs() -> Sequence[FinishedRun]:
    """Cleaning of each dataset."""
    return [
        FinishedRun.of("sample.digits.cleaning", cleaning_of(read_images(name)), datasets=[name]) for name in DATASETS
    ]


def bias_runs() -> Sequence[FinishedRun]:
    """Bias of each dataset; its metadata factors are brightness, contrast and sharpness."""
    return [FinishedRun.of("sample.digits.bias", bias_of(read_images(name)), datasets=[name]) for name in DATASETS]


def evaluation_runs() -> Sequence[FinishedRun]:
    """Evaluation of each classifier on the images that it was not trained on."""
    results = pl.read_csv(digits.RESULTS)
    runs = []
    for model in results["model"].unique(maintain_order=True):
        said = results.filter(pl.col("model") == model)
        outputs = evaluation_of(said["label"].to_numpy(), said["predicted"].to_numpy())
        runs.append(
            FinishedRun.of(
                "sample.digits.evaluation",
                outputs,
                datasets=[EVALUATED],
                models=[model],
                metrics=list(outputs.metrics),
            )
        )
    return runs


def read_images(dataset: str) -> Images:
    """The images of a dataset, in the order of the file."""
    half = pl.read_parquet(digits.IMAGES).filter(pl.col("split") == DATASETS[dataset])
    pixels = np.frombuffer(b"".join(half["pixels"]), dtype=np.uint8).reshape(-1, _SIDE, _SIDE)
    return Images(pixels.astype(np.int64), half["label"].to_numpy().astype(np.int64))


def cleaning_of(images: Images) -> DataevalCleaningOutputs:
    """What cleaning finds: outliers are images of unusual brightness, contrast or sharpness."""
    looks = images.looks()
    return DataevalCleaningOutputs(
        classes=CLASSES,
        images=tuple(
            CleanedImage(
                width=_SIDE,
                height=_SIDE,
                brightness=round(float(brightness), _DIGITS),
                contrast=round(float(contrast), _DIGITS),
                sharpness=round(float(sharpness), _DIGITS),
                labels=(CLASSES[label],),
            )
            for brightness, contrast, sharpness, label in zip(*looks, images.labels, strict=True)
        ),
        exact_duplicates=tuple(map(tuple, measures.equal_groups(images.pixels))),
        near_duplicates=tuple(map(tuple, measures.similar_groups(images.pixels))),
        image_outliers=tuple(measures.outliers(looks)),
    )


def bias_of(images: Images) -> DataevalBiasOutputs:
    """How a dataset covers the digits: uncovered are the images with the farthest twentieth neighbours."""
    covered = measures.coverage(images.pixels.reshape(len(images.pixels), -1), neighbours=_NEIGHBOURS, share=_UNCOVERED)
    factors = {name: measures.binned(look, _BINS) for name, look in images.looks()._asdict().items()}
    return DataevalBiasOutputs(
        image_count=len(images.pixels),
        uncovered=tuple(covered.uncovered),
        coverage_radius=None if covered.radius is None else round(covered.radius / _BRIGHTEST, _DIGITS),
        balance={
            name: round(measures.shared_information(factor, images.labels), _DIGITS) for name, factor in factors.items()
        },
        diversity={name: round(measures.evenness(factor, _BINS), _DIGITS) for name, factor in factors.items()},
    )


def evaluation_of(labels: measures.Integers, predicted: measures.Integers) -> MaiteEvaluationOutputs:
    """What four metrics say: accuracy by class is the share of its images that were named right."""
    count = len(CLASSES)
    recall = measures.recall(labels, predicted, count)
    scores = {
        "accuracy": measures.Scores(float((labels == predicted).mean()), recall.classes),
        "precision": measures.precision(labels, predicted, count),
        "recall": recall,
        "f1": measures.f1(labels, predicted, count),
    }
    return MaiteEvaluationOutputs(
        metrics={
            name: MetricValues(
                overall={name: _rounded(said.overall)},
                class_key=name,
                classes=dict(zip(CLASSES, map(_rounded, said.classes), strict=True)),
            )
            for name, said in scores.items()
        }
    )


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, _DIGITS)
