"""Tests of append-only tables."""
