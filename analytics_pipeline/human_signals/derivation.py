"""The derivation: a dataset's cases and their signals, brought up to date in the commit that changes its rows.

Belongs here: what is made anew and what is kept. Does not: when a dataset is synced (`sync`), the SQL over its rows
(`source`), what cases are (`cases`).

Two tables follow from the rows. `<dataset>_case_signals` has a row for each signal of each row: from it alone follow
the metric schema and the columns of the cases, and nothing is parsed twice. `<dataset>_cases` has a row for each case.
Where those columns are as they were, only the cases whose rows changed are made again; else all are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from analytics_pipeline.human_signals.buckets import (
    BUCKET,
    BucketWriting,
    buckets_for,
    groups_of,
    is_outgrown,
    key_of,
    unchanged_rows,
)
from analytics_pipeline.human_signals.case_metadata import cases_metadata, table_metadata
from analytics_pipeline.human_signals.cases import cases_of
from analytics_pipeline.human_signals.heads import CASE_ID, CASE_TIME, head_names, heads_of
from analytics_pipeline.human_signals.layout import Layout, layout_of
from analytics_pipeline.human_signals.rows import KEY, TIMESTAMP, case_rows
from analytics_pipeline.human_signals.schema import Profile, metric_schema, profile_of
from analytics_pipeline.human_signals.signals import signals_of
from analytics_pipeline.human_signals.source import CHANGED_ONLY, CaseSource, identity_of, in_buckets
from analytics_pipeline.human_signals.state import State, difference, kept_state
from analytics_pipeline.store import Change, JoinView, JsonObject, Manifest, Preview, Replace, Stage, Store, TableChange
from analytics_pipeline.store.schema import identifier

VERSION = 2
"""Of the rules by which cases are made: raised when they change, so that published cases are made anew."""

_NAMES = {"metric": "metric_name", "category": "metric_category", "signal": "signal", "type": "type", "value": "value"}
_POSITION = "position"


@dataclass(frozen=True)
class Derived:
    """What follows from rows, for their commit.

    Args:
        tables: what becomes of the derived tables.
        metadata: by name.
    """

    tables: Sequence[TableChange]
    metadata: Mapping[str, JsonObject]


@dataclass(frozen=True)
class CasesDerivation:
    """The cases of one dataset.

    Args:
        dataset: its name.
        visible_metrics: to which the metric schema is restricted; None for all.
        filter_columns: further columns whose distinct values the metadata lists.
        log: gets a line for what was made anew, and why.
    """

    dataset: str
    visible_metrics: Sequence[str] | None
    filter_columns: Sequence[str]
    log: Callable[[str], None]

    @property
    def cases(self) -> str:
        """The table of the cases."""
        return f"{self.dataset}_cases"

    @property
    def signals(self) -> str:
        """The table of their signals."""
        return f"{self.dataset}_case_signals"

    @property
    def state(self) -> str:
        """The name under which it is kept what the published cases were made of."""
        return f"{self.dataset}_cases_state"

    @property
    def asked(self) -> str:
        """Digest of what a user asked for beside the rows."""
        return hashlib.sha256(repr((VERSION, self.visible_metrics, self.filter_columns)).encode()).hexdigest()[:16]

    def is_current(self, store: Store, view: JoinView) -> bool:
        """Whether the published cases are those of the published rows, and whole.

        Args:
            store: with both.
            view: that joins the rows.
        """
        manifest = store.manifest()
        kept = self._kept(manifest)
        if kept is None or kept.asked != self.asked or kept.identity != identity_of(manifest, view_of(manifest, view)):
            return False
        return not any(map(store.damaged_partitions, (self.cases, self.signals)))

    def derive(self, store: Store, stage: Stage, change: Change, view: JoinView, sync_id: str) -> Derived:
        """The derived tables that go with a change of the rows.

        Args:
            store: that it is made in.
            stage: takes the files.
            change: of the dataset's tables; none where only the cases are to be made.
            view: that joins them, as the change leaves it.
            sync_id: of the commit.

        Raises:
            CaseColumnsMissing: the rows have not what cases are made of.
            StoreError: the store cannot be read, or not written.
        """
        with store.preview(stage, Change(change.tables, [view])) as preview:
            work = _Work(self, store, stage, CaseSource(preview, view), sync_id)
            kept = self._kept(preview.published)
            if kept is None:
                return work.anew("there were none")
            if kept.identity != identity_of(preview.published, view_of(preview.published, view)):
                return work.anew("they were made of other rows")
            if any(table.replace is Replace.TABLE_AND_COLUMNS for table in change.tables):
                return work.anew("the dataset is rebuilt")
            if not work.source.is_comparable() or any(map(store.damaged_partitions, (self.cases, self.signals))):
                return work.anew("columns, the join or files are not as they were")
            return work.updated(kept)

    def _kept(self, manifest: Manifest) -> State | None:
        if self.cases not in manifest.tables or self.signals not in manifest.tables:
            return None
        return kept_state(manifest, self.state, VERSION)


def view_of(manifest: Manifest, view: JoinView) -> JoinView:
    """The published view of a name; a new one is as it will be."""
    return manifest.views.get(view.name, view)


@dataclass(frozen=True)
class _Work:
    """One derivation at work."""

    of: CasesDerivation
    store: Store
    stage: Stage
    source: CaseSource
    sync_id: str

    @property
    def writing(self) -> BucketWriting:
        return BucketWriting(self.stage, self.sync_id, f"cases {VERSION}")

    def anew(self, why: str) -> Derived:
        """All signals and cases."""
        view = identifier(self.source.view.name)
        (cases,), *_ = self.source.preview.rows(f"SELECT count(DISTINCT {KEY}) FROM {view}")
        buckets = buckets_for(int(str(cases)))
        groups = groups_of(range(buckets), self.source.halves[0].rows)
        frames = (self._signals(self._of(group, buckets), buckets) for group in groups)
        signals = self.writing.table(self.of.signals, frames, range(buckets), Replace.TABLE_AND_COLUMNS)
        with self.store.preview(self.stage, Change([signals])) as written:
            profile, layout = self._known(written)
            return self._finished([signals, self._all_cases(written, layout, buckets, why)], profile, layout, buckets)

    def updated(self, kept: State) -> Derived:
        """The cases whose rows changed, and their signals; all cases where their columns are others."""
        published = self.source.preview.published.tables
        changed, cases = self.source.count(kept.buckets), published[self.of.cases].rows
        if is_outgrown(kept.buckets, cases + changed):
            return self.anew("they have become many")
        touched = self.source.changed_buckets()
        if not touched:
            return self._finished([], *self._published(), kept.buckets)
        fresh = self._signals(CHANGED_ONLY, kept.buckets)
        table = published[self.of.signals]
        rows = sum(table.partitions[key_of(bucket)].rows for bucket in touched)
        groups = list(groups_of(touched, rows))
        frames = (self._merged(self.of.signals, CASE_ID, fresh, group) for group in groups)
        signals = self.writing.table(self.of.signals, frames, touched, Replace.PARTITIONS)
        with self.store.preview(self.stage, Change([signals])) as written:
            profile, layout = self._known(written)
            why = difference(kept.layout, layout)
            if why:
                made = self._all_cases(written, layout, kept.buckets, why)
                return self._finished([signals, made], profile, layout, kept.buckets)
        made = self._some_cases(fresh, layout, kept.buckets, groups)
        self.of.log(f"{self.of.cases}: {changed:,} cases with changed rows of {cases:,} were made again.")
        return self._finished([signals, made], profile, layout, kept.buckets)

    def _of(self, group: Sequence[int], buckets: int) -> str:
        return "true" if len(group) == buckets else in_buckets(group, buckets)

    def _signals(self, where: str, buckets: int) -> pl.DataFrame:
        """The signals of some cases, as they are stored, with their bucket."""
        frame = self.source.rows(where, buckets)
        rows = case_rows(frame)
        found = signals_of(rows)
        begin = rows.rows.unique("case", keep="first", maintain_order=True)["row"].gather(found["case"])
        columns = [frame[KEY].gather(found["row"]).alias(CASE_ID)]
        if TIMESTAMP in frame.columns:
            columns.append(frame[TIMESTAMP].gather(found["row"]).alias(CASE_TIME))
        columns += [found[name].alias(stored) for name, stored in _NAMES.items()]
        columns.append((found["row"] - begin).cast(pl.Int64).alias(_POSITION))
        return pl.DataFrame([*columns, frame["bucket"].gather(found["row"]).alias(BUCKET)])

    def _published(self) -> tuple[Profile, Layout]:
        with self.store.preview(self.stage, _untouched(self.source.preview.published, self.of.signals)) as preview:
            return self._known(preview)

    def _known(self, written: Preview) -> tuple[Profile, Layout]:
        """What follows from all signals."""
        table = written.following.tables[self.of.signals]
        timed = any(column.name == CASE_TIME for column in table.columns)
        order = [CASE_TIME, CASE_ID, _POSITION] if timed else [CASE_ID, _POSITION]
        selected = [f"{stored} AS {name}" for name, stored in _NAMES.items()]
        sql = f"SELECT {', '.join([*selected, *map(identifier, order)])} FROM {identifier(table.name)}"
        profile = profile_of(written.frame, sql, f"row({', '.join(map(identifier, order))})")
        return profile, layout_of(profile, head_names(self.source.columns))

    def _all_cases(self, written: Preview, layout: Layout, buckets: int, why: str) -> TableChange:
        table = written.following.tables[self.of.signals]

        def frames() -> Iterator[pl.DataFrame]:
            for group in groups_of(range(buckets), table.rows):
                heads = self.source.heads(self._of(group, buckets), buckets)
                rows = written.partitions_sql(table, {0: [key_of(bucket) for bucket in group]})
                columns = f"{identifier(CASE_ID)}, {', '.join(_NAMES.values())}, {_POSITION}"
                yield self._cases(heads, written.frame(f"SELECT {columns} FROM ({rows})"), layout)

        made = self.writing.table(self.of.cases, frames(), range(buckets), Replace.TABLE_AND_COLUMNS)
        rows = sum(partition.rows for partition in made.partitions)
        self.of.log(f"{self.of.cases}: all {rows:,} cases were made: {why}.")
        return made

    def _some_cases(
        self, fresh: pl.DataFrame, layout: Layout, buckets: int, groups: Sequence[Sequence[int]]
    ) -> TableChange:
        cases = self._cases(self.source.heads(CHANGED_ONLY, buckets), fresh, layout)
        frames = (self._merged(self.of.cases, CASE_ID, cases, group) for group in groups)
        touched = [bucket for group in groups for bucket in group]
        return self.writing.table(self.of.cases, frames, touched, Replace.PARTITIONS)

    def _cases(self, heads: pl.DataFrame, signals: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        numbered = heads.select(pl.col(KEY).alias(CASE_ID)).with_row_index("case")
        names = {stored: name for name, stored in _NAMES.items()} | {_POSITION: "row"}
        found = signals.join(numbered, on=CASE_ID).rename(names)
        return cases_of(heads_of(heads), found, layout).with_columns(heads["bucket"].alias(BUCKET))

    def _merged(self, name: str, key: str, fresh: pl.DataFrame, group: Sequence[int]) -> pl.DataFrame:
        """Some buckets as they will be."""
        table = self.source.preview.published.tables[name]
        kept = unchanged_rows(self.source.preview, table, key, group).select(fresh.columns)
        return pl.concat([kept, fresh.filter(pl.col(BUCKET).is_in(group))], how="vertical_relaxed").sort(
            key, maintain_order=True
        )

    def _finished(self, tables: Sequence[TableChange], profile: Profile, layout: Layout, buckets: int) -> Derived:
        """The tables with their metadata."""
        of, source = self.of, self.source
        if profile.blank:
            of.log(f"{of.cases}: {profile.blank:,} rows without the name of a metric were skipped.")
        if layout.left_out:
            of.log(f"{of.cases}: {layout.left_out:,} signals are no column, for there are too many; see {of.signals}.")
        missing = [name for name in (of.cases, of.signals) if name not in {table.name for table in tables}]
        untouched = [table for name in missing for table in _untouched(source.preview.published, name).tables]
        schema = metric_schema(profile, source.columns, of.visible_metrics)
        with self.store.preview(self.stage, Change([*tables, *untouched])) as preview:
            cases, signals = (preview.following.tables[name] for name in (of.cases, of.signals))
            metadata = {
                of.cases: cases_metadata(preview, cases, of.filter_columns, schema, profile.blank),
                of.signals: table_metadata(preview, signals, ()),
            }
        identity = identity_of(source.preview.following, source.view)
        state = State(VERSION, of.asked, identity, buckets, layout)
        return Derived(tables, {**metadata, of.state: state.to_json()})


def _untouched(published: Manifest, name: str) -> Change:
    """A change that leaves a table as it is, so that it can be looked at in a preview."""
    return Change([TableChange(name, published.tables[name].columns, [])])
