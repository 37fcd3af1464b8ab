"""Tests of the capability store."""
