"""Housekeeping: what keeps Dagster's own storage small, its list of running runs true, and copies of the store at hand.

Belongs here: pruning of runs and events, the launcher that notices dead runs, backups by date.
Does not: the published store's maintenance (`store`), jobs and schedules (`components`).
"""
