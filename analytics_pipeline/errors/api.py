"""Errors of the API: each is one answer, with its code.

Belongs here: what a caller asked for and cannot have. Does not: the store's own failures (`store`).
"""

from __future__ import annotations

from collections.abc import Sequence

from analytics_pipeline.errors.base import AnalyticsError


class ApiError(AnalyticsError):
    """Base of the errors below; `status` is the HTTP code of the answer."""

    status = 400


class DatasetUnknown(ApiError):
    """No dataset or table of the API has this name."""

    status = 404

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        super().__init__(f"Unknown dataset: {name}. Allowed: {_listed(allowed)}")


class DatasetDisabled(ApiError):
    """The dataset is switched off in its `defs.yaml`, or has none."""

    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"The dataset {name} is not enabled. Set `enabled: true` in its defs.yaml to use it.")


class TableNotAvailable(ApiError):
    """Nothing was published of a dataset yet."""

    status = 404

    def __init__(self, label: str) -> None:
        super().__init__(f"{label} not available. Trigger a sync first.")


class TableSyncing(ApiError):
    """The first sync of a dataset is under way."""

    status = 503

    def __init__(self, label: str) -> None:
        super().__init__(f"{label} is syncing. Try again shortly.")


class MetricSchemaMissing(ApiError):
    """There are no human-signal cases to describe."""

    status = 404

    def __init__(self) -> None:
        super().__init__("No human signals metric schema available.")


class GroupByInvalid(ApiError):
    """The answer cannot be grouped by this."""

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        super().__init__(f"Invalid group_by: {name}. Allowed: {_listed(allowed)}")


class MetricColumnMissing(ApiError):
    """No column of numbers has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Missing metric column: {name}")


class TooManyMetrics(ApiError):
    """More metrics than one matrix can hold."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"Too many metrics: {count}. Ask for at most {limit} at once.")


class MetricUnknown(ApiError):
    """Names that are neither columns of numbers nor metrics."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"Unknown metrics: {_listed(names)}. Name columns of numbers, or metrics that have results.")


class RequestTimedOut(ApiError):
    """The answer was not there in time; its query was interrupted."""

    status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was stopped after {seconds:g} s. Narrow it by time or by other filters.")


class SyncRunning(ApiError):
    """A sync of the dataset waits or runs already."""

    status = 409

    def __init__(self, dataset: str, run_id: str | None) -> None:
        run = f" (run {run_id})" if run_id else ""
        super().__init__(f"A sync of {dataset} is running already{run}. Try again when it has ended.")


class DagsterUnreachable(ApiError):
    """Dagster's webserver does not answer, or refuses what it is asked for."""

    status = 503

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"Dagster at {url} cannot start the sync: {reason}. Start it with `make dev`, or set ANALYTICS_DAGSTER_URL."
        )


class StoreUnreadable(ApiError):
    """The published store cannot be read at the moment; the log says why."""

    status = 503

    def __init__(self) -> None:
        super().__init__("The published store cannot be read at the moment. The API's log says why.")


def _listed(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"
