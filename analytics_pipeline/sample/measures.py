"""Measures of images and of predictions: small textbook definitions, in numpy alone.

Belongs here: arrays in, figures out. Does not: which images (`digits`), or whose outputs the figures are
(`capabilities`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

STRANGE = 3
"""An outlier is more than so many standard deviations away from the mean."""


class Looks(NamedTuple):
    """How each image looks.

    Args:
        brightness: mean of its pixels.
        contrast: their standard deviation.
        sharpness: standard deviation of their Laplacian, which grows with hard edges.
    """

    brightness: Floats
    contrast: Floats
    sharpness: Floats


class Coverage(NamedTuple):
    """Which images have few others near them.

    Args:
        uncovered: their places.
        radius: the least distance at which one of them has its neighbour; None without images.
    """

    uncovered: Sequence[int]
    radius: float | None


class Scores(NamedTuple):
    """How good a classifier is, by class and as their plain mean; None and left out where a ratio has no denominator.

    Args:
        overall: the mean over classes.
        classes: of each class.
    """

    overall: float | None
    classes: Sequence[float | None]


def looks(images: Floats) -> Looks:
    """How images look.

    Args:
        images: brightness from 0 to 1, of shape (images, rows, columns), at least 3 x 3.
    """
    inner = images[:, 1:-1, 1:-1]
    around = images[:, :-2, 1:-1] + images[:, 2:, 1:-1] + images[:, 1:-1, :-2] + images[:, 1:-1, 2:]
    return Looks(images.mean(axis=(1, 2)), images.std(axis=(1, 2)), (around - 4 * inner).std(axis=(1, 2)))


def equal_groups(images: npt.NDArray[Any]) -> Sequence[Sequence[int]]:
    """Places of images that are equal, pixel by pixel; groups of two or more."""
    places: dict[bytes, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.tobytes(), []).append(place)
    return [group for group in places.values() if len(group) > 1]


def similar_groups(images: npt.NDArray[Any]) -> Sequence[Sequence[int]]:
    """Places of images with one difference hash (where a pixel is brighter than the one before), without equal ones."""
    equal = equal_groups(images)
    return [group for group in equal_groups(images[:, :, 1:] > images[:, :, :-1]) if group not in equal]


def outliers(measures: Iterable[Floats]) -> Sequence[int]:
    """Places where any of the measures is far from its mean."""
    strange = [np.abs(measure - measure.mean()) > STRANGE * measure.std() for measure in measures]
    return [int(place) for place in np.flatnonzero(np.any(strange, axis=0))]


def coverage(points: Integers, *, neighbours: int, share: float) -> Coverage:
    """The points whose n-th neighbour is farthest away.

    Args:
        points: of shape (points, dimensions); whole numbers, so that distances are exact on every machine.
        neighbours: n.
        share: of the points that count as uncovered, one at least.
    """
    if len(points) <= neighbours:
        return Coverage([], None)
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * points @ points.T
    reach = np.sort(distances, axis=1)[:, neighbours]  # the first is the point itself
    farthest = np.argsort(-reach, kind="stable")[: max(1, int(share * len(points)))]
    return Coverage(sorted(farthest.tolist()), float(np.sqrt(reach[farthest[-1]])))


def binned(measure: Floats, bins: int) -> Integers:
    """In which of equally wide bins each value lies."""
    edges = np.linspace(measure.min(), measure.max(), bins + 1)[1:-1]
    return np.digitize(measure, edges).astype(np.int64)


def shared_information(one: Integers, other: Integers) -> float:
    """Mutual information of two classifications over the mean of their entropies: from 0, independent, to 1, equal."""
    joint = _shares(one, other)
    independent = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    seen = joint > 0
    information = float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())
    entropies = _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0))
    return 2 * information / entropies if entropies else 0.0


def evenness(classified: Integers, bins: int) -> float:
    """Simpson's index of diversity, from 0 where all lie in one bin to 1 where all bins are equally full."""
    shares = np.bincount(classified, minlength=bins) / len(classified)
    return float((1 / (shares**2).sum() - 1) / (bins - 1))


def precision(labels: Integers, predicted: Integers, classes: int) -> Scores:
    """Of what was taken for a class, the share that is one."""
    right = np.bincount(labels[labels == predicted], minlength=classes)
    return _scores(right, np.bincount(predicted, minlength=classes))


def recall(labels: Integers, predicted: Integers, classes: int) -> Scores:
    """Of what is of a class, the share that was taken for one."""
    right = np.bincount(labels[labels == predicted], minlength=classes)
    return _scores(right, np.bincount(labels, minlength=classes))


def f1(labels: Integers, predicted: Integers, classes: int) -> Scores:
    """The harmonic mean of precision and recall."""
    right = np.bincount(labels[labels == predicted], minlength=classes)
    taken = np.bincount(predicted, minlength=classes) + np.bincount(labels, minlength=classes)
    return _scores(2 * right, taken)


def _scores(parts: Integers, wholes: Integers) -> Scores:
    classes = [part / whole if whole else None for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]
    known = [score for score in classes if score is not None]
    return Scores(sum(known) / len(known) if known else None, classes)


def _shares(one: Integers, other: Integers) -> Floats:
    counts = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(counts, (one, other), 1)
    shares: Floats = counts / len(one)
    return shares


def _entropy(shares: Floats) -> float:
    seen = shares[shares > 0]
    return float(-(seen * np.log(seen)).sum())
