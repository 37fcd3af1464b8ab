"""The metric schema: which metrics there are, their signals, the types and values of these.

Belongs here: what is counted of all signals (`Profile`), the schema as JSON. Does not: taking rows apart (`signals`),
the columns of the cases (`layout`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from analytics_pipeline.human_signals.frames import asked
from analytics_pipeline.human_signals.rows import SOURCE_FIELDS, TIMESTAMP, case_rows
from analytics_pipeline.human_signals.signals import signals_of
from analytics_pipeline.store import JsonObject

MOST_VALUES = 1_000
"""Of one signal that are listed: the schema travels with every version of the store, and free text has no end."""

_NUMBERS = ("integer", "number")
_KINDS = f"""
SELECT metric, category, signal, type, sum(rows)::BIGINT AS rows,
       list_sort(list(text) FILTER (WHERE regexp_matches(text, '\\S')))[:{MOST_VALUES}] AS texts
FROM (SELECT metric, category, signal, type, CASE WHEN type = 'string' THEN value END AS text, count(*) AS rows
      FROM ({{signals}}) GROUP BY ALL)
GROUP BY ALL
"""
_FIRST_CATEGORIES = """
SELECT metric, arg_min(category, {order}) AS category FROM ({signals}) WHERE metric IS NOT NULL GROUP BY metric
"""
_FIRST_TYPES = """
SELECT metric, signal, arg_min(type, {order}) AS type FROM ({signals})
WHERE metric IS NOT NULL AND type <> 'null' GROUP BY ALL
"""
Signal = tuple[str, str]
"""A metric and the name of one of its signals."""


@dataclass(frozen=True)
class Profile:
    """What all signals have in common, counted.

    Args:
        categories: of every metric, that of its first row.
        types: of every signal, all that its values have; `null` is none.
        first: of every signal, the type of its first value that is not null.
        rows: how many rows have a signal.
        values: of every signal with texts, the first distinct ones that are not blank, sorted.
        blank: rows without the name of a metric, which are skipped.
    """

    categories: Mapping[str, str]
    types: Mapping[Signal, frozenset[str]]
    first: Mapping[Signal, str]
    rows: Mapping[Signal, int]
    values: Mapping[Signal, Sequence[str]]
    blank: int = 0

    @property
    def common(self) -> Sequence[str]:
        """Names that stand in more than half of the metrics, where there are two metrics or more: no signals."""
        metrics = len(self.categories)
        names = [name for _, name in self.types]
        return sorted({name for name in names if metrics > 1 and names.count(name) * 2 > metrics})


def profile_of(ask: Callable[[str], pl.DataFrame], signals: str, order: str) -> Profile:
    """Count signals.

    Args:
        ask: runs a query.
        signals: a SELECT of `metric`, `category`, `signal`, `type`, `value`.
        order: SQL over `signals` that puts its rows in order.
    """
    counted = ask(_KINDS.format(signals=signals))
    kinds = counted.drop_nulls("metric")
    categories = dict(kinds.select("metric", "category").unique().iter_rows())
    if kinds.select("metric", "category").n_unique() > len(categories):
        categories = dict(ask(_FIRST_CATEGORIES.format(signals=signals, order=order)).iter_rows())
    types: dict[Signal, frozenset[str]] = {}
    rows: dict[Signal, int] = {}
    values: dict[Signal, set[str]] = {}
    for metric, _, signal, type_, count, texts in kinds.iter_rows():
        if signal is not None:
            types[metric, signal] = types.get((metric, signal), frozenset()) | ({type_} - {"null"})
            rows[metric, signal] = rows.get((metric, signal), 0) + count
            values.setdefault((metric, signal), set()).update(texts or ())
    first = {signal: next(iter(several)) for signal, several in types.items() if several}
    if any(len(several) > 1 for several in types.values()):
        asked_first = ask(_FIRST_TYPES.format(signals=signals, order=order))
        first = {(metric, signal): type_ for metric, signal, type_ in asked_first.iter_rows()}
    listed = {signal: sorted(texts)[:MOST_VALUES] for signal, texts in values.items()}
    blank = int(counted.filter(pl.col("metric").is_null())["rows"].sum())
    return Profile(categories, types, first, rows, listed, blank)


def profile_of_frame(signals: pl.DataFrame) -> Profile:
    """Count signals in the order of their rows."""
    return profile_of(lambda sql: asked(sql, {"signals": signals}), "FROM signals", "row")


def build_metric_schema(frame: pl.DataFrame, visible_metrics: Collection[str] | None = None) -> JsonObject:
    """The metric schema of joined human-signals rows.

    Args:
        frame: one row per case and metric; its order is the rows' order.
        visible_metrics: leave other metrics out; None for all.

    Returns:
        `metrics`, each with `category`, `signals`, `signal_types` and `values`; `source_fields`; `has_timestamp`.

    Raises:
        CaseColumnsMissing: the frame has no `dataset_id`, `metric_name` or `signals`.
    """
    return metric_schema(profile_of_frame(signals_of(case_rows(frame))), frame.columns, visible_metrics)


def metric_schema(profile: Profile, columns: Collection[str], visible_metrics: Collection[str] | None) -> JsonObject:
    """The metric schema that follows from a profile.

    Args:
        profile: of all signals.
        columns: of the joined rows.
        visible_metrics: as for `build_metric_schema`.
    """
    common = frozenset(profile.common)
    names: dict[str, list[str]] = {metric: [] for metric in sorted(profile.categories)}
    for metric, signal in sorted(profile.types):
        if signal not in common:
            names[metric].append(signal)
    return {
        "metrics": {
            metric: _metric(profile, metric, signals)
            for metric, signals in names.items()
            if visible_metrics is None or metric in visible_metrics
        },
        "source_fields": [name for name in SOURCE_FIELDS if name in columns],
        "has_timestamp": TIMESTAMP in columns,
    }


def _metric(profile: Profile, metric: str, signals: Sequence[str]) -> JsonObject:
    types = {signal: _shown(profile.first.get((metric, signal), "unknown")) for signal in signals}
    return {
        "category": profile.categories[metric],
        "signals": signals,
        "signal_types": types,
        "values": {
            signal: list(profile.values.get((metric, signal), ())) for signal in signals if types[signal] == "string"
        },
    }


def _shown(type_: str) -> str:
    return "number" if type_ in _NUMBERS else type_
