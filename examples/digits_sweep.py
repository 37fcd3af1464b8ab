"""A sweep of 30 runs on handwritten digits, logged as a training script logs: no server, no Dagster, no framework.

Run `python examples/digits_sweep.py`; it takes some seconds. Then `python -m analytics_pipeline.experiments export`
writes the page with its leaderboard. A network of one hidden layer learns in plain NumPy, with fixed seeds.
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

from analytics_pipeline.experiments import MetricsBuffer, log_dataset, log_run
from analytics_pipeline.objects import DataStore
from analytics_pipeline.sample.digits import IMAGES

SEED = 20261121
EPOCHS = 12
CLASSES = 10
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
    for lr, hidden_dim, augmented in itertools.product((0.01, 0.03, 0.1, 0.3, 1), (16, 32, 64), (False, True))
]


def digits(split: str) -> tuple[Array, Labels]:
    """Pixels from 0 to 1, one row an image, and what they show."""
    rows = pl.read_parquet(IMAGES).filter(split=split)
    pixels = np.frombuffer(b"".join(rows["pixels"]), np.uint8).reshape(-1, SIDE * SIDE)
    return pixels / 16, rows["label"].to_numpy().astype(np.int64)


class Network:
    """One hidden layer of rectified units, trained by plain gradient descent."""

    def __init__(self, config: Config, dice: np.random.Generator) -> None:
        self.config = config
        self.dice = dice
        sizes = ((SIDE * SIDE, config.hidden_dim), (config.hidden_dim, CLASSES))
        self.weights = [dice.normal(0, np.sqrt(2 / size[0]), size) for size in sizes]
        self.biases = [np.zeros(size[1]) for size in sizes]

    def probabilities(self, images: Array) -> tuple[Array, Array]:
        """Of the hidden layer the values, and of each image those of its classes."""
        hidden = np.maximum(images @ self.weights[0] + self.biases[0], 0)
        scores = hidden @ self.weights[1] + self.biases[1]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, powers / powers.sum(axis=1, keepdims=True)

    def learn(self, images: Array, labels: Labels) -> float:
        """One epoch; gives the mean loss on the way."""
        losses = []
        order = self.dice.permutation(len(images))
        for begin in range(0, len(order), self.config.batch_size):
            chosen = order[begin : begin + self.config.batch_size]
            batch = shifted(images[chosen], self.dice) if self.config.use_augmentation else images[chosen]
            losses.append(self._step(batch, labels[chosen]))
        return float(np.mean(losses))

    def _step(self, images: Array, labels: Labels) -> float:
        hidden, known = self.probabilities(images)
        slope = (known - np.eye(CLASSES)[labels]) / len(images)
        back = (slope @ self.weights[1].T) * (hidden > 0)
        for layer, (inputs, error) in enumerate(((images, back), (hidden, slope))):
            self.weights[layer] -= self.config.lr * inputs.T @ error
            self.biases[layer] -= self.config.lr * error.sum(axis=0)
        return cross_entropy(known, labels)


def shifted(images: Array, dice: np.random.Generator) -> Array:
    """The images, all moved by up to one pixel."""
    down, right = dice.integers(-1, 2, size=2)
    return np.roll(images.reshape(-1, SIDE, SIDE), (down, right), axis=(1, 2)).reshape(-1, SIDE * SIDE)


def cross_entropy(known: Array, labels: Labels) -> float:
    """The mean loss."""
    return float(-np.log(np.maximum(known[np.arange(len(labels)), labels], 1e-12)).mean())


def confusion(predicted: Labels, labels: Labels) -> Labels:
    """How often which digit (rows) was taken for which (columns)."""
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def scores(network: Network, images: Array, labels: Labels) -> tuple[dict[str, float], Labels]:
    """Loss, accuracy and macro F1, and the confusion matrix that the latter two come from."""
    _, known = network.probabilities(images)
    matrix = confusion(known.argmax(axis=1), labels)
    hits = np.diag(matrix)
    f1 = 2 * hits / np.maximum(matrix.sum(axis=0) + matrix.sum(axis=1), 1)
    values = {
        "val_loss": cross_entropy(known, labels),
        "val_accuracy": float(hits.sum() / matrix.sum()),
        "val_f1": float(f1.mean()),
    }
    return values, matrix


def train(run_id: str, config: Config, root: Path | None = None) -> None:
    """One run: its config first, its metrics by epoch, its confusion matrix with its end."""
    (images, labels), held_out = digits("train"), digits("test")
    network = Network(config, np.random.default_rng(SEED))
    log_run(run_id, asdict(config), root=root)
    with MetricsBuffer(run_id, root=root) as log:
        for epoch in range(1, EPOCHS + 1):
            train_loss = network.learn(images, labels)
            values, matrix = scores(network, *held_out)
            log(epoch, {"train_loss": train_loss, **values})
    result = DataStore()
    result.confusion_matrix = matrix
    log_run(run_id, asdict(config), "done", experiment_id="digits_sweep", fields={"result": result}, root=root)


def sweep(root: Path | None = None, configs: list[Config] = CONFIGS) -> Iterator[str]:
    """All runs, one after the other."""
    log_dataset("digits", "UCI handwritten digits", pl.read_parquet(IMAGES).height, IMAGES, root=root)
    for number, config in enumerate(configs, 1):
        run_id = f"digits_{number:03d}"
        train(run_id, config, root)
        yield run_id


if __name__ == "__main__":
    for done in sweep(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(done)  # noqa: T201 - what a script is for
