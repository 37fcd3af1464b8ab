"""Jobs: capability runs that are made elsewhere, and stored from there.

Belongs here: configuring a backend, submitting, waiting for the result. Does not: what a worker does (`workers`), or
the store's own configuration (`config`).

A worker gets a function, its arguments and an `AnalyticsStoreConfig`, nothing else: it builds the store from that and
writes to it. So it may be another process, and the store is the place where the results are.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from analytics_pipeline.capabilities.config import AnalyticsStoreConfig, checked_config
from analytics_pipeline.capabilities.provenance import ProvenanceLike, get_provenance_defaults
from analytics_pipeline.capabilities.runs import CapabilityRun
from analytics_pipeline.capabilities.secrets import without_secrets
from analytics_pipeline.capabilities.workers import (
    Call,
    Failure,
    JobResult,
    Task,
    pickled,
    work,
    work_in_process,
)
from analytics_pipeline.errors import JobBackendMissing, JobBackendUnknown, JobFailed, JobRefused
from analytics_pipeline.waiting import all_done, let_signals_interrupt, result_of


class Job:
    """A job that was submitted.

    Args:
        job_id: its rows of `runs` carry it.
        outcome: what the worker says, once it is done.
    """

    def __init__(self, job_id: str, outcome: Future[JobResult | Failure]) -> None:
        self.job_id = job_id
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"Job({self.job_id!r})"

    def result(self, timeout: float | None = None) -> JobResult:
        """What the job stored; waits for its end.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            JobFailed: it stored nothing; where the worker could still tell, a note holds its traceback.
            TimeoutError: it is not done yet.
        """
        outcome = result_of(self._outcome, timeout)
        if isinstance(outcome, JobResult):
            return outcome
        failed = JobFailed(self.job_id, outcome.reason)
        if outcome.trace:
            failed.add_note(outcome.trace)
        raise failed


class JobBackend(Protocol):
    """Where jobs are run."""

    def start(self, task: Task) -> Future[JobResult | Failure]:
        """Run a task, now or later."""
        ...

    def close(self) -> None:
        """Take nothing more; what was started goes on."""
        ...

    def wait(self) -> None:
        """Wait for all that was started."""
        ...


class LocalBackend:
    """Runs a task at once, in the thread that submits it."""

    def start(self, task: Task) -> Future[JobResult | Failure]:
        """Run it."""
        done: Future[JobResult | Failure] = Future()
        done.set_result(work(task))
        return done

    def close(self) -> None:
        """Nothing is open."""

    def wait(self) -> None:
        """Nothing is ever waiting."""


class SubprocessBackend:
    """Runs each task in a new process of its own, so that the death of one is the end of one job.

    Args:
        at_once: so many processes at most; by default one a core.
    """

    def __init__(self, at_once: int | None = None) -> None:
        let_signals_interrupt()  # Python waits at its exit for these threads: they store what was submitted
        self._started: list[Future[JobResult | Failure]] = []
        self._watchers = ThreadPoolExecutor(at_once or os.cpu_count(), thread_name_prefix="capability-job")

    def start(self, task: Task) -> Future[JobResult | Failure]:
        """Run it as soon as a process may be started.

        Raises:
            JobRefused: it cannot be pickled.
        """
        refused = None
        try:
            sent = pickled(task)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            refused = JobRefused(_name(task), without_secrets(str(error), task.config.storage_options))
        if refused:
            raise refused  # outside of `except`, so that what is chained to it holds no secret either
        started = self._watchers.submit(work_in_process, sent)
        self._started = [*(each for each in self._started if not each.done()), started]
        return started

    def close(self) -> None:
        """Start nothing more."""
        self._watchers.shutdown(wait=False)

    def wait(self) -> None:
        """Wait for all processes."""
        all_done(self._started)
        self.close()


class _Configured(NamedTuple):
    kind: str
    backend: JobBackend
    store: AnalyticsStoreConfig


class _Active:
    """The backend that this process is configured with."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._configured: _Configured | None = None

    def replace(self, configured: _Configured | None) -> _Configured | None:
        """Set another one, and give back the one before, closed."""
        with self._lock:
            before, self._configured = self._configured, configured
        if before:
            before.backend.close()
        return before

    def get(self) -> _Configured:
        with self._lock:
            if self._configured is None:
                raise JobBackendMissing
            return self._configured


_KINDS: Mapping[str, Callable[[], JobBackend]] = {"local": LocalBackend, "subprocess": SubprocessBackend}
_active = _Active()


def configure_job_backend(kind: str, *, analytics_store: AnalyticsStoreConfig | Mapping[str, Any]) -> None:
    """Say where jobs run from now on, and where they store. Jobs that were submitted before go on where they are.

    Args:
        kind: `local`: at once, in this process; `subprocess`: each in a process of its own.
        analytics_store: where workers write; they get nothing else.

    Raises:
        JobBackendUnknown: there is no such kind.
        StoreConfigInvalid: the configuration describes no store.
    """
    if kind not in _KINDS:
        raise JobBackendUnknown(kind, _KINDS)
    config = checked_config(analytics_store)
    _active.replace(_Configured(kind, _KINDS[kind](), config))


def shutdown_job_backend() -> None:
    """Wait for all jobs of the backend, and forget it; nothing to do where none is configured."""
    before = _active.replace(None)
    if before:
        before.backend.wait()


def submit(make_run: Callable[..., CapabilityRun], *args: Any, provenance: ProvenanceLike = None, **kwargs: Any) -> Job:
    """Make a run and store it, where the configured backend does that.

    With `subprocess`, a script needs `if __name__ == "__main__":` around its top, as for any process of Python's
    multiprocessing.

    Args:
        make_run: called with the other arguments; for `subprocess` all of these must be picklable.
        args: for `make_run`.
        provenance: of the run, over the defaults of `configure_provenance`; job_id, backend, submitted_at, completed_at
            and run_event_id are the job's own.
        kwargs: for `make_run`, which cannot have a keyword `provenance`.

    Raises:
        JobBackendMissing: none is configured.
        JobRefused: the call cannot be sent to another process.
        ProvenanceRefused: `provenance` has an unknown field, or a timestamp without a time zone.
    """
    kind, backend, config = _active.get()
    job_id = uuid4().hex
    of_job = {"job_id": job_id, "backend": kind, "submitted_at": datetime.now(UTC), "run_event_id": job_id}
    known = get_provenance_defaults().merge(provenance, of_job)
    return Job(job_id, backend.start(Task(job_id, config, known, Call(make_run, args, kwargs))))


def _name(task: Task) -> str:
    function = task.call.function if isinstance(task.call, Call) else task.call
    return str(getattr(function, "__qualname__", type(function).__name__))
