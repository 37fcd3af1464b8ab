"""Split sync: Postgres sources, each a dataset half and a results half, mirrored into the published store.

Belongs here: what a source is (`spec`), how it is read (`postgres`), how its columns are named (`normalize`), how a
partition is fingerprinted (`fingerprint`), and how rows become a commit (`engine`). Plain Python, no Dagster.
"""
