"""One process of the benchmark of capability stores: it fills a folder, or does one thing to one, and says how long.

Belongs here: that, the same for both stores, and loading no more of either than it needs. Does not: which run.

Of checkmaite only its records and its Parquet backend are loaded. Its `__init__` would load PyTorch, dataeval and more,
of which the backend uses nothing, and which would weigh on its memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
from pydantic import create_model

TABLE = "dataeval_cleaning"
COUNTS = (
    "exact_duplicate_count",
    "near_duplicate_count",
    "image_outlier_count",
    "class_count",
    "label_count",
    "image_count",
    "min_class_image_count",
    "max_class_image_count",
)
RATIOS = (
    "exact_duplicate_ratio",
    "near_duplicate_ratio",
    "image_outlier_ratio",
    "mean_width",
    "mean_height",
    "std_aspect_ratio",
    "mean_brightness",
    "mean_contrast",
    "mean_sharpness",
    "class_imbalance_ratio",
    "mean_labels_per_image",
)
OPTIONAL = {"target_outlier_count": int | None, "target_outlier_ratio": float | None}
DATASETS = 100
QUERIES = {
    "count": f"SELECT count(*) AS n FROM {TABLE}",
    "group": f"SELECT dataset_id, avg(mean_brightness) AS b, max(image_count) AS n FROM {TABLE} GROUP BY dataset_id",
    "join": (
        f"SELECT c.image_count, r.entity_id FROM {TABLE} c JOIN runs r ON c.run_uid = r.run_uid "
        "WHERE r.entity_type = 'dataset' AND r.entity_id = 'set-7'"
    ),
}


class Side:
    """One of the two stores.

    Args:
        name: `ours` or `theirs`.
    """

    def __init__(self, name: str) -> None:
        parts = _ours() if name == "ours" else _theirs()
        fields: dict[str, Any] = {"dataset_id": (str, ...)}
        fields |= dict.fromkeys(COUNTS, (int, ...)) | dict.fromkeys(RATIOS, (float, ...))
        fields |= {name: (kind, None) for name, kind in OPTIONAL.items()}
        self._payload = create_model(
            "CleaningRecord", __base__=parts.BaseRecord, __cls_kwargs__={"table_name": TABLE}, **fields
        )
        self._run = parts.RunRecord
        self.backend = parts.ParquetBackend

    def records(self, number: int) -> Sequence[Any]:
        """The two rows of a run: its result and its dataset."""
        dataset = f"set-{number % DATASETS}"
        values = dict.fromkeys(COUNTS, number % 97) | dict.fromkeys(RATIOS, number % 89 / 7)
        return [
            self._payload(run_uid=f"run-{number}", dataset_id=dataset, **values),
            self._run(
                run_uid=f"run-{number}",
                capability_id="DataevalCleaning",
                capability_table=TABLE,
                entity_type="dataset",
                entity_id=dataset,
            ),
        ]


def _ours() -> Any:
    return importlib.import_module("analytics_pipeline.capabilities")


def _theirs() -> Any:
    package = ModuleType("checkmaite")
    found = find_spec("checkmaite")
    if found is None:
        sys.exit("checkmaite is not installed: make .venv-checkmaite/.ready")
    package.__path__ = list(found.submodule_search_locations or ())
    runs = ModuleType("checkmaite.core.capability_core")
    runs.CapabilityRunBase = object  # type: ignore[attr-defined]  # named in annotations
    sys.modules |= {"checkmaite": package, runs.__name__: runs}
    return importlib.import_module("checkmaite.core.analytics_store")


def fill(root: Path, runs: range) -> None:
    """The files that so many writes of checkmaite leave, by the line that it writes a file with."""
    side = Side("theirs")
    for number in runs:
        for record in side.records(number):
            folder = root / record.table_name
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{1_700_000_000_000 + number}_{uuid.uuid4().hex[:8]}.parquet"
            pl.DataFrame([record.model_dump(mode="python")]).write_parquet(str(folder / name))


def write_all(root: Path, runs: range) -> None:
    """So many writes of ours, of one run each."""
    side = Side("ours")
    backend = side.backend(str(root))
    for number in runs:
        backend.write(side.records(number))


def work_of(side: Side, root: Path, what: str, number: int) -> Callable[[], object]:
    """What is measured: a write of a run, of one that is there, or a query."""
    backend = side.backend(str(root))
    if what in QUERIES:
        return lambda: backend.query_sql(QUERIES[what])
    records = side.records(number)
    return lambda: backend.write(records)


def measure(name: str, root: Path, what: str, number: int) -> None:
    """Print the seconds of one work, after the same on a tiny folder, and the process's highest memory in MB."""
    side = Side(name)
    with tempfile.TemporaryDirectory() as scratch:
        side.backend(scratch).write(side.records(0))
        work_of(side, Path(scratch), what, 1)()
        work = work_of(side, root, what, number)
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["fill", "write-all", "measure"])
    parser.add_argument("root", type=Path)
    parser.add_argument("numbers", type=int, nargs=2)
    parser.add_argument("--side", choices=["ours", "theirs"], default="ours")
    parser.add_argument("--what", default="write")
    given = parser.parse_args()
    if given.work == "measure":
        measure(given.side, given.root, given.what, given.numbers[0])
    else:
        (fill if given.work == "fill" else write_all)(given.root, range(*given.numbers))


if __name__ == "__main__":
    main()
