"""Finished runs: a capability run made of plain facts and outputs, with a run_uid that follows from them.

Belongs here: that run and its uid. Does not: what a run has to be (`runs`), or its rows (`extraction`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.extraction.outputs import Outputs, RunFacts
from analytics_pipeline.capabilities.records import BaseRecord


def run_uid_of(
    capability_id: str, datasets: Sequence[str], models: Sequence[str], metrics: Sequence[str], outputs: Outputs
) -> str:
    """The uid of a run: SHA-256 over canonical JSON of what ran on what and gave which outputs.

    Equal results have equal uids, on every machine; storing them again changes nothing. When they were made plays no
    part.
    """
    told = {
        "capability_id": capability_id,
        "capability": outputs.capability,
        "datasets": list(datasets),
        "models": list(models),
        "metrics": list(metrics),
        "outputs": _canonical(outputs.model_dump(mode="json")),
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class FinishedRun:
    """A `CapabilityRun` of a known capability.

    Args:
        facts: of the run.
        outputs: what it measured.
    """

    facts: RunFacts
    outputs: Outputs

    @classmethod
    def of(
        cls,
        capability_id: str,
        outputs: Outputs,
        *,
        datasets: Sequence[str],
        models: Sequence[str] = (),
        metrics: Sequence[str] = (),
        created_at: datetime | None = None,
    ) -> Self:
        """A run whose uid is `run_uid_of` its content.

        Args:
            capability_id: which capability ran.
            outputs: what it measured.
            datasets: their ids.
            models: their ids.
            metrics: their ids.
            created_at: for its rows; None stands for the moment of extraction.
        """
        uid = run_uid_of(capability_id, datasets, models, metrics, outputs)
        return cls(RunFacts(uid, capability_id, tuple(datasets), tuple(models), tuple(metrics), created_at), outputs)

    @property
    def run_uid(self) -> str:
        """What tells the run from all others."""
        return self.facts.run_uid

    @property
    def capability_id(self) -> str:
        """Which capability ran."""
        return self.facts.capability_id

    @property
    def dataset_metadata(self) -> Sequence[Mapping[str, str]]:
        """The datasets."""
        return _entities(self.facts.datasets)

    @property
    def model_metadata(self) -> Sequence[Mapping[str, str]]:
        """The models."""
        return _entities(self.facts.models)

    @property
    def metric_metadata(self) -> Sequence[Mapping[str, str]]:
        """The metrics."""
        return _entities(self.facts.metrics)

    def extract(self) -> Sequence[BaseRecord]:
        """The rows of the capability's table.

        Raises:
            RunRefused: the run has not the datasets, models or metrics that its capability takes.
        """
        return CAPABILITIES[self.outputs.capability].extract(self.outputs, self.facts)


def _entities(ids: Sequence[str]) -> Sequence[Mapping[str, str]]:
    return [{"id": entity} for entity in ids]


def _canonical(value: object) -> object:
    """JSON with one text for equal values: -0.0 equals 0.0 and is written as that."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value
