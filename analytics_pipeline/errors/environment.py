"""Errors of the machine: its disks, rights and paths.

Belongs here: what `analytics_pipeline.boundary` makes of the errors of file systems and databases. Does not: errors
with more to say, such as those of a store (`store`).
"""

from __future__ import annotations

from analytics_pipeline.errors.store import StoreError


class EnvironmentFailed(StoreError):
    """The machine refused something."""

    def __init__(self, path: str, reason: str, fix: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}. {fix}.")


class DiskFull(EnvironmentFailed):
    """The disk, or the user's share of it, has no room."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason, "Free some space, and try again: what was published is whole")
