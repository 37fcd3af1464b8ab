"""The published store: immutable Parquet files, a versioned manifest as the truth, a derived DuckDB catalog.

Belongs here: committing, opening, querying and maintaining the store; the only code that knows its files.
Does not: where rows come from (`sync`), or what they mean.
"""
