"""Dagster components: YAML in, definitions out.

Belongs here: thin classes that turn a `defs.yaml` into a spec and hand it to a factory. Does not: domain logic.
"""
