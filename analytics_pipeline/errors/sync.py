"""Errors of a sync: a dataset, its columns or its partitions do not fit.

Belongs here: what `analytics_pipeline.sync` and the dataset files refuse. Does not: failures of Postgres (`source`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analytics_pipeline.errors.base import AnalyticsError


class SyncError(AnalyticsError):
    """A source could not be mirrored; what was published is unchanged."""


class ColumnNamesClash(SyncError):
    """Two source columns would have the same name in the store."""

    def __init__(self, table: str, first: str, second: str, target: str) -> None:
        super().__init__(
            f"{table}: the columns {first!r} and {second!r} would both be named {target!r}. "
            f"Rename one of them in the query, or under `columns` in its defs.yaml."
        )


class ColumnMissing(SyncError):
    """A column that the spec needs is not in a query's output."""

    def __init__(self, table: str, column: str, why: str, found: Iterable[str]) -> None:
        super().__init__(
            f"{table}: the query gives no column {column!r} ({why}). Its columns are: {', '.join(found)}. "
            f"Select it, or correct the spec."
        )


class IncrementalColumnUnfit(SyncError):
    """The incremental column has a type, or lacks a setting, by which no partition follows from it."""

    def __init__(self, table: str, column: str, found: str, fix: str) -> None:
        super().__init__(f"{table}: the incremental column {column!r} is {found}; {fix}.")


class UnknownPartition(SyncError):
    """A partition was asked for that the dataset does not have."""

    def __init__(self, dataset: str, key: str, first: str, last: str) -> None:
        super().__init__(f"{dataset} has no partition {key!r}: its partitions run from {first} to {last}.")


class PartitionRangeBackwards(SyncError):
    """A range of partitions ends before it starts, so it names none."""

    def __init__(self, asset: str, start: str, end: str) -> None:
        super().__init__(
            f"{asset}: the partition range {start}...{end} ends before it starts, so nothing was materialized. Write "
            f"{end}...{start}."
        )


class TooManyPartitions(SyncError):
    """More windows lie between a dataset's start and the present than any store should have."""

    def __init__(self, grain: str, start: str, until: str, most: int) -> None:
        super().__init__(
            f"{grain} partitions from {start} to {until} are more than {most:,}. See that this machine's clock is "
            f"right, choose a later start, or a coarser grain under `partitions`."
        )


class PartitionsDisagree(SyncError):
    """Rows arrived for other partitions than were asked for."""

    def __init__(self, table: str, keys: Iterable[str]) -> None:
        super().__init__(
            f"{table}: the source put rows into partitions that were not asked for ({', '.join(keys)}). The store is "
            f"unchanged. The time zones of this machine and of the server may differ in age: update tzdata on both."
        )


class UnstableQuery(SyncError):
    """A query gives another answer each time it is asked, though nothing changed."""

    def __init__(self, table: str, keys: Sequence[str], reasons: Sequence[str]) -> None:
        shown = ", ".join(keys[:10]) + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")  # noqa: PLR2004
        cause = f"The likely cause: {'; '.join(reasons)}." if reasons else "Its cause is not known."
        super().__init__(
            f"{table}: two reads of one snapshot gave different rows (partitions {shown}), so it would be read again "
            f"for ever. {cause} Make the query give the same answer each time: no random(), a total ORDER BY before "
            f"LIMIT and in window functions, sums of numeric instead of float. The store is unchanged."
        )


class DuplicateKeys(SyncError):
    """Rows of the source share a key that the spec declares to be unique."""

    def __init__(self, table: str, columns: Sequence[str], keys: int, examples: Sequence[str]) -> None:
        super().__init__(
            f"{table}: {keys:,} keys ({', '.join(columns)}) have several rows, such as {'; '.join(examples)}. Nothing "
            f"was committed. Correct the source or its query, or the primary_key in the dataset's defs.yaml."
        )


class RemovalRefused(SyncError):
    """A sync would remove all rows of a table, or a greater share of them than is allowed."""

    def __init__(self, dataset: str, losses: Sequence[str], restricted: Sequence[str]) -> None:
        cause = f"Row-level security applies to this role in {', '.join(restricted)}. " if restricted else ""
        super().__init__(
            f"{dataset}: this sync would remove {' and '.join(losses)}, so it stopped before the commit; the store is "
            f"unchanged. {cause}See whether the source was truncated, whether the connection string names the right "
            f"database, and whether this role may see all rows. If the rows are to go, allow it once: start the run "
            f"with the tag analytics_pipeline/allow=removal, or set max_removed in the dataset's defs.yaml."
        )


