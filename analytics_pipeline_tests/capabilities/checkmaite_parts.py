"""checkmaite's own records, runs, store and backend, without the libraries that compute what they hold.

Belongs here: getting them imported, runs with plain outputs. Does not: any rule about our store (`test_checkmaite`).

`import checkmaite` loads PyTorch, dataeval, nrtk and more, several GB, for computing. Its classes of results need
those for names in annotations alone. So a library that is not installed is stood in for by a module whose every name is
an empty class, and checkmaite's own `__init__`, which loads it all, does not run. Where everything is installed,
everything is imported as it is. All of checkmaite's code that the tests call is checkmaite's, unchanged.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pydantic_core import core_schema

_COMPUTING = ("torch", "torchvision", "dataeval", "dataeval_plots", "nrtk", "smqtk_core", "IPython")
_ABSENT = frozenset(name for name in _COMPUTING if find_spec(name) is None)


class _AnyName(type):
    """Classes whose every attribute is another such class."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _empty_class(name)


def _empty_class(name: str) -> type:
    def schema(*_: object) -> core_schema.AnySchema:
        return core_schema.any_schema()

    def accept(self: object, *_: object) -> None:
        """Takes any arguments."""

    return _AnyName(name, (), {"__init__": accept, "__get_pydantic_core_schema__": schema})


class _Absent(ModuleType):
    """A library that is not here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, _empty_class(name))
        found: type = getattr(self, name)
        return found


class _StandIns:
    """Finds the absent libraries, and all modules in them."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        absent = name.partition(".")[0] in _ABSENT
        return ModuleSpec(name, _StandIns, is_package=True) if absent else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return _Absent(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """There is nothing in it."""


def _prepare() -> None:
    if not _ABSENT or "checkmaite" in sys.modules:
        return
    found = find_spec("checkmaite")
    assert found is not None
    sys.meta_path.append(_StandIns)
    package = ModuleType("checkmaite")
    package.__path__ = list(found.submodule_search_locations or ())
    package.cache_path = Path  # type: ignore[attr-defined]  # asked for by caches of models, which no test uses
    sys.modules["checkmaite"] = package


def _part(name: str) -> Any:
    return importlib.import_module(f"checkmaite.core.{name}")


_prepare()
theirs = _part("analytics_store")
_cleaning = _part("_common.dataeval_cleaning_capability")
_evaluation = _part("_common.maite_evaluation_capability")

RECORDS: Sequence[Any] = (
    _part("_common.dataeval_bias_capability").DataevalBiasRecord,
    _cleaning.DataevalCleaningRecord,
    _part("_common.dataeval_feasibility_record").DataevalFeasibilityRecord,
    _part("_common.dataeval_shift_capability").DataevalShiftRecord,
    _evaluation.MaiteEvaluationRecord,
    _part("_common.nrtk_robustness_capability").NrtkRobustnessRecord,
    _part("_common.xaitk_explainable_capability").XaitkExplainableRecord,
    theirs.RunRecord,
)
"""All of its record classes."""


def cleaning_run(dataset: str, *, images: int = 10, empty_class: int | None = None) -> Any:
    """Its `DataevalCleaningRun` of a dataset with two exact duplicates and one outlier.

    Args:
        dataset: its id.
        images: how many, half of each of two classes.
        empty_class: a third class without an image.
    """
    counts = {0: images // 2, 1: images - images // 2} | ({} if empty_class is None else {empty_class: 0})
    outputs = _cleaning.DataevalCleaningOutputs(
        duplicates=_cleaning.DataevalCleaningDuplicatesOutputs(exact=[[0, 1]], near=None),
        image_outliers={3: {"brightness": 0.9}},
        image_stats=_cleaning.DataevalCleaningStatsOutputs(
            source_index=[],
            object_count=[],
            image_count=images,
            invalid_box_count=[],
            dim_stats=_statistics(_cleaning.DataevalCleaningDimensionStatsOutputs, images),
            vis_stats=_statistics(_cleaning.DataevalCleaningVisualStatsOutputs, images),
        ),
        label_stats=_cleaning.DataevalCleaningLabelStatsOutputs(
            label_counts_per_class=counts,
            label_counts_per_image=[1] * images,
            image_counts_per_class=counts,
            image_indices_per_class={},
            image_count=images,
            class_count=len(counts),
            label_count=images,
            class_names=[str(name) for name in counts],
        ),
        box_outliers=None,
        box_stats=None,
    )
    return _cleaning.DataevalCleaningRun(
        capability_id="checkmaite.DataevalCleaning",
        config=_cleaning.DataevalCleaningConfig(),
        dataset_metadata=[{"id": dataset}],
        model_metadata=[],
        metric_metadata=[],
        outputs=outputs,
    )


def _statistics(kind: Any, images: int) -> Any:
    return kind(**{name: np.arange(1, images + 1) for name in kind.model_fields})


def evaluation_run(dataset: str, model: str, accuracy: float) -> Any:
    """Its `MaiteEvaluationRun` of a model on a dataset: one metric, overall and for two classes."""
    result = _evaluation.MaiteMetricResult(
        metric_id="accuracy",
        overall_metric_name="accuracy",
        result={"accuracy": accuracy},
        scalar_values={"accuracy": accuracy},
        class_metrics={"cat": accuracy, "dog": accuracy / 2},
    )
    return _evaluation.MaiteEvaluationRun(
        capability_id="checkmaite.MaiteEvaluation",
        config=_evaluation.MaiteEvaluationConfig(),
        dataset_metadata=[{"id": dataset}],
        model_metadata=[{"id": model}],
        metric_metadata=[{"id": "accuracy"}],
        outputs=_evaluation.MaiteEvaluationOutputs(metrics={"accuracy": result}),
    )


def record_of(kind: Any, run_uid: str) -> Any:
    """A record of a class, with a value in every field."""
    values = {"str": "text", "int": 7, "float": 0.5, "bool": True}
    fields = {
        name: values[str(getattr(info.annotation, "__name__", info.annotation)).partition(" ")[0]]
        for name, info in kind.model_fields.items()
        if name not in {"run_uid", "created_at", "submitted_at", "completed_at"}
    }
    return kind(run_uid=run_uid, **fields)
