"""The run document: one finished run as JSON, in version 1 of its form.

Belongs here: its fields and what they may hold, for each capability. Does not: reading text (`reading`), the published
schemas (`schemas`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.extraction.outputs import Measured, Name, Outputs, RunFacts
from analytics_pipeline.capabilities.finished import FinishedRun
from analytics_pipeline.capabilities.provenance import Provenance
from analytics_pipeline.capabilities.records import WrittenMoment


def _whole(version: object) -> object:
    """To Python, true and 1.0 are 1; to others they are not."""
    if version == 1 and type(version) is not int:
        raise ValueError("Input should be 1")
    return version


def _storable(run_uid: str) -> str:
    if "\0" in run_uid:
        raise ValueError("holds the character NUL")
    return run_uid


class Entity(Measured):
    """A dataset, model or metric of a run.

    Args:
        id: its name; JOINs compare it.
    """

    id: Name


class Envelope(Measured):
    """A finished run of a capability.

    Args:
        schema_version: of this form.
        capability: table that the rows go to; it says what `outputs` holds.
        run_uid: what tells the run from all others; a document with a known one changes nothing.
        capability_id: name of the program, class or configuration that ran.
        created_at: when the run ended, with a time zone; by default when it is taken up.
        datasets: that it ran on.
        models: that it ran.
        metrics: that it computed.
        provenance: who ran it and where.
    """

    schema_version: Annotated[Literal[1], BeforeValidator(_whole)]
    capability: str
    run_uid: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
    capability_id: Name
    created_at: WrittenMoment | None = None
    datasets: tuple[Entity, ...]
    models: tuple[Entity, ...] = ()
    metrics: tuple[Entity, ...] = ()
    provenance: Provenance = Field(default_factory=Provenance)


class RunDocument(Envelope):
    """A document whose capability is known.

    Args:
        outputs: what the run measured.
    """

    outputs: Outputs

    def run(self) -> FinishedRun:
        """What the document tells, as the store takes it."""
        datasets, models, metrics = (
            tuple(entity.id for entity in entities) for entities in (self.datasets, self.models, self.metrics)
        )
        facts = RunFacts(self.run_uid, self.capability_id, datasets, models, metrics, self.created_at)
        return FinishedRun(facts, self.outputs)


class UnknownCapability(Envelope):
    """A document of no capability that the store knows: never valid, but the rest of it is looked at as well."""

    capability: Literal[tuple(CAPABILITIES)]  # type: ignore[valid-type]
    outputs: object


def _document_of(table: str, outputs: type[Outputs]) -> type[RunDocument]:
    fields: dict[str, Any] = {
        "capability": Literal[table],
        "outputs": (outputs, Field(description="what the run measured.")),
    }
    name = outputs.__name__.replace("Outputs", "Document")
    return create_model(name, __base__=RunDocument, __doc__=Envelope.__doc__, **fields)


DOCUMENTS: Mapping[str, type[RunDocument]] = MappingProxyType(
    {table: _document_of(table, capability.outputs) for table, capability in CAPABILITIES.items()}
)
"""The documents of the known capabilities, by their tables."""
