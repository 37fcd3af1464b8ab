"""Outputs: what a capability measured, before it becomes rows; and the facts of the run that it was measured in.

Belongs here: the base of all outputs, the scalars they are made of, `RunFacts`. Does not: one capability's outputs,
which stand beside their extraction.

Outputs are read from JSON by `model_validate_json`. A field nobody knows, a number in quotes, NaN and infinity are
refused there; null is a value only where a field says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, ClassVar, TypedDict

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from analytics_pipeline.errors import RunRefused


def _distinct(places: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(places)) < len(places):
        raise ValueError("names a place twice")
    return tuple(sorted(places))


Number = Annotated[float, Field(strict=True)]
"""Any finite number."""
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A number from 0 to 1."""
Count = Annotated[int, Field(strict=True, ge=0)]
"""How many."""
Flag = Annotated[bool, Field(strict=True)]
"""Yes or no."""
Name = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""
Places = Annotated[tuple[Count, ...], AfterValidator(_distinct)]
"""Places in a sequence, from 0, each once; in any order, and then sorted."""


class Measured(BaseModel):
    """Base of outputs and of their parts: nothing unknown, nothing infinite, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Outputs(Measured):
    """What one run of a capability measured. A subclass names the capability's table."""

    capability: ClassVar[str]


class Stamp(TypedDict):
    """What all rows of a run share."""

    run_uid: str
    created_at: datetime


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run besides its outputs.

    Args:
        run_uid: what tells it from all others.
        capability_id: which capability ran.
        datasets: their ids.
        models: their ids.
        metrics: their ids.
        created_at: for its rows; None stands for the moment of extraction.
    """

    run_uid: str
    capability_id: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    metrics: tuple[str, ...]
    created_at: datetime | None = None

    def stamp(self) -> Stamp:
        """Of the rows of one extraction, which have one moment."""
        return {"run_uid": self.run_uid, "created_at": self.created_at or datetime.now(UTC)}

    def only_dataset(self) -> str:
        """The dataset.

        Raises:
            RunRefused: there is not exactly one.
        """
        return self._only("dataset", self.datasets)

    def only_model(self) -> str:
        """The model.

        Raises:
            RunRefused: there is not exactly one.
        """
        return self._only("model", self.models)

    def only_metric(self) -> str:
        """The metric.

        Raises:
            RunRefused: there is not exactly one.
        """
        return self._only("metric", self.metrics)

    def _only(self, kind: str, ids: Sequence[str]) -> str:
        if len(ids) != 1:
            raise RunRefused(self.run_uid, f"has {len(ids)} {kind}s where its capability takes exactly one")
        return ids[0]


def within(places: Sequence[int], count: int, *, of: str) -> None:
    """Refuse places that a sequence does not have.

    Raises:
        ValueError: a place is `count` or more.
    """
    beyond = [place for place in places if place >= count]
    if beyond:
        raise ValueError(f"place {beyond[0]} is beyond the {count} {of}")
