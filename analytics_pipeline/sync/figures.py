"""Figures: what is asked of a table's or view's rows, and the SQL of the answers.

Belongs here: the questions that a set of columns allows, and each as SQL over rows.
Does not: which rows are asked and when (`counting`), or how answers are put together (`groups`, `part`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analytics_pipeline.store import Column
from analytics_pipeline.store.moments import INTEGERS, TIMES
from analytics_pipeline.store.schema import identifier, literal
from analytics_pipeline.sync.spec import SplitSyncSpec

_FILTERS = ("environment", "source_name", "source_component", "source_type", "metric_name", "metric_category")
_FLOATS = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Questions:
    """What can be asked of rows with certain columns.

    Args:
        filters: column by the name under which its values are listed.
        time: the column `timestamp`, where it holds times.
        score: the column `metric_score`, where it holds numbers.
        latency: the column `latency`, where it holds numbers and there are scores.
        metric: the column that `visible_metrics` are looked for in; None where all metrics are visible.
        visible: those metrics.
    """

    filters: Mapping[str, Column] = field(default_factory=dict)
    time: Column | None = None
    score: Column | None = None
    latency: Column | None = None
    metric: Column | None = None
    visible: tuple[str, ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """Names of all columns that are asked about."""
        single = (self.time, self.score, self.latency, self.metric)
        return frozenset(column.name for column in (*self.filters.values(), *single) if column)

    @property
    def numbers(self) -> tuple[str, str, str, str, str]:
        """SQL over rows: first and last time, how many scores, their sum, how many of them pass."""
        first, last = "NULL::BIGINT", "NULL::BIGINT"
        if self.time:
            first, last = (_moment(f"{extreme}({identifier(self.time.name)})", self.time) for extreme in ("min", "max"))
        if self.score is None:
            return first, last, "0", "0.0::DOUBLE", "0"
        score, passes = self._score, f"{identifier(self.score.name)} >= 0.5"
        return (
            first,
            last,
            f"count({score})",
            f"coalesce(fsum({score}), 0)",
            f"count(*) FILTER (({score}) IS NOT NULL AND {passes})",
        )

    @property
    def latencies(self) -> str:
        """SQL over rows: the list of the latencies of those with a score."""
        if self.latency is None:
            return "NULL::DOUBLE[]"
        latency = _finite(self.latency)
        return f"list({latency}) FILTER (({self._score}) IS NOT NULL AND ({latency}) IS NOT NULL)"

    @property
    def _score(self) -> str:
        """The score of a visible metric; NULL for what is no finite number."""
        assert self.score is not None, "asked for where there are scores"
        score = _finite(self.score)
        if self.metric is None:
            return score
        metrics = ", ".join(map(literal, self.visible)) or "NULL"
        return f"CASE WHEN {identifier(self.metric.name)}::VARCHAR IN ({metrics}) THEN {score} END"


def questions_of(columns: Sequence[Column], spec: SplitSyncSpec) -> Questions:
    """The questions that a table's or view's columns allow. Lists and bytes have no filter values."""
    found = {column.name.lower(): column for column in columns}
    names = dict.fromkeys((*_FILTERS, *spec.filter_columns))
    score = _numeric(found.get("metric_score"))
    metric = found.get("metric_name") if score and spec.visible_metrics is not None else None
    time = found.get("timestamp")
    return Questions(
        filters={
            name: found[name.lower()]
            for name in names
            if name.lower() in found and not found[name.lower()].type.endswith(("[]", "BLOB"))
        },
        time=time if time and time.type in TIMES else None,
        score=score,
        latency=_numeric(found.get("latency")) if score else None,
        metric=metric,
        visible=spec.visible_metrics or () if metric else (),
    )


def _numeric(column: Column | None) -> Column | None:
    if column and (column.type in (*INTEGERS, *_FLOATS) or column.type.startswith("DECIMAL")):
        return column
    return None


def _moment(sql: str, column: Column) -> str:
    return f"({sql} - DATE '1970-01-01')::BIGINT" if column.type == "DATE" else f"epoch_us({sql})"


def _finite(column: Column) -> str:
    name = identifier(column.name)
    return f"CASE WHEN isfinite({name}) THEN {name}::DOUBLE END" if column.type in _FLOATS else f"{name}::DOUBLE"


def listed(column: Column) -> str:
    """SQL; a column's value as JSON can hold it: a number, a truth value, or text."""
    name = identifier(column.name)
    if column.type in _FLOATS:
        return _finite(column)
    return name if column.type in {"BOOLEAN", "VARCHAR", *INTEGERS} else f"{name}::VARCHAR"
