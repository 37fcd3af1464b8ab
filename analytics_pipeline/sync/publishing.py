"""Publishing: from what was read to one commit, checked before readers can see it.

Belongs here: the change of both tables and the view, declared keys, the commit. Does not: reading (`reading`), the
order of a sync (`engine`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from analytics_pipeline.errors import DuplicateKeys
from analytics_pipeline.store import Change, Manifest, Preview, Replace, Stage, Store, TableChange
from analytics_pipeline.store.schema import columns_of, identifier
from analytics_pipeline.sync.derived import derivation_of
from analytics_pipeline.sync.metadata import dataset_figures, is_counted
from analytics_pipeline.sync.plan import KEY, HalfPlan
from analytics_pipeline.sync.reading import HalfRead, Log
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.view import INCREMENTAL_COLUMN, joined_view
from analytics_pipeline.sync.windows import REST

_EXAMPLES = 3
_WATERMARK = "watermark"

CHECKED_KEY = "primary_key"
"""In a table's metadata: the key that was found unique at its last commit."""


@dataclass(frozen=True)
class Publishing:
    """How a dataset is published.

    Args:
        spec: of the dataset.
        store: to publish in.
        log: gets a line for what people should know.
    """

    spec: SplitSyncSpec
    store: Store
    log: Log

    def commit(
        self, stage: Stage, plans: Mapping[Half, HalfPlan], reads: Sequence[HalfRead], whole: Replace
    ) -> Manifest:
        """Publish what was read; commit nothing where nothing was read and the view is as it should be.

        Args:
            stage: holds the files.
            plans: of both halves.
            reads: the halves that were read.
            whole: what a half replaces of which every partition was read.

        Raises:
            DuplicateKeys: rows share a key that the spec declares.
            StoreError: the store refused the commit.
        """
        tables = [
            TableChange(
                read.plan.table,
                columns_of(read.plan.schema),
                read.partitions,
                replace=whole if read.whole else Replace.PARTITIONS,
            )
            for read in reads
        ]
        current = self.store.manifest()
        if not tables and (self._is_published(current) or not self._is_complete(current)):
            return current
        dataset, fresh = plans[Half.DATASET], {table.name for table in tables}
        times = {
            plan.table: plan.time_column if plan.table in fresh else _kept(current, plan.table, INCREMENTAL_COLUMN)
            for plan in plans.values()
        }
        with self.store.preview(stage, Change(tables, [joined_view(self.spec, None)])) as preview:
            keys = {plan.table: self._checked_key(preview, plan, plan.table in fresh) for plan in plans.values()}
            figures = dataset_figures(preview, self.spec, times[dataset.table] or KEY)
            views = [figures.view] if self._is_complete(preview.following) else []  # or it would not know the records
            metadata = dict(figures.metadata)
            for plan in plans.values():
                if plan.table in metadata:
                    mark = watermark(preview, plan) if plan.table in fresh else _kept(current, plan.table, _WATERMARK)
                    own = {INCREMENTAL_COLUMN: times[plan.table], _WATERMARK: mark, CHECKED_KEY: keys[plan.table]}
                    metadata[plan.table] = {**metadata[plan.table], **own}
        if figures.doubled_keys and tables:
            self.log(f"{dataset.table}: some {KEY} have several rows; {self.spec.view} joins the newest of each.")
        change = Change(tables, views, metadata)
        return self.store.commit(stage, self._with_derived(stage, change) if views else change)

    def _checked_key(self, preview: Preview, plan: HalfPlan, read: bool) -> list[str] | None:  # noqa: FBT001
        """The key of a table that is unique, as its spec declares it; None where it declares none."""
        declared = _declared(self.spec, plan.half)
        checked = _kept_value(preview.published, plan.table, CHECKED_KEY)
        if not read and (checked == declared or plan.is_other_than(preview.published.tables.get(plan.table))):
            return [str(column) for column in checked] if isinstance(checked, list) else None
        refuse_duplicates(preview, plan, declared or ())
        return declared

    def _with_derived(self, stage: Stage, change: Change) -> Change:
        """The change with what follows from the rows, so that nobody sees one without the other."""
        written = [partition.sync_id for table in change.tables for partition in table.partitions]
        sync_id, view = [*written, stage.sync_id][0], change.views[0]
        derived = derivation_of(self.spec, self.log).derive(self.store, stage, change, view, sync_id)
        return replace(
            change, tables=[*change.tables, *derived.tables], metadata={**change.metadata, **derived.metadata}
        )

    def _is_published(self, manifest: Manifest) -> bool:
        if not derivation_of(self.spec).is_current(self.store, joined_view(self.spec, None)):
            return False
        return spec_is_published(manifest, self.spec) and all(
            _declared(self.spec, half) == _kept_value(manifest, self.spec.table(half), CHECKED_KEY) for half in Half
        )

    def _is_complete(self, manifest: Manifest) -> bool:
        return all(self.spec.table(half) in manifest.tables for half in Half)


