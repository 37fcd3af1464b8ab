"""Runs: what the store asks of a run, and the rows of the table `runs` that it makes of one.

Belongs here: the protocols, the record of one entity of a run. Does not: how runs are stored (`store`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from analytics_pipeline.capabilities.provenance import Provenance
from analytics_pipeline.capabilities.records import RUNS, BaseRecord, Moment, first_problem
from analytics_pipeline.errors import RecordRefused, RunRefused


@runtime_checkable
class Record(Protocol):
    """A row of a table: `BaseRecord`, or any object like it."""

    @property
    def table_name(self) -> str:
        """The table."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The fields by name; with mode `python` as Python's own types."""
        ...


@runtime_checkable
class CapabilityRun(Protocol):
    """A run of a capability, whoever's class it is."""

    @property
    def run_uid(self) -> str:
        """What tells the run from all others."""
        ...

    @property
    def capability_id(self) -> str:
        """Which capability ran."""
        ...

    @property
    def dataset_metadata(self) -> Sequence[Mapping[str, Any]]:
        """The datasets, each with its `id`."""
        ...

    @property
    def model_metadata(self) -> Sequence[Mapping[str, Any]]:
        """The models, each with its `id`."""
        ...

    @property
    def metric_metadata(self) -> Sequence[Mapping[str, Any]]:
        """The metrics, each with its `id`."""
        ...

    def extract(self) -> Sequence[Record]:
        """The run's results as rows of one table."""
        ...


def table_of(record: Record) -> str:
    """The table that a record names.

    Raises:
        RecordRefused: it names none.
    """
    table: object = getattr(record, "table_name", None)
    if not isinstance(table, str):
        raise RecordRefused(type(record).__name__, f"has a {type(table).__name__} as its table_name")
    return table


def values_of(record: Record) -> Mapping[str, Any]:
    """The fields of a record.

    Raises:
        RecordRefused: it gives none.
    """
    dump: object = getattr(record, "model_dump", None)
    if not callable(dump):
        raise RecordRefused(type(record).__name__, "has no method model_dump")
    values: object = dump(mode="python")
    if not isinstance(values, Mapping):
        raise RecordRefused(type(record).__name__, f"gives a {type(values).__name__} from model_dump()")
    return values


class RunRecord(BaseRecord, table_name=RUNS):
    """One dataset, model or metric of a run, with the run's provenance."""

    capability_id: str
    capability_table: str
    entity_type: str
    entity_id: str
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


def run_records(run: CapabilityRun, table: str, provenance: Provenance) -> Iterator[RunRecord]:
    """The rows of `runs` for a run: one for each of its entities.

    Args:
        run: of a capability.
        table: that its records go to.
        provenance: the same for all rows.

    Raises:
        RunRefused: an entity has no `id`, or the run no texts as its uid and its capability's id.
    """
    given = provenance.model_dump(exclude_none=True)
    told: Mapping[str, object] = {
        "dataset": run.dataset_metadata,
        "model": run.model_metadata,
        "metric": run.metric_metadata,
    }
    for kind, entities in told.items():
        if not isinstance(entities, Iterable) or isinstance(entities, (str, Mapping)):
            raise RunRefused(run.run_uid, f"has a {type(entities).__name__} as its {kind}_metadata, not a sequence")
        for entity in entities:
            if not isinstance(entity, Mapping) or not isinstance(entity.get("id"), str):
                raise RunRefused(run.run_uid, f"has a {kind} without a text as its id")
            yield _run_record(run, table, kind, entity["id"], given)


def _run_record(run: CapabilityRun, table: str, kind: str, entity: str, given: Mapping[str, Any]) -> RunRecord:
    try:
        return RunRecord(
            run_uid=run.run_uid,
            capability_id=run.capability_id,
            capability_table=table,
            entity_type=kind,
            entity_id=entity,
            **given,
        )
    except ValidationError as error:
        raise RunRefused(run.run_uid, f"has a {kind} that cannot be stored: {first_problem(error)}") from None
