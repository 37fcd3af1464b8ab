"""Errors of the experiments' lakehouse.

Belongs here: what logging, views, exports and the import refuse. Does not: what happens to files of tables (`append`).
"""

from __future__ import annotations

from collections.abc import Iterable

from analytics_pipeline.errors.base import AnalyticsError
from analytics_pipeline.errors.store import StoreError


class ExperimentError(AnalyticsError):
    """Base of what the lakehouse of experiments refuses."""


class LoggedValueRefused(ExperimentError, ValueError):
    """A value that a training script logs has no place in the tables."""

    def __init__(self, what: str, value: object, expected: str) -> None:
        super().__init__(f"{what} is {value!r}, but must be {expected}. Nothing was logged.")


class ConfigKeyRefused(ExperimentError, ValueError):
    """A hyper-parameter has a name that no column of its own can have."""

    def __init__(self, key: object, reason: str) -> None:
        super().__init__(f"The config's key {key!r} {reason}. Give it another name. Nothing was logged.")


class RankingRefused(ExperimentError, ValueError):
    """A leaderboard cannot be made of the metrics that were asked for."""

    def __init__(self, asked: object, reason: str) -> None:
        super().__init__(f"The leaderboard's metric {asked!r} {reason}. Nothing was changed.")


class HyperparameterUnknown(ExperimentError, ValueError):
    """No run was logged with a hyper-parameter."""

    def __init__(self, key: str, known: Iterable[str]) -> None:
        super().__init__(f"No config has {key!r}. Logged are: {', '.join(known) or 'none yet'}.")


class LakehouseNotImported(ExperimentError, ValueError):
    """A folder of Parquet files cannot be taken into the lakehouse."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} was not imported: {reason}. Nothing was changed.")


class LakehouseUnusable(ExperimentError, StoreError):
    """What a lakehouse needs beside its tables cannot be: a folder, a file, or a view."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"{path} could not be used: {detail}. What was logged before is unchanged. Move away what is in its way, "
            f"or give the lakehouse another root."
        )


class ExportRefused(ExperimentError, ValueError):
    """An export is asked for something that it cannot be."""

    def __init__(self, what: str, value: object, expected: str) -> None:
        super().__init__(f"{what} is {value!r}, but must be {expected}. Nothing was exported.")


class ExportFailed(ExperimentError):
    """The disk refused an export."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path} was not exported: {detail}. What was there before is unchanged.")
