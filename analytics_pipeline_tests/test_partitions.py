"""Dagster's partitions are the engine's windows: same keys, same bounds."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from analytics_pipeline.partitions import partitions_of
from analytics_pipeline_tests.components.scenario import spec

MOMENTS = [
    datetime(2026, 11, 20, 12, 30, tzinfo=UTC),
    datetime(2026, 11, 20, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),  # Berlin's clocks go back
    datetime(2027, 3, 28, 1, 0, tzinfo=UTC),  # and forward
    datetime(2028, 2, 29, 22, 59, 59, tzinfo=UTC),
]
GEOMETRIES = [
    ("hourly", "2026-10-20", "UTC"),
    *(
        (grain, start, zone)
        for zone in ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia")
        for grain, start in (
            ("daily", "2026-10-20"),
            ("weekly", "2026-10-05"),
            ("monthly", "2026-09-01"),
        )
    ),
]


@pytest.mark.parametrize("now", MOMENTS, ids=str)
@pytest.mark.parametrize(("grain", "start", "timezone"), GEOMETRIES)
def test_keys_and_bounds_are_those_of_the_engine(grain: str, start: str, timezone: str, now: datetime) -> None:
    """A key that only one side knows is an asset that can never be filled."""
    orders = spec(partitions=grain, start=start, timezone=timezone)
    partitions = partitions_of(orders)
    assert partitions is not None
    with dg.partition_loading_context(now):
        keys = partitions.get_partition_keys()
    windows = orders.windows(now)

    assert keys == [window.key for window in windows]
    for window in (windows[0], windows[len(windows) // 2], windows[-1]):
        found = partitions.time_window_for_partition_key(window.key)
        assert (found.start.astimezone(UTC), found.end.astimezone(UTC)) == (window.lower, window.upper)


def test_without_incremental_column_there_are_no_partitions() -> None:
    orders = spec(incremental_column=None, start=None)

    assert partitions_of(orders) is None
    assert orders.geometry is None
