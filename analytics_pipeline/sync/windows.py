"""Windows: how time is cut into partitions, the same in SQL, in the store and in Dagster.

Belongs here: grains, keys, bounds, the SQL that assigns a row to its window or selects the rows of some windows.
Does not: Dagster's partition definitions (`partitions`), or what is read from a window (`engine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from analytics_pipeline.errors import TooManyPartitions
from analytics_pipeline.sync.postgres.sql import LESS, NOT_LESS

REST = "_rest"
"""The store-only partition of rows whose incremental column is NULL, before the start, or in the future."""

WHOLE = "_all"
"""The one partition of a table without an incremental column."""

MOST_WINDOWS = 200_000
"""Hours of 22 years."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local time of the geometry's zone


class Grain(StrEnum):
    """Length of a partition. Weeks begin on Monday."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"

    def check_start(self, start: date) -> None:
        """Refuse a start in the middle of a window, which would leave the first one ambiguous.

        Raises:
            ValueError: names the day to use instead.
        """
        if self is Grain.WEEKLY and start.weekday() != 0:
            raise ValueError(f"start of weekly partitions is a Monday, such as {start - timedelta(start.weekday())}")
        if self is Grain.MONTHLY and start.day != 1:
            raise ValueError(f"start of monthly partitions is the first of a month, such as {start.replace(day=1)}")

    def following(self, local: datetime) -> datetime:
        """The local start of the window after the one that begins at `local` (both naive)."""
        if self is Grain.MONTHLY:
            return (local.replace(day=1) + timedelta(days=32)).replace(day=1)
        return (
            local
            + {
                Grain.HOURLY: timedelta(hours=1),
                Grain.DAILY: timedelta(days=1),
                Grain.WEEKLY: timedelta(days=7),
            }[self]
        )


class ColumnKind(StrEnum):
    """What an incremental column holds, by which its bounds are spelled."""

    TIMESTAMPTZ = "timestamptz"
    TIMESTAMP = "timestamp"
    DATE = "date"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"


_UNITS_A_SECOND = {ColumnKind.SECONDS: 1, ColumnKind.MILLISECONDS: 1_000, ColumnKind.MICROSECONDS: 1_000_000}


class Window(NamedTuple):
    """One partition's span of time: half-open, in local (naive) time and in UTC.

    In UTC it is empty for a day that its zone left out, such as 2011-12-30 in Samoa.
    """

    key: str
    local: datetime
    local_end: datetime
    lower: datetime
    upper: datetime


@dataclass(frozen=True)
class Geometry:
    """How a dataset's time is cut: a change of any of these is a full rebuild.

    Args:
        grain: length of a window.
        start: local day on which the first one begins.
        timezone: IANA name of the zone whose days, weeks and months these are.
    """

    grain: Grain
    start: date
    timezone: str = "UTC"

    @property
    def first_key(self) -> str:
        """The name of the first window."""
        return self.key(_midnight(self.start))

    def windows(self, until: datetime) -> list[Window]:
        """All windows from the start to the one that holds `until` (an aware time).

        Raises:
            TooManyPartitions: they are more than `MOST_WINDOWS`.
        """
        zone = ZoneInfo(self.timezone)
        last = until.astimezone(zone).replace(tzinfo=None)
        local = _midnight(self.start)
        found: list[Window] = []
        while local <= last:
            if len(found) >= MOST_WINDOWS:
                raise TooManyPartitions(self.grain.value, str(self.start), str(until.date()), MOST_WINDOWS)
            end = self.grain.following(local)
            found.append(Window(self.key(local), local, end, _in_utc(local, zone), _in_utc(end, zone)))
            local = end
        return found

    def key(self, local: datetime) -> str:
        """The name of the window that begins at a local time, as Dagster spells its key."""
        return local.strftime("%Y-%m-%d-%H:%M" if self.grain is Grain.HOURLY else "%Y-%m-%d")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time())


def _in_utc(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)


@dataclass(frozen=True)
class WindowSql:
    """The SQL that ties a query's rows to windows: one rule for reading and for fingerprints.

    Args:
        column: the incremental column as a SQL expression over the query.
        kind: what it holds.
        geometry: how time is cut.
        windows: all windows of this sync; rows outside of them belong to `REST`.
    """

    column: str
    kind: ColumnKind
    geometry: Geometry
    windows: Sequence[Window]

    @property
    def bucket(self) -> str:
        """A row's place among the bounds: an index into `bucket_keys`, NULL for a NULL.

        Bounds, not date_trunc: the same comparison serves SQL and the rows on their way (`thresholds`), in every zone.
        """
        if not self.windows:  # the start is still to come
            return "NULL::pg_catalog.int4"
        bounds = ",".join(f'"{self._text(*bound)}"' for bound in self._bounds)
        return f"pg_catalog.width_bucket({self.column}, '{{{bounds}}}'::{self._sql_type}[])"

    @property
    def thresholds(self) -> list[int]:
        """The bounds as the integers that Arrow keeps: microseconds or days since 1970, or the column's own unit."""
        return [self._number(*bound) for bound in self._bounds]

    @property
    def bucket_keys(self) -> list[str]:
        """The partition of each bucket: before the first window and after the last one is `REST`."""
        return [REST, *(window.key for window in self.windows), REST]

    def selecting(self, keys: Iterable[str]) -> str | None:
        """The condition for the rows of some windows and perhaps `REST`; None where that is every row."""
        wanted = set(keys)
        if wanted >= {window.key for window in self.windows} | {REST}:
            return None
        if not self.windows:
            return "false"
        conditions = [
            f"({self.column} {NOT_LESS} {self._bound(first)} AND {self.column} {LESS} {self._end(last)})"
            for first, last in self._runs(wanted)
        ]
        if REST in wanted:
            first, last = self.windows[0], self.windows[-1]
            conditions.append(
                f"({self.column} IS NULL OR {self.column} {LESS} {self._bound(first)} "
                f"OR {self.column} {NOT_LESS} {self._end(last)})"
            )
        return " OR ".join(conditions) or "false"

    def _runs(self, wanted: set[str]) -> list[tuple[Window, Window]]:
        """Windows without a gap between them, as first and last: an index serves each run with one range."""
        runs: list[tuple[Window, Window]] = []
        for window in self.windows:
            if window.key not in wanted:
                continue
            if runs and runs[-1][1].local_end == window.local:
                runs[-1] = (runs[-1][0], window)
            else:
                runs.append((window, window))
        return runs

    @property
    def _bounds(self) -> list[tuple[datetime, datetime]]:
        """Starts of all windows and the end of the last one, local and in UTC."""
        starts = [(window.local, window.lower) for window in self.windows]
        return [*starts, (self.windows[-1].local_end, self.windows[-1].upper)] if starts else []

    @property
    def _sql_type(self) -> str:
        return f"pg_catalog.{'int8' if self.kind in _UNITS_A_SECOND else self.kind.value}"

    def _bound(self, window: Window) -> str:
        return self._literal(window.local, window.lower)

    def _end(self, window: Window) -> str:
        return self._literal(window.local_end, window.upper)

    def _literal(self, local: datetime, utc: datetime) -> str:
        return f"{self._sql_type} '{self._text(local, utc)}'"

    def _text(self, local: datetime, utc: datetime) -> str:
        if self.kind in _UNITS_A_SECOND:
            return str(self._number(local, utc))
        return utc.isoformat() if self.kind is ColumnKind.TIMESTAMPTZ else local.isoformat(sep=" ")

    def _number(self, local: datetime, utc: datetime) -> int:
        if self.kind in _UNITS_A_SECOND:
            return int(utc.timestamp()) * _UNITS_A_SECOND[self.kind]
        since = utc.replace(tzinfo=None) - _EPOCH if self.kind is ColumnKind.TIMESTAMPTZ else local - _EPOCH
        return since.days if self.kind is ColumnKind.DATE else since // timedelta(microseconds=1)
