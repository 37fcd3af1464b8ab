"""Tests of analytics_pipeline: one module a rule-set, mirroring the package, on real Postgres and real files."""
