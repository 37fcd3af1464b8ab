"""Workers: what happens to a job where it is run.

Belongs here: what a worker is sent and what it says, making and storing the run, its own process. Does not: submitting
(`jobs`).

Text of a failure leaves a worker without any value of storage_options, whoever put one into a message.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from analytics_pipeline.capabilities.config import AnalyticsStoreConfig, build_store
from analytics_pipeline.capabilities.provenance import Provenance
from analytics_pipeline.capabilities.runs import CapabilityRun
from analytics_pipeline.capabilities.secrets import without_secrets
from analytics_pipeline.capabilities.store import AnalyticsStore
from analytics_pipeline.errors import RunNotFound
from analytics_pipeline.waiting import join


@dataclass(frozen=True)
class JobResult:
    """What a job stored.

    Args:
        job_id: of the job.
        run_uid: of the run that it made.
        store_uri: where the run's rows are; None where it has none.
    """

    job_id: str
    run_uid: str
    store_uri: str | None


@dataclass(frozen=True)
class Failure:
    """Why a job stored nothing, as text that holds no secret.

    Args:
        reason: in a few words.
        trace: where it happened; empty where nobody knows.
    """

    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Call:
    """A call that is made later.

    Args:
        function: makes a run.
        args: for it.
        kwargs: for it.
    """

    function: Callable[..., CapabilityRun]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def make(self) -> CapabilityRun:
        """Make it."""
        return self.function(*self.args, **self.kwargs)


@dataclass(frozen=True)
class PickledCall:
    """A call for another process, which is read there when it is made.

    Args:
        pickled: a `Call`.
    """

    pickled: bytes

    def make(self) -> CapabilityRun:
        """Read it and make it."""
        call: Call = pickle.loads(self.pickled)  # noqa: S301 - from our own parent
        return call.make()


@dataclass(frozen=True)
class Task:
    """What a worker is sent.

    Args:
        job_id: of the job.
        config: of the store.
        provenance: of the run, but for its end.
        call: makes the run.
    """

    job_id: str
    config: AnalyticsStoreConfig
    provenance: Provenance
    call: Call | PickledCall


def work(task: Task) -> JobResult | Failure:
    """Make the run, store it, tell where it is; or why not."""
    try:
        run = task.call.make()
        store = build_store(task.config)
        store.write([run], provenance=task.provenance.model_copy(update={"completed_at": datetime.now(UTC)}))
        return JobResult(task.job_id, run.run_uid, _uri(store, run.run_uid))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever somebody's capability does, somebody waits for it
        options = task.config.storage_options
        reason = without_secrets(f"{type(error).__name__}: {error}", options)
        return Failure(reason, without_secrets(traceback.format_exc(), options))


def pickled(task: Task) -> bytes:
    """The task for `work_in_process`.

    Raises:
        pickle.PicklingError | TypeError | AttributeError: some part of it cannot be.
    """
    call = PickledCall(pickle.dumps(task.call))
    return pickle.dumps(Task(task.job_id, task.config, task.provenance, call))


def work_in_process(task: bytes) -> JobResult | Failure:
    """Start a process for a pickled task and wait for what it says, or for its death."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(theirs, task))
    with ours:
        try:
            with theirs:
                process.start()
        except OSError as error:
            return Failure(f"no process could be started for it: {error}")
        said = _heard(ours)
    join(process)
    return said or Failure(f"its process {_death(process.exitcode or 0)} before it could say anything")


def _heard(answers: Connection) -> JobResult | Failure | None:
    try:
        said: JobResult | Failure = answers.recv()
    except (EOFError, OSError):  # nothing, or the half of an answer
        return None
    return said


def _in_process(answer: Connection, task: bytes) -> None:
    """Of the worker's process."""
    with answer:
        answer.send(work(pickle.loads(task)))  # noqa: S301 - from our own parent


def _death(exit_code: int) -> str:
    return f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with code {exit_code}"


def _uri(store: AnalyticsStore, run_uid: str) -> str | None:
    try:
        return store.get_run_uri(run_uid)
    except RunNotFound:
        return None
