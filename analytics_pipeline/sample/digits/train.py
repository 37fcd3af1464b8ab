"""Train three classifiers on scikit-learn's bundled digits and write what they say about the test half.

Run `python -m analytics_pipeline.sample.digits.train [folder]` to make the shipped files again; it takes a few seconds,
needs scikit-learn, and gives the same files but for the last decimals of a probability.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from analytics_pipeline.sample import digits

SEED = 20240501


class Result(NamedTuple):
    """What one model said about one image.

    Args:
        image: its place in the bundled data.
        model: name of the classifier.
        label: the digit it is.
        predicted: the digit the model takes it for.
        confidence: the model's probability of `predicted`.
        probability: the model's probability of `label`.
        margin: by how much `label` leads the best other digit; negative where the model errs.
    """

    image: int
    model: str
    label: int
    predicted: int
    confidence: float
    probability: float
    margin: float


def evaluate() -> Iterator[Result]:
    """Train each model on one half of the images and yield its results on the other, image by image."""
    import numpy as np  # noqa: PLC0415 - optional
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only whoever remakes the files has it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.naive_bayes import GaussianNB  # noqa: PLC0415
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    pixels, labels = load_digits(return_X_y=True)
    test = test_images(len(labels))
    train = np.setdiff1d(np.arange(len(labels)), test)
    models = {
        "logistic-regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "nearest-neighbours": KNeighborsClassifier(n_neighbors=9, weights="distance"),
        "naive-bayes": GaussianNB(var_smoothing=1e-3),
    }
    for name, model in models.items():
        model.fit(pixels[train], labels[train])
        for image, probabilities in zip(test, model.predict_proba(pixels[test]), strict=True):
            label, predicted = int(labels[image]), int(probabilities.argmax())
            others = np.delete(probabilities, label)
            yield Result(
                image,
                name,
                label,
                predicted,
                round(float(probabilities[predicted]), 6),
                round(float(probabilities[label]), 6),
                round(float(probabilities[label] - others.max()), 6),
            )


def test_images(total: int) -> list[int]:
    """The places of the images held back for testing: half of them, drawn by a fixed seed."""
    import numpy as np  # noqa: PLC0415 - optional

    return sorted(np.random.default_rng(SEED).permutation(total)[: total // 2].tolist())


def write(folder: Path) -> None:
    """Write both files into a folder."""
    import polars as pl  # noqa: PLC0415 - slow to import
    from sklearn.datasets import load_digits  # noqa: PLC0415

    with (folder / digits.RESULTS.name).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Result._fields)
        writer.writerows(evaluate())
    pixels, labels = load_digits(return_X_y=True)
    test = set(test_images(len(labels)))
    pl.DataFrame(
        {
            "image": range(len(labels)),
            "label": labels.astype("int8"),
            "split": ["test" if image in test else "train" for image in range(len(labels))],
            "pixels": [row.tobytes() for row in pixels.astype("uint8")],
        },
        schema_overrides={"image": pl.Int16},
    ).write_parquet(folder / digits.IMAGES.name, compression="zstd", compression_level=19)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else digits.RESULTS.parent)
