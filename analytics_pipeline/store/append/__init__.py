"""Append-only tables: small immutable Parquet files that many processes add, and an index that knows what is in them.

Belongs here: writing such files once and whole, identities that keep rows from being stored twice, the compacted copy
for fast queries, the views over both. Does not: what the rows mean (`capabilities`, `experiments`), or the tables that
a sync replaces by partitions (the modules beside this package).

The raw files are the truth, and any Parquet reader may read them as they are. Index and compacted copies are derived
from them, and can be thrown away.
"""
