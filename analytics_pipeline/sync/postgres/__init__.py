"""Reading Postgres: one snapshot, described types, streamed Arrow batches in the types that the store keeps.

Belongs here: sessions, snapshots with locks, the type rules, the read tiers and their watchdog.
Does not: partitions, fingerprints, files; a reader gets SQL expressions and gives record batches.
"""
