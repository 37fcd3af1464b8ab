"""analytics_pipeline: Postgres evaluation data in one embedded, SQL-queryable store, kept fresh by Dagster.

Belongs here: nothing but this page. Import what you need from the packages below it:
`store` (published Parquet and its SQL), `sync` (Postgres to the store), `sample` (sources to try it on),
`components` and `definitions` (the Dagster code location).
"""
