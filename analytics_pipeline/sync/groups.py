"""Groups: rows put together by their part and filter values, so that each is read once for every question.

Belongs here: the temporary table of groups, and the figures of parts that follow from it.
Does not: which rows are put together (`counting`), the SQL of one question (`figures`).

Most tables have few combinations of filter values, so their groups are few; of latencies each group keeps the list.
Filters that would make many groups are asked for their values by themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from analytics_pipeline.store.preview import MATCHED, PART, Preview
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.figures import Questions, listed
from analytics_pipeline.sync.part import MOST_VALUES, QUANTILES, Part, finite_or_none

_NAME = identifier("|groups")
_CREATE = f"CREATE OR REPLACE TEMP TABLE {_NAME} AS "
_KEY = f"{identifier(PART)}, {identifier(MATCHED)}"
_REDUCED = ("min", "max", "sum", "fsum", "sum")
"""How each of `Questions.numbers` of several groups becomes that of all their rows."""

_MOST_GROUPS = 10_000
"""Groups in the first source above which filters with many values are asked by themselves: 3M groups take 1 GB."""

_RANKS_AROUND = 500
"""Ranks on both sides of a percentile that a range covers when it is chosen: some hundred thousand new rows move it."""

Range = tuple[float, float]

Side = tuple[int, bool]
"""The number of a part, and whether these of its rows have a partner."""


class Groups:
    """The groups of some rows, in a temporary table; one of these is in use at a time.

    Args:
        preview: holds the table.
        sources: SELECTs of rows with `PART`, `MATCHED` and the columns of the questions; the first is to be typical.
        asked: questions; a name stands for the same column in all of them.
    """

    def __init__(self, preview: Preview, sources: Iterable[str], asked: Sequence[Questions]) -> None:
        self._preview = preview
        self._asked = asked
        self._filters = {name: column for questions in asked for name, column in questions.filters.items()}
        answers = dict.fromkeys(sql for each in asked for sql in (*each.numbers, each.latencies))
        self._names = {sql: f"a{number}" for number, sql in enumerate(answers)}
        self._values = {f"v{number}": listed(column) for number, column in enumerate(self._filters.values())}
        alone: frozenset[str] = frozenset()
        for number, source in enumerate(sources):
            if number == 1:
                alone = self._filters_of_many_groups()
            groups = self._groups_sql(source, alone)
            preview.rows(f"INSERT INTO {_NAME} BY NAME {groups}" if number else _CREATE + groups)
            for value in alone:
                preview.rows(f"INSERT INTO {_NAME} BY NAME {self._values_sql(source, value)}")

    def _groups_sql(self, source: str, without: Collection[str]) -> str:
        values = [f"{sql} AS {value}" for value, sql in self._values.items() if value not in without]
        answers = [f"{sql} AS {name}" for sql, name in self._names.items()]
        return f"SELECT {', '.join([_KEY, *values, 'count(*) AS n', *answers])} FROM ({source}) GROUP BY ALL"

    def _values_sql(self, source: str, value: str) -> str:
        """Groups of no rows that hold the values of one filter."""
        distinct = f"SELECT DISTINCT {_KEY}, {self._values[value]} AS {value} FROM ({source})"
        return f"SELECT {_KEY}, unnest({_first(value)}) AS {value}, 0 AS n FROM ({distinct}) GROUP BY {_KEY}"

    def _filters_of_many_groups(self) -> frozenset[str]:
        """Without these filters there are few groups; those with the most values go first."""
        counts = "".join(f", count(DISTINCT {value})" for value in self._values)
        found: Any = self._preview.rows(f"SELECT count(*){counts} FROM {_NAME}")
        if found[0][0] <= _MOST_GROUPS:
            return frozenset()
        by_count = sorted(zip(found[0][1:], self._values, strict=True))
        groups = accumulate((max(count, 1) for count, _ in by_count), operator.mul)
        return frozenset(value for (_, value), many in zip(by_count, groups, strict=True) if many > _MOST_GROUPS)

    def parts(self) -> Mapping[Side, Sequence[Part]]:
        """The figures of each side's rows, once for each of the questions; those of latencies left out."""
        numbers = [
            f"{reduced}({self._names[sql]})"
            for questions in self._asked
            for reduced, sql in zip(_REDUCED, questions.numbers, strict=True)
        ]
        columns = ", ".join([_KEY, "sum(n)", *numbers, *map(_first, self._values)])
        rows: Any = self._preview.rows(f"SELECT {columns} FROM {_NAME} GROUP BY ALL")
        return {(row[0], bool(row[1])): self._parts(row[2], row[3:]) for row in rows}

    def _parts(self, rows: int, answers: Sequence[Any]) -> Sequence[Part]:
        size = len(_REDUCED)
        found = dict(zip(self._filters, answers[size * len(self._asked) :], strict=True))
        parts = []
        for number, questions in enumerate(self._asked):
            first, last, scored, total, passed = answers[size * number : size * (number + 1)]
            values = {name: found[name] or [] for name in questions.filters}
            time = None if first is None else (first, last)
            parts.append(Part(rows, values, time, (scored, finite_or_none(total), passed)))
        return parts

    def ranges(self, questions: Questions, where: str) -> Sequence[Range]:
        """Ranges around each percentile of the latencies; none where there is no latency.

        Args:
            questions: of those asked.
            where: SQL; which groups count.
        """
        latencies = f"(SELECT unnest({self._names[questions.latencies]}) AS x FROM {_NAME} WHERE {where})"
        found: Any = self._preview.rows(f"SELECT count(*) FROM {latencies}")
        if not (total := found[0][0]):
            return ()
        around = _RANKS_AROUND / total
        bounds = [max(value - around, 0.0) for value in QUANTILES.values()]
        bounds += [min(value + around, 1.0) for value in QUANTILES.values()]
        found = self._preview.rows(f"SELECT quantile_disc(x, {bounds}) FROM {latencies}")
        return list(zip(found[0][0][: len(QUANTILES)], found[0][0][len(QUANTILES) :], strict=True))

    def with_latencies(
        self, questions: Questions, ranges: Sequence[Range], parts: Mapping[Side, Part]
    ) -> Mapping[Side, Part]:
        """Some sides' figures with those of latencies, by these ranges."""
        below = [f"count(*) FILTER (x < {low!r}::DOUBLE)" for low, _ in ranges]
        is_inside = " OR ".join(f"x BETWEEN {low!r}::DOUBLE AND {high!r}::DOUBLE" for low, high in ranges) or "false"
        columns = ", ".join([_KEY, f"CASE WHEN {is_inside} THEN x END", "count(*)", *below])
        latencies = f"(SELECT {_KEY}, unnest({self._names[questions.latencies]}) AS x FROM {_NAME})"
        rows: Any = self._preview.rows(f"SELECT {columns} FROM {latencies} GROUP BY ALL")
        found: dict[Side, list[Any]] = {}
        for row in rows:
            found.setdefault((row[0], bool(row[1])), []).append(row[2:])
        return {side: _with(part, found.get(side, ()), ranges) for side, part in parts.items()}


def _first(value: str) -> str:
    return f"list_slice(list_sort(list_distinct(list({value}))), 1, {MOST_VALUES})"


def _with(part: Part, rows: Sequence[tuple[Any, ...]], ranges: Sequence[Range]) -> Part:
    """A part with its latencies; rows of a latency inside a range or None, how often, and how many lie below each."""
    return replace(
        part,
        latencies=sum(row[1] for row in rows),
        below=tuple(sum(row[2 + number] for row in rows) for number in range(len(ranges))),
        inside=tuple(
            {row[0]: row[1] for row in rows if row[0] is not None and low <= row[0] <= high} for low, high in ranges
        ),
    )