def spec_is_published(manifest: Manifest, spec: SplitSyncSpec) -> bool:
    """Whether view and metadata of a dataset are as its spec asks for."""
    view = manifest.views.get(spec.view)
    return view is not None and view == joined_view(spec, view.newest_by) and is_counted(manifest, spec)


def _kept(published: Manifest, table: str, key: str) -> str | None:
    """What the last read of a table said: by now its spec may give its columns other names."""
    value = _kept_value(published, table, key)
    return None if value is None else str(value)


def _kept_value(published: Manifest, table: str, key: str) -> object:
    metadata = published.metadata.get(table)
    return metadata.value.get(key) if metadata else None


def _declared(spec: SplitSyncSpec, half: Half) -> list[str] | None:
    return list(spec.primary_key.get(half, ())) or None


def watermark(preview: Preview, plan: HalfPlan) -> str | None:
    """The greatest value of a half's incremental column, in ISO 8601 or as its integer; None without any.

    It is in the last window that has rows, or among the rows of none.
    """
    if plan.time_column is None:
        return None
    table = preview.following.tables[plan.table]
    filled = [key for key, partition in table.partitions.items() if partition.rows and key != REST]
    last = [*filled[-1:], *(key for key in table.partitions if key == REST)]
    column = identifier(plan.time_column)
    rows = preview.rows(f"SELECT max({column}) FROM ({preview.partitions_sql(table, {0: last})})")
    greatest = rows[0][0]
    if isinstance(greatest, (date, datetime)):
        return greatest.isoformat()
    return None if greatest is None else str(greatest)


def refuse_duplicates(preview: Preview, plan: HalfPlan, key: Sequence[str]) -> None:
    """Refuse a table in which rows share a declared key.

    Args:
        preview: of the table as it will be.
        plan: of the half.
        key: columns of the source's query; none where none is declared.

    Raises:
        DuplicateKeys: names the columns, how many keys, and some of them with their partitions.
    """
    if not key:
        return
    columns = ", ".join(identifier(plan.names[name]) for name in key)
    doubled = f"SELECT {columns} FROM {identifier(plan.table)} GROUP BY ALL HAVING count(*) > 1"
    found = preview.rows(f"SELECT count(*) FROM ({doubled})")
    (count,) = found[0]
    if not count:
        return
    at = _moment(plan)
    equal = " AND ".join(f"t.{column} IS NOT DISTINCT FROM d.{column}" for column in columns.split(", "))
    rows = preview.rows(
        f"WITH d AS (SELECT * FROM ({doubled}) ORDER BY ALL LIMIT {_EXAMPLES}) "
        f"SELECT {', '.join(f'd.{column}::VARCHAR' for column in columns.split(', '))}, list({at}) "
        f"FROM d JOIN {identifier(plan.table)} AS t ON {equal} GROUP BY ALL ORDER BY ALL"
    )
    raise DuplicateKeys(plan.table, list(key), int(str(count)), [_example(plan, row) for row in rows])


def _moment(plan: HalfPlan) -> str:
    """The incremental column as the integers of the plan's thresholds; nothing where there is none."""
    if plan.cut.column is None:
        return "NULL::BIGINT"
    field = plan.schema.field(plan.cut.column)
    column = f"t.{identifier(field.name)}"
    if str(field.type).startswith("timestamp"):
        return f"epoch_us({column})"
    return f"({column} - DATE '1970-01-01')::BIGINT" if str(field.type).startswith("date") else f"{column}::BIGINT"


def _example(plan: HalfPlan, row: Sequence[object]) -> str:
    *values, moments = row
    assert isinstance(moments, list), "DuckDB's list() gives one"
    keys = sorted({plan.cut.keys[0 if m is None else bisect_right(plan.cut.thresholds, m)] for m in moments})
    return f"{', '.join(map(str, values))} ({len(moments)} rows, partition {', '.join(keys)})"