class SourceChanged(SyncError):
    """Another server, database or role answers than at the last sync."""

    def __init__(self, dataset: str, former: str, found: str) -> None:
        super().__init__(
            f"{dataset}: the last sync read {former}; now {found} answers. The store is unchanged. Correct the "
            f"connection string, or, if the source has moved or was upgraded, adopt it once: start the run with the "
            f"tag analytics_pipeline/allow=other_source."
        )


class AllowanceUnknown(SyncError):
    """The tag that allows a sync something has a word in it that means nothing."""

    def __init__(self, word: str, known: Sequence[str]) -> None:
        super().__init__(
            f"The tag analytics_pipeline/allow says {word!r}, which allows nothing: write {' or '.join(known)}, or "
            f"both with a comma."
        )


class RowLimitTooSmall(SyncError):
    """Not even the newest partition with rows is within `max_sync_rows`."""

    def __init__(self, table: str, key: str, rows: int, limit: int) -> None:
        super().__init__(
            f"{table}: its newest partition with rows, {key}, has {rows:,} of them, more than max_sync_rows "
            f"({limit:,}), and partitions are kept whole. Raise max_sync_rows, or choose a finer grain under "
            f"`partitions`. The store is unchanged."
        )


class UnpartitionedSelection(SyncError):
    """Single partitions were asked for of a dataset that has none."""

    def __init__(self, dataset: str) -> None:
        super().__init__(f"{dataset} is not partitioned: it has no incremental_column. Sync it whole.")


class DatasetFileInvalid(SyncError):
    """A `defs.yaml` that does not describe a dataset."""

    def __init__(self, file: str, problems: Iterable[tuple[int | None, str, str]]) -> None:
        lines = [
            f"{file}{f':{line}' if line else ''}: {key + ': ' if key else ''}{text}" for line, key, text in problems
        ]
        super().__init__("\n".join(lines))


class ViewMissing(SyncError):
    """A JOIN view was asked for before both of its tables were synced."""

    def __init__(self, view: str, missing: Iterable[str]) -> None:
        super().__init__(f"{view} does not exist yet: sync {' and '.join(missing) or 'its tables'} first.")


class SourceUrlMissing(SyncError):
    """The environment variable with a dataset's connection string is not set."""

    def __init__(self, dataset: str, variable: str) -> None:
        super().__init__(
            f"{dataset}: the environment variable {variable} is not set, so its source is unknown. "
            f"Set it to a connection string, such as postgresql://user@host:5432/database."
        )


class KeysDoNotJoin(SyncError):
    """The column that joins the halves has different types in them."""

    def __init__(self, column: str, types: Mapping[str, str]) -> None:
        found = " and ".join(f"{type_} in {table}" for table, type_ in types.items())
        super().__init__(f"{column} is {found}, so the halves cannot be joined. Cast one of them in its query.")


class KeyInexact(SyncError):
    """The column that joins the halves is a floating-point number, in which different keys can be equal."""

    def __init__(self, column: str, table: str) -> None:
        super().__init__(
            f"{table}.{column} is stored as a floating-point number (as are numerics without precision), in which "
            f"neighbouring keys fall together. Cast it in the query, to bigint, numeric(38,0) or text."
        )


class KeyEqualityWider(SyncError):
    """PostgreSQL may call two values of the column that joins the halves equal that the store tells apart."""

    def __init__(self, table: str, column: str, found: str) -> None:
        super().__init__(
            f"The key of {table}, {column}, is of type {found}, of which PostgreSQL may call two values equal that are "
            f"not the same (by case, scale or unit, say): it would join rows that the store does not. Cast it in both "
            f'queries, so that equal keys are the same: `{column}::text COLLATE "C"`, or '
            f'`lower({column}::text) COLLATE "C"` where '
            f"case does not matter."
        )


class TypeImpossible(SyncError):
    """A column's type cannot become the one that `types` asks for."""

    def __init__(self, table: str, column: str, found: str, wanted: str) -> None:
        super().__init__(
            f"{table}: {column!r} is of type {found}, which cannot be stored as {wanted}. Cast it in the query, or "
            f"write `text` under `types`, which holds everything."
        )


class XminUnfit(SyncError):
    """Row versions cannot stand for the rows of a query."""

    def __init__(self, table: str, reason: str) -> None:
        super().__init__(
            f"`fingerprint: xmin` is not possible for source_table {table!r}: {reason}. Set `fingerprint: checksum`, "
            f"or select plain columns of one ordinary table."
        )
