"""Tests of the cases and the metric schema."""
