"""Run documents in Dagster: the job that takes up what is in the inbox, and the sensor that starts it.

Belongs here: the op, what it tells of itself, when the sensor asks for a run. Does not: what a document is, or how it
is stored (`capabilities.documents`).

A run takes up all documents that wait, in batches. A run or a partition a document would cost Dagster seconds each,
where the store takes a millisecond.
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of ops.

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from analytics_pipeline.components import ticks
from analytics_pipeline.components.sync_events import failing_plainly
from analytics_pipeline.components.sync_sensor import MINIMUM_INTERVAL_SECONDS, Memory
from analytics_pipeline.display import displayed
from analytics_pipeline.errors import CapabilityTableEmpty, InboxUnusable
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.settings import INBOX_VARIABLE, inbox_of

if TYPE_CHECKING:
    from analytics_pipeline.capabilities.documents.inbox import Inbox
    from analytics_pipeline.capabilities.documents.intake import Batch, Intake

# Written out, and compared with the store's own by a test: that one is imported only where data is touched.
TABLES = {
    "dataeval_bias": "How well datasets cover what they are about; one row a run.",
    "dataeval_cleaning": "Duplicates, outliers and balance of datasets; one row a run.",
    "dataeval_feasibility": "How well any model could do on datasets; one row a run.",
    "dataeval_shift": "How far datasets moved from a reference; one row a run.",
    "maite_evaluation": "Metrics of models on datasets; one row a metric and output key, and one a class.",
    "nrtk_robustness": "Scores of models as images are perturbed; one row a step and metric key.",
    "xaitk_explainable": "Saliency maps of models; one row a map.",
    "runs": "Datasets, models and metrics of all runs, with their provenance; one row each.",
}
"""The tables that documents fill."""

_LARGEST_MB = 64
_LOOK_SECONDS = 10.0


class IntakeConfig(dg.Config):
    """What one run takes up.

    Args:
        at_most: documents in one run; the rest waits for the next.
        largest_mb: size of a document, in MiB, beyond which it is rejected unread.
    """

    at_most: int = Field(default=100_000, ge=1)
    largest_mb: int = Field(default=_LARGEST_MB, ge=1)


@dg.op(
    description="Stores the run documents that wait in the inbox; moves bad ones aside, each with a report.",
    out=dg.Out(dg.Nothing),
)
def take_up_run_documents(
    context: dg.OpExecutionContext, config: IntakeConfig, analytics: AnalyticsResource
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """The intake."""
    from analytics_pipeline.capabilities.documents.intake import Batch  # noqa: PLC0415 - few commands touch data

    done, failure = Batch(), None
    try:
        with failing_plainly():
            for batch in _intake(config, analytics).take_up(context.log.info):
                done += batch
                context.log.info("So far: %s", _summary(done))
    except dg.Failure as error:  # what was stored until then is stored, and told
        failure = error
    for rejected in done.first_rejected:
        context.log.warning("Rejected %s: %s", rejected.name, rejected.refusal.problems[0])
    yield from _materializations(done)
    if failure:
        raise failure
    yield dg.Output(None, metadata=displayed("metadata", lambda: _metadata(done, analytics), context.log))


def _intake(config: IntakeConfig, analytics: AnalyticsResource) -> "Intake":
    from analytics_pipeline.capabilities import build_store  # noqa: PLC0415 - as above
    from analytics_pipeline.capabilities.documents.intake import Intake  # noqa: PLC0415

    analytics.store()  # its catalog gets a view of each table
    store = build_store({"uri": str(analytics.home().capabilities)})
    return Intake(_inbox(analytics, config.largest_mb), store.backend, at_most=config.at_most)


def _inbox(analytics: AnalyticsResource, largest_mb: int = _LARGEST_MB) -> "Inbox":
    from analytics_pipeline.capabilities.backends.roots import checked_root  # noqa: PLC0415 - as above

    try:
        place = checked_root(inbox_of(analytics.home()))
    except ValueError as error:
        raise InboxUnusable(f"of {INBOX_VARIABLE}", str(error)) from None
    if "://" in place:
        from analytics_pipeline.capabilities.documents.bucket import BucketInbox  # noqa: PLC0415

        return BucketInbox(place, largest=largest_mb << 20)
    from analytics_pipeline.capabilities.documents.folder import FolderInbox  # noqa: PLC0415

    return FolderInbox(Path(place).expanduser().resolve(), largest=largest_mb << 20)


def _materializations(done: "Batch") -> Iterator[dg.AssetMaterialization]:
    for table, rows in sorted(done.rows.items()):
        runs = {"new_runs": done.runs[table]} if table in done.runs else {}
        yield dg.AssetMaterialization(["capabilities", table], metadata={"new_rows": rows, **runs})


def _summary(done: "Batch") -> str:
    return f"{done.stored} runs stored, {done.known} known, {done.rejected} rejected, {done.waiting} still growing"


def _metadata(done: "Batch", analytics: AnalyticsResource) -> dict[str, dg.MetadataValue]:
    lines = [
        "| document | problem | of |",
        "|---|---|--:|",
        *(_line(one.name, str(one.refusal.problems[0]), one.refusal.count) for one in done.first_rejected),
    ]
    rejected = {"reasons": dg.MetadataValue.md("\n".join(lines))} if done.rejected else {}
    return {
        "stored_runs": dg.MetadataValue.int(done.stored),
        "known_runs": dg.MetadataValue.int(done.known),
        "rejected": dg.MetadataValue.int(done.rejected),
        "still_growing": dg.MetadataValue.int(done.waiting),
        "tables": dg.MetadataValue.text(", ".join(sorted(done.rows)) or "none"),
        "reports": dg.MetadataValue.path(f"{inbox_of(analytics.home())}/rejected"),
        **rejected,
    }


def _line(name: str, problem: str, count: int) -> str:
    cells = (text.replace("|", "\\|").replace("\n", " ") for text in (name, problem))
    return f"| {' | '.join(cells)} | {count} |"


@dg.job(
    description="Takes up the run documents in the inbox.",
    executor_def=dg.in_process_executor,
)
def run_documents_job() -> None:
    """The intake, in one step."""
    take_up_run_documents()


def _look(context: dg.SensorEvaluationContext, analytics: AnalyticsResource) -> dg.SensorResult:
    memory, reason = _wish(context, analytics, Memory.of(context.cursor))
    return dg.SensorResult(run_requests=[] if reason else [dg.RunRequest()], skip_reason=reason, cursor=memory.cursor())


def _wish(
    context: dg.SensorEvaluationContext, analytics: AnalyticsResource, memory: Memory
) -> tuple[Memory, str | None]:
    """What to remember, and why no run is started; None where one is."""
    found = _document_waits(analytics)
    if isinstance(found, str):
        return memory, found
    if not found:
        return Memory(), "No document waits."
    if active := ticks.active_run(context.instance, run_documents_job.name):
        return memory, f"Run {active} is at it."
    last_end, now = ticks.last_end(context.instance, run_documents_job.name), datetime.now(UTC)
    if last_end and last_end[1]:
        memory = Memory()
    until = memory.patient_until(last_end)
    if now < until:
        return memory, f"Asked {memory.requests} times, and documents still wait; again at {until:%H:%M:%S} UTC."
    return replace(memory, requests=memory.requests + 1, asked_at=now.timestamp()), None


def _document_waits(analytics: AnalyticsResource) -> bool | str:
    """Whether a run would find a document, or why nobody knows: an object store may be slow, or say no."""
    inbox = _inbox(analytics)
    answers: list[bool | str] = []

    def ask() -> None:
        try:
            answers.append(inbox.has_document())
        except Exception as error:  # noqa: BLE001 - whatever its client raises; the next tick asks again
            answers.append(f"{inbox.place} cannot be listed: {type(error).__name__}.")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LOOK_SECONDS)
    return answers[0] if answers else f"{inbox.place} gives no answer."


# By a name, and not by the decorator: Dagster 1.13 would warn that a parameter is in beta, which nobody gave.
run_documents_sensor = dg.SensorDefinition(
    name="run_documents_sensor",
    evaluation_fn=_look,
    job_name=run_documents_job.name,
    minimum_interval_seconds=MINIMUM_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a run when a document waits in the inbox.",
)


def _table_asset(table: str, description: str) -> dg.AssetsDefinition:
    """An asset that makes nothing: runs fill its table, and materializing it shows what is there."""

    @dg.asset(
        key=["capabilities", table],
        group_name="capabilities",
        kinds={"parquet"},
        description=f"{description} Filled by `{run_documents_job.name}` and by assets that return runs.",
    )
    def shown(analytics: AnalyticsResource) -> dg.MaterializeResult[None]:
        import polars as pl  # noqa: PLC0415 - few commands touch data

        with failing_plainly():
            analytics.store()
            backend = analytics.capabilities()
            if table not in backend.list_tables():
                raise CapabilityTableEmpty(table, inbox_of(analytics.home()), run_documents_job.name)
            rows = backend.scan_table(table).select(pl.len()).collect().item()
        return dg.MaterializeResult(metadata={"dagster/row_count": dg.MetadataValue.int(rows)})

    return shown


def run_documents() -> dg.Definitions:
    """The job, its sensor, and the tables that it fills."""
    tables = [_table_asset(table, text) for table, text in TABLES.items()]
    return dg.Definitions(assets=tables, jobs=[run_documents_job], sensors=[run_documents_sensor])
