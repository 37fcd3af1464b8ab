"""Housekeeping: what keeps Dagster's own storage small and its list of running runs true.

Belongs here: pruning of runs and events, the launcher that notices dead runs. Plain functions on a Dagster instance.
Does not: the published store's maintenance (`store`), jobs and schedules (`components`).
"""
