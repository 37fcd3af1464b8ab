"""Routes of the store: status, metadata and rows of each dataset, human-signal cases.

Belongs here: `/api/store/…` as far as it reads, `/api/human-signals/…`. Does not: starting syncs (`sync`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from analytics_pipeline.api import parameters as asked
from analytics_pipeline.api import shapes
from analytics_pipeline.api.datasets import CASES, cases_table
from analytics_pipeline.api.questions.order import total_order
from analytics_pipeline.api.questions.pages import chosen, json_row, json_select, searched
from analytics_pipeline.api.questions.paging import find_page, span_of
from analytics_pipeline.api.routes.shared import READING, failures, service_of
from analytics_pipeline.api.service import Published, Service
from analytics_pipeline.errors import DatasetUnknown, MetricSchemaMissing, TableNotAvailable
from analytics_pipeline.store import JsonObject

router = APIRouter(tags=["store"])
DatasetName = Annotated[str, Path(description="a dataset, or a table such as human_signals_data")]

_CONVERSATION = "Full_Conversation"


class _NoParameters(BaseModel):
    """Of requests that have none."""


@router.get("/api/store/status", response_model=shapes.Status, responses=failures(503))
async def status(request: Request) -> shapes.Status:
    """The status of every dataset, as it is now."""
    service = service_of(request)
    states = await anyio.to_thread.run_sync(lambda: dict(_states(service)))
    return shapes.Status(enabled=bool(states), datasets=states)


def _states(service: Service) -> Iterator[tuple[str, shapes.MirroredState | shapes.DatasetState]]:
    manifest = service.version()
    for spec in service.datasets.enabled:
        found = service.status(spec)
        state = shapes.DatasetState(
            state=found.state.value,
            rows=found.rows.get(spec.view, 0),
            last_sync=_iso(found.last_sync),
            error=found.message,
            truncated=found.truncated,
            sync_type=found.sync_type.value if found.sync_type else None,
            last_incremental=_iso(found.last_incremental),
            incremental_rows=found.incremental_rows,
        )
        yield (
            spec.view,
            shapes.MirroredState(
                **state.model_dump(),
                refresh_interval_minutes=spec.refresh_interval_minutes,
                incremental_column=spec.incremental_column,
                watermarks=dict(found.watermarks),
            ),
        )
        cases = cases_table(spec)
        if cases is not None:
            table = manifest.tables.get(cases)
            yield cases, state.model_copy(update={"rows": table.rows if table else 0})


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


@router.get("/api/store/metadata/{dataset}", response_model=shapes.Metadata, responses=READING)
async def metadata(request: Request, dataset: DatasetName) -> Response:
    """What is known of a table without reading it."""
    return await service_of(request).answer(
        request,
        dataset,
        _NoParameters(),
        lambda table: shapes.Metadata(dataset=dataset, metadata=_counted(table)),
        stored=lambda kept: shapes.Metadata(dataset=dataset, metadata=_stored(dict(kept))),
    )


def _stored(kept: dict[str, Any]) -> shapes.TableMetadata:
    return shapes.TableMetadata(**{**kept, "time_range": _spaced(kept["time_range"])})


def _counted(table: Published) -> shapes.TableMetadata:
    """Of a table that an earlier version of this package committed."""
    return shapes.TableMetadata(
        row_count=table.ask(f"SELECT count(*) FROM {table.rows.sql}", {}).item(),
        columns=[
            shapes.ColumnName(column_name=column.name, column_type=column.type) for column in table.rows.columns.columns
        ],
        filter_values={},
        time_range=None,
        summary_stats=None,
    )


def _spaced(stored: dict[str, str] | None) -> shapes.TimeRange | None:
    """Moments as analytics spell them; as they are where Python has none like them."""
    if not stored:
        return None
    spelled = {}
    for end, text in stored.items():
        try:
            spelled[end] = f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
        except ValueError:
            spelled[end] = text
    return shapes.TimeRange(**spelled)


@router.get("/api/store/data/{dataset}", response_model=shapes.Page, responses=READING)
async def data(request: Request, dataset: DatasetName, given: Annotated[asked.PageParameters, Query()]) -> Response:
    """Rows of a table. Pages never overlap while the store's version is the same."""

    def question(table: Published) -> shapes.Page:
        columns = table.rows.columns
        rows = searched(given.of(table.rows), given.search)
        order = total_order(columns, given.sort_by, given.sort_dir)
        place = find_page(table.count, rows, order, span_of(given.page, given.page_size))
        found = place.read(table.ask, order, json_select(chosen(columns, given.columns)))
        return shapes.Page(
            data=[json_row(row) for row in found], total=place.total, page=given.page, page_size=given.page_size
        )

    return await service_of(request).answer(request, dataset, given, question)


@router.get("/api/human-signals/cases", response_model=shapes.Cases, responses=READING, tags=["human signals"])
async def cases(request: Request, given: Annotated[asked.CaseParameters, Query()]) -> Response:
    """Human-signal cases, the newest first; a conversation is a list of messages."""
    return await service_of(request).answer(request, CASES, given, lambda table: _cases(table, given))


def _cases(table: Published, given: asked.CaseParameters) -> shapes.Cases:
    rows, columns = table.rows, table.rows.columns
    order = total_order(columns, None, asked.SortDirection.DESC)
    place = find_page(table.count, rows, order, span_of(given.page, given.page_size))
    found = [json_row(row) for row in place.read(table.ask, order, json_select(columns.columns))]
    return shapes.Cases(
        row_count=place.total,
        columns=[column.name for column in columns.columns],
        data=[{**row, **_conversation(row)} for row in found],
        page=given.page,
        page_size=given.page_size,
        message=f"{len(found)} of {place.total} cases",
    )


def _conversation(row: shapes.JsonRow) -> shapes.JsonRow:
    """The conversation as a list; an empty one for what is none."""
    if _CONVERSATION not in row:
        return {}
    try:
        found = json.loads(row[_CONVERSATION] or "[]", parse_constant=lambda _: None)
    except (ValueError, TypeError, RecursionError):
        found = []
    return {_CONVERSATION: found if isinstance(found, list) else []}


@router.get(
    "/api/human-signals/metric-schema", response_model=shapes.MetricSchema, responses=READING, tags=["human signals"]
)
async def metric_schema(request: Request) -> Response:
    """The metrics of human-signal cases, and their signals."""

    def stored(kept: JsonObject) -> shapes.MetricSchema:
        found: Any = kept.get("metric_schema")
        if found is None:
            raise MetricSchemaMissing
        return shapes.MetricSchema(schema=found)

    try:
        return await service_of(request).answer(
            request, CASES, _NoParameters(), lambda table: stored(table.metadata or {}), stored=stored
        )
    except (DatasetUnknown, TableNotAvailable):
        raise MetricSchemaMissing from None
