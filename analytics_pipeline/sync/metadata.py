"""Metadata: what is known of a dataset's tables and view without reading them, counted before each commit.

Belongs here: what is kept of the last count and how much of it is still true, the JSON that people and the API read.
Does not: counting (`counting`), what changed records mean for the join (`records`).

Counting 3M rows and joining them takes about a second; a refresh of one day must not. So the figures of
each part (a partition, or several where there are many) are kept as the metadata of `<name>_parts`, and only parts with
other rows, or other records, are read again. Whatever does not fit what is kept is counted from nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics_pipeline.store import Column, JoinView, JsonObject, JsonValue, Manifest, Preview, Table
from analytics_pipeline.store.schema import identifier
from analytics_pipeline.sync.counting import Counted, Subject, columns_from_partner, content_of, counted, grouped
from analytics_pipeline.sync.figures import Questions, questions_of
from analytics_pipeline.sync.part import QUANTILES, Part, percentile
from analytics_pipeline.sync.plan import KEY
from analytics_pipeline.sync.records import RecordChange, changed_records, has_added_records, touched_results
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.view import joined_view
from analytics_pipeline.sync.windows import REST

_FORMAT = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DatasetFigures:
    """What is known of a dataset as a commit would leave it.

    Args:
        view: fits the records: joins the newest where some have several rows.
        metadata: by name, for the commit.
        orphans: results without a record.
        doubled_keys: some record has several rows.
    """

    view: JoinView
    metadata: Mapping[str, JsonObject]
    orphans: int = 0
    doubled_keys: bool = False


def parts_name(spec: SplitSyncSpec) -> str:
    """The name under which the figures of a dataset's parts are kept."""
    return f"{spec.name}_parts"


def dataset_figures(preview: Preview, spec: SplitSyncSpec, newest_by: str) -> DatasetFigures:
    """Count what is to be published of a dataset.

    Args:
        preview: of a change of its tables, with its view.
        spec: of the dataset.
        newest_by: column of the dataset half by which the newest of a record's several rows is found.
    """
    tables = preview.following.tables
    if not all(spec.table(half) in tables for half in Half):
        return DatasetFigures(
            joined_view(spec, None),
            {name: _of_table(preview, _alone(spec, table), Counted()) for name, table in tables.items()},
        )
    records, results = tables[spec.table(Half.DATASET)], tables[spec.table(Half.RESULTS)]
    shown = preview.columns(identifier(spec.view))
    asked, asked_of_view = questions_of(results.columns, spec), questions_of(shown, spec)
    subject = Subject(results, asked, joined_view(spec, None), asked_of_view)
    change = changed_records(preview, spec, columns_from_partner(subject, shown, records, KEY))
    view = joined_view(spec, newest_by if change.doubled else None)
    rules = _rules(spec, view, [*shown, *records.columns])
    kept = _Kept.of(preview, spec, rules)
    alone = counted(preview, _alone(spec, records), kept.dataset)
    subject = Subject(results, asked, view, asked_of_view)
    joined = counted(preview, subject, _still_true(preview, results, kept, change))
    metadata = {
        records.name: _table_json(preview, records, alone.table, questions_of(records.columns, spec)),
        results.name: _table_json(preview, results, joined.table, asked),
        view.name: _json(preview, shown, joined.view, asked_of_view) | {"results_without_record": joined.orphans},
        parts_name(spec): {"asked": _asked(spec), **_Kept(alone, joined).to_json(rules, records)},
    }
    return DatasetFigures(view, metadata, joined.orphans, change.doubled)


def stored_figures(manifest: Manifest, spec: SplitSyncSpec) -> JsonObject | None:
    """The metadata of a dataset's view; None where the tables were committed without."""
    parts, view = manifest.metadata.get(parts_name(spec)), manifest.metadata.get(spec.view)
    if parts is None or view is None or any(spec.table(half) not in manifest.tables for half in Half):
        return None
    kept: Mapping[str, Any] = parts.value
    records, results = (manifest.tables[spec.table(half)] for half in Half)
    is_current = kept["records"] == _identity(records) and kept["results"]["counts"].keys() == grouped(results).keys()
    return view.value if is_current else None


def stored_orphans(manifest: Manifest, spec: SplitSyncSpec) -> Mapping[str, int]:
    """Results without a record by partition, or by the first and last of several that are counted together.

    Args:
        manifest: one of which there are `stored_figures`.
        spec: of the dataset.
    """
    kept: Mapping[str, Any] = manifest.metadata[parts_name(spec)].value
    orphans = {content: count["orphans"] for content, count in kept["results"]["counts"].items()}
    return {
        _run(list(keys)): orphans[content]
        for content, keys in grouped(manifest.tables[spec.table(Half.RESULTS)]).items()
        if orphans[content]
    }


def _run(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} … {keys[-1]}"


