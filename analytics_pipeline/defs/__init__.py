"""Definitions that Dagster finds by itself: one folder a dataset, and plain Python beside them.

Belongs here: `sync/<name>/defs.yaml`, and modules that define assets, jobs, schedules, sensors or checks.
Does not: code that anything else imports. In a folder with a `defs.yaml`, Dagster ignores every other file.
"""
