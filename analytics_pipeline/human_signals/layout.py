"""The layout: the columns that cases have beyond those that every case has, and the types of these.

Belongs here: which signal becomes which column. Does not: filling columns (`cases`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analytics_pipeline.human_signals.schema import Profile

MOST_COLUMNS = 5_000
"""Of cases. Beyond it the rarest signals get none: somebody writes identifiers as the names of signals."""


@dataclass(frozen=True)
class SignalColumn:
    """A column made of signals.

    Args:
        name: of the column.
        type: in SQL.
        signal: whose values it holds.
        metric: of which metric; None for the common metadata of all.
    """

    name: str
    type: str
    signal: str
    metric: str | None


@dataclass(frozen=True)
class Layout:
    """The columns of cases.

    Args:
        metrics: that there are; they tell one layout from another, though a metric without signals has no column.
        columns: of common metadata, then of signals.
        left_out: signals that have no column, for there are too many.
    """

    metrics: tuple[str, ...]
    columns: tuple[SignalColumn, ...]
    left_out: int = 0

    @property
    def common(self) -> Sequence[str]:
        """Signals that are a column of the case."""
        return [column.signal for column in self.columns if column.metric is None]


def layout_of(profile: Profile, taken: Iterable[str]) -> Layout:
    """The columns that follow from all signals.

    Args:
        profile: of all signals.
        taken: names of the columns that cases have anyway; common metadata of these names has no column of its own.
    """
    used = {name.lower() for name in taken}
    common = [name for name in profile.common if _plain(name).lower() not in used]
    columns = [
        SignalColumn(_free(_plain(name), used), _type(_types_everywhere(profile, name)), name, None) for name in common
    ]
    everywhere = frozenset(profile.common)
    signals = [(metric, name) for metric, name in profile.types if name not in everywhere]
    shown = sorted(sorted(signals, key=lambda signal: (-profile.rows[signal], signal))[:MOST_COLUMNS])
    for metric, name in shown:
        column = _free(_plain(f"{metric}__{name}"), used)
        columns.append(SignalColumn(column, _type(profile.types[metric, name]), name, metric))
    return Layout(tuple(sorted(profile.categories)), tuple(columns), len(signals) - len(shown))


def _types_everywhere(profile: Profile, name: str) -> frozenset[str]:
    return frozenset().union(*(types for (_, signal), types in profile.types.items() if signal == name))


def _type(types: frozenset[str]) -> str:
    """The SQL type that holds values of some types; text where they have little in common."""
    if not types:
        return "VARCHAR"
    if types <= {"boolean"}:
        return "BOOLEAN"
    if types <= {"integer"}:
        return "BIGINT"
    return "DOUBLE" if types <= {"integer", "number"} else "VARCHAR"


def _plain(name: str) -> str:
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _free(name: str, used: set[str]) -> str:
    """The name, or with a number behind it where SQL could not tell it from a used one."""
    free = next(candidate for candidate in _numbered(name) if candidate.lower() not in used)
    used.add(free.lower())
    return free


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
