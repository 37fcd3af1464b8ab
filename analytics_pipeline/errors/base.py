"""The base of all our errors, and those of the settings.

Belongs here: what every family of errors shares. Does not: the families (`store`, `sync`, `source`, `sample`).
"""

from __future__ import annotations


class AnalyticsError(Exception):
    """Base of all errors below; catch it to tell our refusals from bugs."""


class SettingsError(AnalyticsError):
    """The environment or a settings file asks for something impossible."""


class ExtraMissing(AnalyticsError):
    """Something was asked for that takes packages which are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: install analytics_pipeline[{extra}].")


class NothingToShow(AnalyticsError):
    """A picture or a figure that only decorates cannot be made of the data as they are."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"There is nothing to make {what} of: {reason}.")
