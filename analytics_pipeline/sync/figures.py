"""Figures: what is asked of a table's or view's rows, part by part, and the SQL that answers.

Belongs here: the questions that a set of columns allows, and their SQL over a temporary table.
Does not: which rows stand in that table (`counting`), or how answers are added up (`part`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analytics_pipeline.store import Column
from analytics_pipeline.store.preview import PART, Preview
from analytics_pipeline.store.schema import identifier, literal
from analytics_pipeline.sync.part import MOST_VALUES, QUANTILES, Part, finite_or_none
from analytics_pipeline.sync.spec import SplitSyncSpec

_FILTERS = ("environment", "source_name", "source_component", "source_type", "metric_name", "metric_category")
_TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_FLOATS = ("FLOAT", "DOUBLE")
_RANKS_AROUND = 500
"""Ranks on both sides of a percentile that a range covers when it is chosen: some hundred thousand new rows move it."""

Range = tuple[float, float]


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
        time=time if time and time.type in _TIMES else None,
        score=score,
        latency=_numeric(found.get("latency")) if score else None,
        metric=metric,
        visible=spec.visible_metrics or () if metric else (),
    )


def _numeric(column: Column | None) -> Column | None:
    if column and (column.type in (*_INTEGERS, *_FLOATS) or column.type.startswith("DECIMAL")):
        return column
    return None


def measured(preview: Preview, table: str, questions: Questions, where: str = "true") -> Mapping[int, Part]:
    """The figures of each part of a temporary table, those of latencies left out.

    Args:
        preview: holds the table.
        table: has `PART` and the columns of the questions.
        questions: what to ask.
        where: SQL; which of its rows count.
    """
    source = f"(SELECT * FROM {identifier(table)} WHERE {where})"
    values = _values(preview, source, questions)
    return {
        number: Part(
            rows,
            values.get(number, {}),
            None if first is None else (first, last),
            (scored, finite_or_none(total), passed),
        )
        for number, rows, first, last, scored, total, passed in _numbers(preview, source, questions)
    }


def _numbers(preview: Preview, source: str, questions: Questions) -> Sequence[tuple[Any, ...]]:
    first, last = "NULL", "NULL"
    if questions.time:
        time = identifier(questions.time.name)
        first, last = (_moment(f"{extreme}({time})", questions.time.type) for extreme in ("min", "max"))
    score, passes = score_sql(questions), "false"
    if questions.score:
        passes = f"({score}) IS NOT NULL AND {identifier(questions.score.name)} >= 0.5"
    return preview.rows(
        f"SELECT {identifier(PART)}, count(*), {first}, {last}, count({score}), coalesce(fsum({score}), 0), "
        f"count(*) FILTER ({passes}) FROM {source} GROUP BY ALL"
    )


def _moment(sql: str, type_: str) -> str:
    return f"{sql} - DATE '1970-01-01'" if type_ == "DATE" else f"epoch_us({sql})"


def _values(preview: Preview, source: str, questions: Questions) -> Mapping[int, Mapping[str, Sequence[Any]]]:
    """By part; distinct combinations first, of which there are few where every column has few values."""
    names, part = list(questions.filters), identifier(PART)
    if not names:
        return {}
    casts = [f"{_listed(questions.filters[name])} AS v{i}" for i, name in enumerate(names)]
    lists = [
        f"list_slice(list_sort(list(DISTINCT v{i}) FILTER (v{i} IS NOT NULL)), 1, {MOST_VALUES})"
        for i in range(len(names))
    ]
    distinct = f"SELECT DISTINCT {part}, {', '.join(casts)} FROM {source}"
    rows: Any = preview.rows(f"SELECT {part}, {', '.join(lists)} FROM ({distinct}) GROUP BY ALL")
    return {row[0]: {name: found or [] for name, found in zip(names, row[1:], strict=True)} for row in rows}


def _listed(column: Column) -> str:
    """A column's value as JSON can hold it: a number, a truth value, or text."""
    name = identifier(column.name)
    if column.type in _FLOATS:
        return f"CASE WHEN isfinite({name}) THEN {name}::DOUBLE END"
    return name if column.type in {"BOOLEAN", "VARCHAR", *_INTEGERS} else f"{name}::VARCHAR"


def score_sql(questions: Questions) -> str:
    """The score of a visible metric as DOUBLE; NULL for what is no finite number."""
    if questions.score is None:
        return "NULL::DOUBLE"
    visible = "true"
    if questions.metric:
        metrics = ", ".join(map(literal, questions.visible)) or "NULL"
        visible = f"{identifier(questions.metric.name)}::VARCHAR IN ({metrics})"
    return f"CASE WHEN {visible} THEN {_finite(questions.score)} END"


def latency_sql(questions: Questions) -> str:
    """The latency of a row with a score as DOUBLE; NULL for what is no finite number."""
    if questions.latency is None:
        return "NULL::DOUBLE"
    return f"CASE WHEN ({score_sql(questions)}) IS NOT NULL THEN {_finite(questions.latency)} END"


def _finite(column: Column) -> str:
    name = identifier(column.name)
    return f"CASE WHEN isfinite({name}) THEN {name}::DOUBLE END" if column.type in _FLOATS else f"{name}::DOUBLE"


def chosen_ranges(preview: Preview, table: str, column: str) -> Sequence[Range]:
    """Ranges around each percentile; none where there is no latency.

    Args:
        preview: holds the table.
        table: a temporary table of latencies.
        column: of the table; see `latency_sql`.
    """
    name, source = identifier(column), identifier(table)
    found: Any = preview.rows(f"SELECT count({name}) FROM {source}")
    if not (total := found[0][0]):
        return ()
    around = _RANKS_AROUND / total
    bounds = [max(value - around, 0.0) for value in QUANTILES.values()]
    bounds += [min(value + around, 1.0) for value in QUANTILES.values()]
    found = preview.rows(f"SELECT quantile_disc({name}, {bounds}) FROM {source}")
    return list(zip(found[0][0][: len(QUANTILES)], found[0][0][len(QUANTILES) :], strict=True))


def with_latencies(
    preview: Preview, table: str, column: str, ranges: Sequence[Range], parts: Mapping[int, Part]
) -> Mapping[int, Part]:
    """The parts with their figures of latencies; arguments as for `chosen_ranges`."""
    name = identifier(column)
    below = [f"count(*) FILTER ({name} < {low!r}::DOUBLE)" for low, _ in ranges]
    inside = [f"histogram({name}) FILTER ({name} BETWEEN {low!r}::DOUBLE AND {high!r}::DOUBLE)" for low, high in ranges]
    rows: Any = preview.rows(
        f"SELECT {', '.join([identifier(PART), f'count({name})', *below, *inside])} "
        f"FROM {identifier(table)} GROUP BY ALL"
    )
    found = {row[0]: row[1:] for row in rows}
    nothing = (0, *(0 for _ in ranges), *(None for _ in ranges))
    return {number: _with(part, found.get(number, nothing), len(ranges)) for number, part in parts.items()}


def _with(part: Part, row: Sequence[Any], ranges: int) -> Part:
    return replace(
        part,
        latencies=row[0],
        below=tuple(row[1 : 1 + ranges]),
        inside=tuple(dict(counts or {}) for counts in row[1 + ranges :]),
    )
