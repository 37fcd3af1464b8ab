"""Groups: rows put together by their part and filter values, so that each is read once for every question.

Belongs here: the temporary table of groups, and the figures of parts that follow from it.
Does not: which rows are put together (`counting`), the SQL of one question (`figures`).

A table has few combinations of filter values, so its groups are few; of latencies each group keeps the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analytics_pipeline.store.preview import MATCHED, PART, Preview
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.figures import Questions, listed
from analytics_pipeline.sync.part import MOST_VALUES, QUANTILES, Part, finite_or_none

_NAME = identifier("|groups")
_KEY = f"{identifier(PART)}, {identifier(MATCHED)}"
_REDUCED = ("min", "max", "sum", "fsum", "sum")
"""How each of `Questions.numbers` of several groups becomes that of all their rows."""

_RANKS_AROUND = 500
"""Ranks on both sides of a percentile that a range covers when it is chosen: some hundred thousand new rows move it."""

Range = tuple[float, float]

Side = tuple[int, bool]
"""The number of a part, and whether these of its rows have a partner."""


class Groups:
    """The groups of some rows, in a temporary table; one of these is in use at a time.

    Args:
        preview: holds the table.
        sources: SELECTs of rows with `PART`, `MATCHED` and the columns of the questions; each is read once.
        asked: questions; a name stands for the same column in all of them.
    """

    def __init__(self, preview: Preview, sources: Iterable[str], asked: Sequence[Questions]) -> None:
        self._preview = preview
        self._asked = asked
        self._filters = {name: column for questions in asked for name, column in questions.filters.items()}
        answers = dict.fromkeys(sql for each in asked for sql in (*each.numbers, each.latencies))
        self._names = {sql: f"a{number}" for number, sql in enumerate(answers)}
        values = [f"{listed(column)} AS v{number}" for number, column in enumerate(self._filters.values())]
        columns = ", ".join(
            [_KEY, *values, "count(*) AS n", *(f"{sql} AS {name}" for sql, name in self._names.items())]
        )
        into = f"CREATE OR REPLACE TEMP TABLE {_NAME} AS"
        for source in sources:
            preview.rows(f"{into} SELECT {columns} FROM ({source}) GROUP BY ALL")
            into = f"INSERT INTO {_NAME}"

    def parts(self) -> Mapping[Side, Sequence[Part]]:
        """The figures of each side's rows, once for each of the questions; those of latencies left out."""
        numbers = [
            f"{reduced}({self._names[sql]})"
            for questions in self._asked
            for reduced, sql in zip(_REDUCED, questions.numbers, strict=True)
        ]
        values = [
            f"list_slice(list_sort(list_distinct(list(v{number}))), 1, {MOST_VALUES})"
            for number in range(len(self._filters))
        ]
        columns = ", ".join([_KEY, "sum(n)", *numbers, *values])
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