def is_counted(manifest: Manifest, spec: SplitSyncSpec) -> bool:
    """Whether the published metadata answers what the spec asks for."""
    parts = manifest.metadata.get(parts_name(spec))
    return parts is not None and parts.value.get("asked") == _asked(spec)


def _alone(spec: SplitSyncSpec, table: Table) -> Subject:
    return Subject(table, questions_of(table.columns, spec))


def _of_table(preview: Preview, subject: Subject, kept: Counted) -> JsonObject:
    return _table_json(preview, subject.table, counted(preview, subject, kept).table, subject.asked)


@dataclass(frozen=True)
class _Kept:
    """The figures of the version before; none of them where they were counted by other rules, or of other records."""

    dataset: Counted
    results: Counted

    @classmethod
    def of(cls, preview: Preview, spec: SplitSyncSpec, rules: str) -> _Kept:
        stored = preview.published.metadata.get(parts_name(spec))
        published = preview.published.tables.get(spec.table(Half.DATASET))
        if stored is None or published is None:
            return cls(Counted(), Counted())
        kept: Mapping[str, Any] = stored.value
        if kept["rules"] != rules or kept["records"] != _identity(published):
            return cls(Counted(), Counted())
        return cls(Counted.from_json(kept["dataset"]), Counted.from_json(kept["results"]))

    def to_json(self, rules: str, records: Table) -> JsonObject:
        return {
            "rules": rules,
            "records": _identity(records),
            "dataset": self.dataset.to_json(),
            "results": self.results.to_json(),
        }


def _identity(table: Table) -> str:
    return _digest("\n".join(map(content_of, table.partitions.values())))


def _rules(spec: SplitSyncSpec, view: JoinView, columns: Sequence[Column]) -> str:
    return _digest(repr((_FORMAT, view, columns, spec.visible_metrics, spec.filter_columns)))


def _asked(spec: SplitSyncSpec) -> str:
    return _digest(repr((_FORMAT, spec.join, spec.visible_metrics, spec.filter_columns)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _still_true(preview: Preview, results: Table, kept: _Kept, change: RecordChange) -> Counted:
    """The kept figures of results whose records are the same."""
    counts = kept.results.counts
    if not change.replaced or not counts:
        return kept.results
    if not change.comparable:
        return Counted()
    known = {content: keys for content, keys in grouped(results).items() if content in counts}
    stale = touched_results(preview, results, dict(enumerate(known.values())))
    looking = has_added_records(preview)
    true = {
        content: counts[content]
        for number, content in enumerate(known)
        if number not in stale and not (looking and counts[content].orphans)
    }
    return Counted(true, kept.results.table_ranges, kept.results.view_ranges)


def _table_json(preview: Preview, table: Table, part: Part, asked: Questions) -> dict[str, JsonValue]:
    rest = table.partitions.get(REST)
    return _json(preview, table.columns, part, asked) | {"rows_in_rest": rest.rows if rest else 0}


def _json(preview: Preview, columns: Sequence[Column], part: Part, asked: Questions) -> dict[str, JsonValue]:
    return {
        "row_count": part.rows,
        "columns": [{"column_name": column.name, "column_type": column.type} for column in columns],
        "filter_values": {name: list(part.values.get(name, ())) for name in asked.filters},
        "time_range": _time_range(preview, part, asked.time),
        "summary_stats": _summary_stats(part, asked) if asked.score else None,
    }


def _summary_stats(part: Part, asked: Questions) -> dict[str, JsonValue]:
    scored, total, passed = part.scores
    return {
        "total_records": scored,
        "avg_score": total / scored if scored and total is not None else None,
        "pass_rate": 100 * passed / scored if scored else None,
        **{
            name: percentile(part, number, quantile) if asked.latency and part.latencies else None
            for number, (name, quantile) in enumerate(QUANTILES.items())
        },
    }


def _time_range(preview: Preview, part: Part, column: Column | None) -> dict[str, JsonValue] | None:
    if column is None or part.time is None:
        return None
    first, last = (_iso(preview, number, column.type) for number in part.time)
    return {"min": first, "max": last}


def _iso(preview: Preview, number: int, type_: str) -> str:
    """ISO 8601; in DuckDB's spelling where the year has not four digits."""
    try:
        moment = _EPOCH + (timedelta(days=number) if type_ == "DATE" else timedelta(microseconds=number))
    except OverflowError:
        sql = f"DATE '1970-01-01' + ({number})::INTEGER" if type_ == "DATE" else f"make_timestamp({number}::BIGINT)"
        return str(preview.rows(f"SELECT ({sql})::VARCHAR")[0][0])
    if type_ == "DATE":
        return moment.date().isoformat()
    return (moment if type_ == "TIMESTAMP WITH TIME ZONE" else moment.replace(tzinfo=None)).isoformat()
