"""Sample sources: an embedded real PostgreSQL with three databases, for the first five minutes and the tests.

Belongs here: starting and stopping that server, and the deterministic data in it.
Does not: anything a production source needs; the sync reads it like any other Postgres.
"""
