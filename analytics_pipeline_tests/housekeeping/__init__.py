"""Tests of the housekeeping."""
