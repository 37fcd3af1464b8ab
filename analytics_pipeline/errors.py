"""Every error that analytics_pipeline raises on purpose: one class a failure, built from its culprits.

Belongs here: the classes and their sentences, which name what is wrong, that nothing was lost, and the way out.
Does not: retrying or handling them. No message ever holds a connection string; see `settings.Secret`.
"""

from __future__ import annotations


class AnalyticsError(Exception):
    """Base of all errors below; catch it to tell our refusals from bugs."""


class SettingsError(AnalyticsError):
    """The environment or a settings file asks for something impossible."""


class StoreError(AnalyticsError):
    """The published store refused or failed to do something; what was published is unchanged."""


class SyncError(AnalyticsError):
    """A source could not be mirrored; what was published is unchanged."""


class SourceError(SyncError):
    """A Postgres source could not be read."""


class SampleError(AnalyticsError):
    """The embedded sample Postgres could not be started, filled or stopped."""
