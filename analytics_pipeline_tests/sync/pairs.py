"""Pairs: both tables of one moment, and what a reader may see of them.

Belongs here: rows by partition, which of them a limit leaves, and whether a view is the join of the tables beside it.
Does not: where the rows come from (`source_model`, `refresh_model`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.windows import REST, Window
from analytics_pipeline_tests.sync.source_model import Row, Rows, microseconds

MOMENTS = {"happened", "moment"}
"""Names of the incremental column in the store."""


class Pair(NamedTuple):
    """Both tables of one moment, and the kind of their join; None for a table that is not there."""

    dataset: Rows | None
    results: Rows | None
    join: str = "inner"

    def table(self, half: Half) -> Rows | None:
        return self.dataset if half is Half.DATASET else self.results


class Shown(NamedTuple):
    """What readers see at one moment."""

    dataset: Rows | None
    results: Rows | None
    view: Rows | None


def by_partition(rows: Rows | None, windows: Sequence[Window], local: bool) -> Mapping[str, list[Row]]:  # noqa: FBT001
    """Rows of one half by the key of their partition.

    Args:
        rows: of the half.
        windows: all that there are.
        local: the incremental column has no time zone.
    """
    edges = [microseconds(window.local if local else window.lower) for window in windows]
    edges.append(microseconds(windows[-1].local_end if local else windows[-1].upper))
    keys = [REST, *(window.key for window in windows), REST]
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows or ():
        at = moment_of(row)
        found[REST if at is None else keys[bisect_right(edges, at)]].append(row)
    return found


def within(pair: Pair, most: int, windows: Sequence[Window], local: bool) -> Pair | None:  # noqa: FBT001
    """What a limit of rows leaves of both tables; None where the newest partition with rows has more than that.

    Args:
        pair: both tables, whole.
        most: rows that each may have.
        windows: all that there are.
        local: the incremental column has no time zone.
    """
    keys = [*(window.key for window in reversed(windows)), REST]
    records = by_partition(pair.dataset, windows, local)
    kept = _newest_that_fit(records, keys, most)
    results = pair.results or ()
    if kept != keys:
        theirs = {dict(row).get("dataset_id") for key in kept for row in records.get(key, ())} - {None}
        results = [row for row in results if dict(row).get("dataset_id") in theirs]
    scores = by_partition(results, windows, local)
    scored = _newest_that_fit(scores, keys, most)
    if not kept or not scored:
        return None
    return Pair(_of(records, kept), _of(scores, [key for key in scored if key in kept]), pair.join)


def _newest_that_fit(rows: Mapping[str, Sequence[Row]], keys: Sequence[str], most: int) -> Sequence[str]:
    """The first keys whose rows are no more than that together; none where the first rows are more."""
    counts = [len(rows.get(key, ())) for key in keys]
    fit = sum(total <= most for total in accumulate(counts))
    return keys[:fit] if fit == len(keys) or any(counts[:fit]) else []


def _of(rows: Mapping[str, Sequence[Row]], keys: Iterable[str]) -> Rows:
    return sorted((row for key in keys for row in rows.get(key, ())), key=repr)


def is_joined(shown: Shown, join: str, left: Sequence[str]) -> bool:
    """Whether the view is the join of the tables beside it, with the newest of a record's several rows.

    Args:
        shown: all three.
        join: its kind.
        left: columns of the results.
    """
    if shown.dataset is None or shown.results is None:
        return shown.view is None
    partners = newest(shown.dataset)
    allowed: dict[Row, set[Row]] = {}
    wanted: Counter[Row] = Counter()
    for row in shown.results:
        candidates = partners.get(dict(row).get("dataset_id"), set())
        if candidates or join == "left":
            wanted[row] += 1
            allowed[row] = {renamed(each, left) for each in candidates} or {()}
    found: Counter[Row] = Counter()
    for row in shown.view or ():
        mine = tuple(item for item in row if item[0] in left)
        theirs = tuple(item for item in row if item[0] not in left)
        if theirs not in allowed.get(mine, set()):
            return False
        found[mine] += 1
    return found == wanted


def names_of(spec: SplitSyncSpec) -> tuple[str, str, str]:
    return spec.table(Half.DATASET), spec.table(Half.RESULTS), spec.view


def moment_of(row: Row) -> int | None:
    return next((int(value) for name, value in row if name in MOMENTS), None)


def newest(records: Rows) -> Mapping[Any, set[Row]]:
    """The newest row of each record; several where they are of one moment."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in records:
        if "dataset_id" in dict(row):
            found[dict(row)["dataset_id"]].append(row)
    best: dict[Any, set[Row]] = {}
    for key, rows in found.items():
        last = max((at for at in map(moment_of, rows) if at is not None), default=None)
        best[key] = {row for row in rows if moment_of(row) == last}
    return best


def renamed(record: Row, taken: Sequence[str]) -> Row:
    """A record as the view shows it: without its key, and beside a result's columns."""
    return tuple(
        sorted((f"dataset_{name}" if name in taken else name, value) for name, value in record if name != "dataset_id")
    )
