"""Parts: the figures of some rows, kept so that those of all rows follow from them.

Belongs here: what is kept of a part, its JSON, how parts are added up, percentiles of the sum.
Does not: asking for figures (`groups`), or which rows make a part (`counting`).

Everything kept is exact and can be added up: counts, sums, extremes, the first distinct values. For percentiles that
holds once three ranges of latencies are agreed on: a part keeps how many latencies lie below each range, and every one
inside. While the wanted ranks fall into the ranges, the percentiles are those of all rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analytics_pipeline.store import JsonObject

MOST_VALUES = 200
"""Distinct values that are listed of a column."""

QUANTILES = {"p50_latency": 0.5, "p95_latency": 0.95, "p99_latency": 0.99}

_MOST_KEPT = 20_000
"""Latencies inside the ranges above which narrower ranges are chosen."""


@dataclass(frozen=True)
class Part:
    """The figures of some rows.

    Args:
        rows: how many.
        values: the first distinct values of each filter, sorted.
        time: first and last moment in microseconds, or day in days, since 1970; None where there is none.
        scores: rows with a score, their sum (None where it overflows), and how many of them are at least 0.5.
        latencies: of the rows with a score, how many have one.
        below: how many of these lie below each range.
        inside: those inside each range, and how often.
    """

    rows: int = 0
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    time: tuple[int, int] | None = None
    scores: tuple[int, float | None, int] = (0, 0.0, 0)
    latencies: int = 0
    below: tuple[int, ...] = ()
    inside: tuple[Mapping[float, int], ...] = ()

    @property
    def kept(self) -> int:
        """How much the part takes in the metadata."""
        return sum(map(len, self.inside))

    def to_json(self) -> JsonObject:
        """As it is kept between syncs."""
        return {
            "rows": self.rows,
            "values": self.values,
            "time": self.time,
            "scores": self.scores,
            "latencies": self.latencies,
            "below": self.below,
            "inside": [list(map(list, counts.items())) for counts in self.inside],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Part:
        """What `to_json` gave."""
        return cls(
            rows=kept["rows"],
            values=kept["values"],
            time=tuple(kept["time"]) if kept["time"] else None,
            scores=tuple(kept["scores"]),
            latencies=kept["latencies"],
            below=tuple(kept["below"]),
            inside=tuple(dict(map(tuple, counts)) for counts in kept["inside"]),
        )


def summed(parts: Iterable[Part]) -> Part:
    """The figures of all rows together."""
    parts = list(parts)
    names = dict.fromkeys(name for part in parts for name in part.values)
    times = [part.time for part in parts if part.time]
    ranges = range(max((len(part.below) for part in parts), default=0))
    inside: tuple[Counter[float], ...] = tuple(Counter() for _ in ranges)
    for part in parts:
        for total, counts in zip(inside, part.inside, strict=False):
            total.update(counts)
    return Part(
        rows=sum(part.rows for part in parts),
        values={name: _first({value for part in parts for value in part.values.get(name, ())}) for name in names},
        time=(min(first for first, _ in times), max(last for _, last in times)) if times else None,
        scores=(
            sum(part.scores[0] for part in parts),
            finite_or_none(_total([part.scores[1] for part in parts])),
            sum(part.scores[2] for part in parts),
        ),
        latencies=sum(part.latencies for part in parts),
        below=tuple(sum(part.below[i] for part in parts if part.below) for i in ranges),
        inside=inside,
    )


def _total(sums: Sequence[float | None]) -> float:
    try:
        return math.fsum(math.nan if value is None else value for value in sums)
    except OverflowError:
        return math.inf


def finite_or_none(number: float) -> float | None:
    """The number, if JSON can hold it."""
    return number if math.isfinite(number) else None


def _first(values: Iterable[Any]) -> Sequence[Any]:
    return sorted(values)[:MOST_VALUES]


def percentile(part: Part, number: int, quantile: float) -> float | None:
    """A percentile of the latencies, interpolated; None where the range does not hold it.

    Args:
        part: with at least one latency.
        number: of the range.
        quantile: between 0 and 1.
    """
    position = quantile * (part.latencies - 1) - part.below[number]
    place, share = math.floor(position), position - math.floor(position)
    counts = part.inside[number]
    if place < 0 or math.ceil(position) >= sum(counts.values()):
        return None
    pair: list[float] = []
    passed = 0
    for value, count in sorted(counts.items()):
        passed += count
        while len(pair) < 2 and passed > place + len(pair):  # noqa: PLR2004 - the two ranks around the position
            pair.append(value)
    return pair[0] + (pair[1] - pair[0]) * share if share else pair[0]


def holds_percentiles(part: Part) -> bool:
    """Whether every percentile can be told from the ranges, and these have stayed small."""
    if not part.latencies:
        return True
    if len(part.below) != len(QUANTILES) or part.kept > _MOST_KEPT:
        return False
    return all(percentile(part, number, value) is not None for number, value in enumerate(QUANTILES.values()))
