"""Errors of capability jobs.

Belongs here: what `analytics_pipeline.capabilities.jobs` refuses or reports. Does not: what a store refuses
(`capabilities`). A failure's text holds no value of storage_options: it is taken out before it comes here.
"""

from __future__ import annotations

from collections.abc import Iterable

from analytics_pipeline.errors.base import AnalyticsError


class JobError(AnalyticsError):
    """A capability job could not be run."""


class JobBackendUnknown(JobError, ValueError):
    """There is no job backend of that kind."""

    def __init__(self, kind: str, kinds: Iterable[str]) -> None:
        known = ", ".join(sorted(kinds))
        there = "is not there yet" if kind in {"ray", "ray-simple"} else "is unknown"
        super().__init__(f"The job backend {kind!r} {there}. Kinds: {known}.")


class JobBackendMissing(JobError, RuntimeError):
    """A job was submitted, and no backend is configured."""

    def __init__(self) -> None:
        super().__init__("No job backend is configured. Call configure_job_backend(kind, analytics_store=…) first.")


class JobRefused(JobError, TypeError):
    """A job cannot be sent to another process."""

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(
            f"{function} and its arguments cannot be sent to another process: {reason}. Nothing was run. Give a "
            f"function that stands at the top of a module, and arguments that pickle can write."
        )


class JobFailed(JobError, RuntimeError):
    """A job ended without a stored run."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        super().__init__(f"Job {job_id} failed: {reason}. Submit it again: what it stored is not stored twice.")
