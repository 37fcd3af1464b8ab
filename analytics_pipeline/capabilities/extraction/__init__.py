"""Extraction: what capabilities measured, as rows of their tables; pure functions, one a capability.

Belongs here: outputs of each capability, the function that makes records of them, and `CAPABILITIES`, which knows them
all. Does not: measuring, storing, or reading documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs, extract_dataeval_bias
from analytics_pipeline.capabilities.extraction.cleaning import DataevalCleaningOutputs, extract_dataeval_cleaning
from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs, extract_maite_evaluation
from analytics_pipeline.capabilities.extraction.explanation import XaitkExplainableOutputs, extract_xaitk_explainable
from analytics_pipeline.capabilities.extraction.feasibility import (
    DataevalFeasibilityOutputs,
    extract_dataeval_feasibility,
)
from analytics_pipeline.capabilities.extraction.outputs import Outputs, RunFacts
from analytics_pipeline.capabilities.extraction.robustness import NrtkRobustnessOutputs, extract_nrtk_robustness
from analytics_pipeline.capabilities.extraction.shift import DataevalShiftOutputs, extract_dataeval_shift
from analytics_pipeline.capabilities.records import BaseRecord
from analytics_pipeline.errors import OutputsRefused

Measurement = TypeVar("Measurement", bound=Outputs)


@dataclass(frozen=True)
class Capability:
    """A capability that the store knows.

    Args:
        outputs: class of what it measures; `outputs.capability` is its table.
        extract: its records for a run. Raises OutputsRefused where the outputs are another capability's, and RunRefused
            where the run has not the datasets, models or metrics that it takes.
    """

    outputs: type[Outputs]
    extract: Callable[[Outputs, RunFacts], Sequence[BaseRecord]]


def _known(
    outputs: type[Measurement], extract: Callable[[Measurement, RunFacts], Sequence[BaseRecord]]
) -> tuple[str, Capability]:
    def checked(given: Outputs, run: RunFacts) -> Sequence[BaseRecord]:
        if not isinstance(given, outputs):
            raise OutputsRefused(outputs.capability, type(given).__name__, outputs.__name__)
        return extract(given, run)

    return outputs.capability, Capability(outputs, checked)


CAPABILITIES: Mapping[str, Capability] = MappingProxyType(
    dict(
        [
            _known(DataevalBiasOutputs, extract_dataeval_bias),
            _known(DataevalCleaningOutputs, extract_dataeval_cleaning),
            _known(DataevalFeasibilityOutputs, extract_dataeval_feasibility),
            _known(DataevalShiftOutputs, extract_dataeval_shift),
            _known(MaiteEvaluationOutputs, extract_maite_evaluation),
            _known(NrtkRobustnessOutputs, extract_nrtk_robustness),
            _known(XaitkExplainableOutputs, extract_xaitk_explainable),
        ]
    )
)
"""The known capabilities by their tables."""
