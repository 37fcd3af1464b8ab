"""Fixtures of the housekeeping: those of the components."""

from analytics_pipeline_tests.components.conftest import home, lasting, orders_url, store

__all__ = ["home", "lasting", "orders_url", "store"]
