"""A sweep of 30 runs on handwritten digits, logged as a training script logs: no server, no Dagster.

Run `python examples/digits_sweep.py`; it takes some seconds, and needs the extra `examples` (scikit-learn). Then
`python -m analytics_pipeline.experiments export` writes the page with its leaderboard. All seeds are fixed.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from analytics_pipeline.errors import ExtraMissing
from analytics_pipeline.experiments import MetricsBuffer, log_dataset, log_run
from analytics_pipeline.objects import DataStore
from analytics_pipeline.sample.digits import IMAGES

try:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise ExtraMissing("The sweep on handwritten digits", "examples") from error

SEED = 20261121
EPOCHS = 8
CLASSES = np.arange(10)
SIDE = 8

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Config:
    """What the sweep varies."""

    lr: float
    hidden_dim: int
    use_augmentation: bool
    batch_size: int = 32


CONFIGS = [
    Config(lr, hidden_dim, augmented)
    for lr, hidden_dim, augmented in itertools.product((0.001, 0.003, 0.01, 0.03, 0.1), (16, 32, 64), (False, True))
]


def digits(split: str) -> tuple[Array, Labels]:
    """Pixels from 0 to 1, one row an image, and what they show."""
    rows = pl.read_parquet(IMAGES).filter(split=split)
    pixels = np.frombuffer(b"".join(rows["pixels"]), np.uint8).reshape(-1, SIDE * SIDE)
    return pixels / 16, rows["label"].to_numpy().astype(np.int64)


def network(config: Config) -> MLPClassifier:
    """One hidden layer of rectified units, trained by gradient descent."""
    return MLPClassifier(
        (config.hidden_dim,),
        solver="sgd",
        batch_size=config.batch_size,
        learning_rate_init=config.lr,
        random_state=SEED,
    )


def variants(images: Array) -> Array:
    """The images as they are, and moved by a pixel to each side."""
    squares = images.reshape(-1, SIDE, SIDE)
    moved = [np.roll(squares, move, (1, 2)) for move in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))]
    return np.stack(moved).reshape(-1, *images.shape)


def scores(model: MLPClassifier, images: Array, labels: Labels) -> dict[str, float]:
    """Loss, accuracy and macro F1."""
    known = model.predict_proba(images)
    predicted = known.argmax(axis=1)
    return {
        "val_loss": log_loss(labels, known, labels=CLASSES),
        "val_accuracy": accuracy_score(labels, predicted),
        "val_f1": f1_score(labels, predicted, average="macro"),
    }


def train(run_id: str, config: Config, root: Path | None = None) -> None:
    """One run: its config first, its metrics by epoch, its confusion matrix with its end."""
    (images, labels), held_out = digits("train"), digits("test")
    model, dice = network(config), np.random.default_rng(SEED)
    choices, places = variants(images) if config.use_augmentation else images[np.newaxis], np.arange(len(images))
    log_run(run_id, asdict(config), root=root)
    with MetricsBuffer(run_id, root=root) as log:
        for epoch in range(1, EPOCHS + 1):
            model.partial_fit(choices[dice.integers(len(choices), size=len(images)), places], labels, classes=CLASSES)
            log(epoch, {"train_loss": model.loss_, **scores(model, *held_out)})
    result = DataStore()
    result.confusion_matrix = confusion_matrix(held_out[1], model.predict(held_out[0]), labels=CLASSES)
    log_run(run_id, asdict(config), "done", experiment_id="digits_sweep", fields={"result": result}, root=root)


def sweep(root: Path | None = None, configs: list[Config] = CONFIGS) -> Iterator[str]:
    """All runs, one after the other."""
    log_dataset("digits", "UCI handwritten digits", pl.read_parquet(IMAGES).height, IMAGES, root=root)
    for number, config in enumerate(configs, 1):
        run_id = f"digits_{number:03d}"
        with threadpool_limits(1):  # its matrices are too small to be shared between threads
            train(run_id, config, root)
        yield run_id


if __name__ == "__main__":
    for done in sweep(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(done)  # noqa: T201 - what a script is for
