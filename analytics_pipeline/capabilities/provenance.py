"""Provenance: who ran something, where, for which job.

Belongs here: its fields and their check, the defaults of this process. Does not: the rows that carry it (`runs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from analytics_pipeline.capabilities.records import WrittenMoment, first_problem
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
    submitted_at: WrittenMoment | None = None
    completed_at: WrittenMoment | None = None
    environment: str | None = None
    executor: str | None = None
    cluster_id: str | None = None
    request_id: str | None = None
    run_event_id: str | None = None

    def merge(self, *others: ProvenanceLike) -> Provenance:
        """This one, with what others say besides; where several speak of a field, the last. None says nothing.

        Raises:
            ProvenanceRefused: see `as_provenance`.
        """
        said = (one.model_dump(exclude_none=True).items() for one in (self, *map(as_provenance, others)))
        return Provenance.model_validate({name: value for fields in said for name, value in fields})


ProvenanceLike: TypeAlias = Provenance | Mapping[str, object] | None


def as_provenance(given: ProvenanceLike) -> Provenance:
    """The provenance that somebody gave, checked.

    Raises:
        ProvenanceRefused: it is no mapping, a field is unknown, or a timestamp is a number or has no time zone.
    """
    if given is None:
        return Provenance()
    if isinstance(given, Provenance):
        return given
    dump: object = getattr(given, "model_dump", None)
    fields: object = dump() if callable(dump) else given  # another package's model of the same fields will do
    if not isinstance(fields, Mapping):
        raise ProvenanceRefused(f"it is a {type(given).__name__}, not a Provenance or a mapping of its fields")
    try:
        return Provenance.model_validate(dict(fields))
    except ValidationError as error:
        raise ProvenanceRefused(first_problem(error)) from None


_defaults = Provenance()
"""Replaced, never changed: whoever reads it sees one configuration and no mixture of two."""


def configure_provenance(
    *,
    user_id: str | None = None,
    workspace_id: str | None = None,
    environment: str | None = None,
    executor: str | None = None,
    cluster_id: str | None = None,
    request_id: str | None = None,
) -> Provenance:
    """Say what is so for all runs of this process, in place of all that was said before.

    Jobs carry it; `AnalyticsStore.write` where it is given `provenance=get_provenance_defaults()`. What belongs to one
    run alone, such as its job or its moments, is no default.

    Args:
        user_id: see `Provenance`, as for the others.
        workspace_id: as above.
        environment: as above.
        executor: as above.
        cluster_id: as above.
        request_id: as above.

    Returns:
        The new defaults.

    Raises:
        ProvenanceRefused: a value is no text.
    """
    global _defaults  # noqa: PLW0603 - it is what the process is configured with
    given = {
        "user_id": user_id,
        "workspace_id": workspace_id,
        "environment": environment,
        "executor": executor,
        "cluster_id": cluster_id,
        "request_id": request_id,
    }
    _defaults = configured = as_provenance(given)
    return configured


def get_provenance_defaults() -> Provenance:
    """What `configure_provenance` said last; nothing where it never did."""
    return _defaults


def reset_provenance() -> Provenance:
    """Forget the defaults."""
    return configure_provenance()
