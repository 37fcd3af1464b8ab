"""Backends: where records are kept.

Belongs here: the protocol and its implementations. Does not: what a record is, or what a run's rows are.
"""
