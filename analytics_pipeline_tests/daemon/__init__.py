"""Tests with Dagster's daemon really running."""
