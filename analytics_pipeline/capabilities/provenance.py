"""Provenance: who ran something, where, for which job.

Belongs here: its fields and their check. Does not: the rows that carry it (`runs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from analytics_pipeline.capabilities.records import Moment, first_problem
from analytics_pipeline.errors import ProvenanceRefused


class Provenance(BaseModel):
    """What is known of the execution of a run; every field is optional.

    Args:
        user_id: user or service that ran it.
        workspace_id: project or team.
        job_id: of the job backend.
        backend: name of the job backend.
        submitted_at: when the job was submitted.
        completed_at: when it ended.
        environment: such as `production`.
        executor: such as `notebook` or `ray`.
        cluster_id: of the machines.
        request_id: of the request or workflow.
        run_event_id: keeps the rows of this event apart from those of another event of the same run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    user_id: str | None = None
    workspace_id: str | None = None
    job_id: str | None = None
    backend: str | None = None
    submitted_at: Moment | None = None
    completed_at: Moment | None = None
    environment: str | None = None
    executor: str | None = None
    cluster_id: str | None = None
    request_id: str | None = None
    run_event_id: str | None = None


ProvenanceLike: TypeAlias = "Provenance | Mapping[str, object] | None"


def as_provenance(given: ProvenanceLike) -> Provenance:
    """The provenance that somebody gave, checked.

    Raises:
        ProvenanceRefused: it is no mapping, a field is unknown, or a timestamp has no time zone.
    """
    if given is None:
        return Provenance()
    if isinstance(given, Provenance):
        return given
    if not isinstance(given, Mapping):
        raise ProvenanceRefused(f"it is a {type(given).__name__}, not a Provenance or a mapping of its fields")
    try:
        return Provenance.model_validate(dict(given))
    except ValidationError as error:
        raise ProvenanceRefused(first_problem(error)) from None
