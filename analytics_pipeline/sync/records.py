"""Records: what a change of the dataset half means for the join, found without reading what did not change.

Belongs here: whether some record has several rows, and which results have another partner than before.
Does not: what is counted of the join (`metadata`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from analytics_pipeline.store import Table
from analytics_pipeline.store.preview import PART, Preview
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.counting import content_of
from analytics_pipeline.sync.plan import KEY
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

_CHANGED = identifier("|records changed")
"""Keys of the replaced partitions' records that are not as they were: `was` and `will` count their rows."""


@dataclass(frozen=True)
class RecordChange:
    """How the records of the next version differ from the published ones.

    Args:
        doubled: some record will have several rows.
        replaced: keys of the partitions that differ.
        comparable: the records of these partitions before and after are at hand, and each has one row.
    """

    doubled: bool
    replaced: frozenset[str]
    comparable: bool


def changed_records(preview: Preview, spec: SplitSyncSpec, columns: Collection[str]) -> RecordChange:
    """Compare the records of the next version with the published ones.

    Args:
        preview: of the change.
        spec: of the dataset.
        columns: of the dataset half; those of which a change matters.
    """
    name = spec.table(Half.DATASET)
    before, after = preview.published.tables.get(name), preview.following.tables[name]
    view = preview.published.views.get(spec.view)
    replaced = _replaced(before, after)
    if before is not None and view is not None and not replaced:
        return RecordChange(view.newest_by is not None, replaced, comparable=True)
    kept = after.partitions.keys() - replaced
    if before is None or view is None or view.newest_by or not kept or not preview.is_whole(before, replaced):
        return RecordChange(_counts_differ(preview, name), replaced, comparable=False)
    if not {column.lower() for column in (KEY, *columns)} <= {column.name.lower() for column in before.columns}:
        return RecordChange(_counts_differ(preview, name), replaced, comparable=False)
    _hold_changes(preview, before, after, replaced, columns)
    doubled = _is_any(preview, "will > 1") or _has_added(preview, after, kept)
    return RecordChange(doubled, replaced, comparable=not doubled)


def _replaced(before: Table | None, after: Table) -> frozenset[str]:
    old, new = (
        {key: content_of(part) for key, part in table.partitions.items()} if table else {} for table in (before, after)
    )
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _counts_differ(preview: Preview, table: str) -> bool:
    counted = f"SELECT count({KEY}) > count(DISTINCT {KEY}) FROM {identifier(table)}"
    return bool(preview.rows(counted)[0][0])


def _hold_changes(
    preview: Preview, before: Table, after: Table, replaced: Collection[str], columns: Collection[str]
) -> None:
    """Make the temporary table of the records that are not as they were."""
    selected = ", ".join(map(identifier, dict.fromkeys((KEY, *columns))))
    old, new = (f"FROM ({preview.partitions_sql(table, {0: replaced})})" for table in (before, after))
    preview.rows(
        f"CREATE TEMP TABLE {_CHANGED} AS SELECT {KEY}, count(*) FILTER (NOT is_new) AS was, "
        f"count(*) FILTER (is_new) AS will "
        f"FROM (SELECT false AS is_new, {selected} {old} UNION ALL SELECT true, {selected} {new}) "
        f"WHERE {KEY} IS NOT NULL GROUP BY {KEY} HAVING was <> 1 OR will <> 1{_differ(columns)}"
    )


def _differ(columns: Collection[str]) -> str:
    """SQL; whether a key's one row before and its one row after differ in some column."""
    return "".join(
        f" OR any_value({name}) FILTER (NOT is_new) IS DISTINCT FROM any_value({name}) FILTER (is_new)"
        for name in map(identifier, columns)
    )


def _is_any(preview: Preview, condition: str) -> bool:
    return bool(preview.rows(f"SELECT 1 FROM {_CHANGED} WHERE {condition} LIMIT 1"))


def _has_added(preview: Preview, after: Table, kept: Collection[str]) -> bool:
    """Whether a partition that stays holds a record that a replaced one brings."""
    if not has_added_records(preview):
        return False
    rows = preview.partitions_sql(after, {0: kept})
    added = f"(SELECT {KEY} FROM {_CHANGED} WHERE was = 0)"
    return bool(preview.rows(f"SELECT 1 FROM ({rows}) SEMI JOIN {added} USING ({KEY}) LIMIT 1"))


def touched_results(preview: Preview, results: Table, groups: Mapping[int, Collection[str]]) -> frozenset[int]:
    """Those groups of results partitions of which a result has a record that is gone or another one.

    Args:
        preview: for which `changed_records` found comparable records and replaced partitions.
        results: of the next version.
        groups: keys of partitions, by number.
    """
    if not _is_any(preview, "was > 0"):
        return frozenset()
    rows = preview.partitions_sql(results, groups)
    part, gone = identifier(PART), f"(SELECT {KEY} FROM {_CHANGED} WHERE was > 0)"
    found = preview.rows(f"SELECT DISTINCT {part} FROM ({rows}) SEMI JOIN {gone} USING ({KEY})")
    return frozenset(int(str(row[0])) for row in found)


def has_added_records(preview: Preview) -> bool:
    """Whether there is a record that was not published before; as for `touched_results`."""
    return _is_any(preview, "was = 0")
