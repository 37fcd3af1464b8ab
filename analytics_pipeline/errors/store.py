"""Errors of the published store.

Belongs here: what `analytics_pipeline.store` refuses or cannot do. Does not: why somebody wrote to it (`sync`).
"""

from __future__ import annotations

from collections.abc import Sequence

from analytics_pipeline.errors.base import AnalyticsError

_SHOWN_KEYS = 5


class StoreError(AnalyticsError):
    """The published store refused or failed to do something; what was published is unchanged."""


class FilesystemUnfit(StoreError):
    """The store's folder lies on a file system that cannot keep its promises."""

    def __init__(self, root: str, missing: str) -> None:
        super().__init__(
            f"{root} cannot hold a store: its file system lacks {missing}. "
            f"Put the store on a local POSIX disk (set ANALYTICS_HOME)."
        )


class StoreNotFound(StoreError):
    """There is no store where one was to be opened."""

    def __init__(self, root: str) -> None:
        super().__init__(f"There is no store at {root}. Run a sync first (make demo), or set ANALYTICS_HOME.")


class StoreFormatUnknown(StoreError):
    """The store was written by a version of this package that keeps another layout."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(f"{path} has format {found}; this version reads up to {known}. Upgrade analytics_pipeline.")


class StoreBusy(StoreError):
    """Another process held the commit lock for longer than commits ever take."""

    def __init__(self, lock: str, seconds: float, holder: str) -> None:
        super().__init__(
            f"{lock} was held by {holder} for more than {seconds:.0f} s; commits take milliseconds. "
            f"See whether that process hangs; nothing was changed."
        )


class BackupRefused(StoreError):
    """A folder that cannot be the place or the source of a backup."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}. Nothing was changed. Name another folder.")


class BackupFailed(StoreError):
    """The disk refused the copy of a store."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"The backup to {path} failed: {detail}. Nothing is left there; the store is unchanged.")


class DataFileMissing(StoreError):
    """A file of the store is not there with the size it was written with."""

    def __init__(self, path: str, expected: int, found: int | None) -> None:
        state = "is missing" if found is None else f"has {found} bytes"
        super().__init__(
            f"{path} {state}, {expected} bytes were written. Nothing was committed. Refresh the dataset it belongs to, "
            f"which reads its partition again."
        )


class DataFileDamaged(StoreError):
    """A file of the store has the size it was written with, but another content."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"{path} is damaged: {detail}. Nothing was committed. Refresh the dataset it belongs to, which reads its "
            f"partitions again, or restore a backup; and check the disk."
        )


class CopyDiffers(StoreError):
    """Rows that were to move to another file did not arrive there as they were."""

    def __init__(self, table: str, detail: str) -> None:
        super().__init__(
            f"{table}: a copy of its rows is not equal to the original: {detail}. The copy was thrown away. "
            f"Look whether the disk or the memory of this machine fails."
        )


class OverlappingPartitions(StoreError):
    """Two partitions of one table claim the same time."""

    def __init__(self, table: str, first: str, second: str) -> None:
        super().__init__(
            f"{table}: partitions {first} and {second} overlap. The commit was refused; a changed start or grain of "
            f"partitions needs a full rebuild of the table."
        )


class PartitionRefused(StoreError):
    """A partition that cannot stand in a table: its window is none, or its key is given twice."""

    def __init__(self, table: str, key: str, reason: str) -> None:
        super().__init__(f"{table}: partition {key!r} {reason}. The commit was refused.")


class PartitionsMoved(StoreError):
    """Partitions that a change was made for have changed meanwhile."""

    def __init__(self, table: str, keys: Sequence[str]) -> None:
        self.table = table
        self.keys = tuple(keys)
        shown = ", ".join(keys[:_SHOWN_KEYS]) + (", …" if len(keys) > _SHOWN_KEYS else "")
        super().__init__(
            f"{table}: another commit changed {shown} after this one had looked at it. Nothing was committed; "
            f"run it again."
        )


class ViewsRefused(StoreError):
    """The views of a commit cannot be built, because they ask for columns that the tables do not have."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"The store's views cannot be built as this commit wants them: {detail} The commit was refused. "
            f"See whether the joined view's key and newest_by are columns of its tables."
        )


class CommitFailed(StoreError):
    """The disk refused what a commit must write: it is full, or over a quota."""

    def __init__(self, root: str, detail: str) -> None:
        super().__init__(
            f"The commit to {root} failed: {detail}. The store is unchanged. "
            f"Make room (python -m analytics_pipeline.store sweep), and run the sync again."
        )


class CommitUnconfirmed(StoreError):
    """A version is published, but the disk did not confirm that it will survive a power cut."""

    def __init__(self, root: str, version: int, reason: str) -> None:
        super().__init__(
            f"{root}: version {version} is published, but the disk did not confirm it ({reason}). "
            f"See to the disk; readers have the new version."
        )


class VersionTaken(StoreError):
    """Another process made the same version, although this one held the commit lock."""

    def __init__(self, version: int, root: str) -> None:
        super().__init__(
            f"Version {version} of {root} was made by another process at the same time, so file locks do not reach it. "
            f"This commit changed nothing. Keep the store on a disk of one machine, and run the sync again."
        )


class StoreReadDenied(StoreError):
    """This user may not read the store."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} may not be read by this user. Run as its owner, or give this user read rights.")


class ManifestUnreadable(StoreError):
    """The file that says what the store consists of is damaged."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"{path} cannot be read: {detail}. Refresh the datasets, which goes back to the version before and reads "
            f"again what has changed since; or restore a backup."
        )


class StoreUnwritable(StoreError):
    """This user may read the store, not change it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"This user cannot write {path}. Run as the store's owner, on a disk that is not read-only.")


class StoreDiskFull(StoreError):
    """The store's disk has no room for what a sync reads."""

    def __init__(self, root: str, detail: str) -> None:
        super().__init__(
            f"The disk of {root} is full ({detail}). What was published is whole and unchanged, what this sync had "
            f"written is removed. Free some space, or move the store to a larger disk, and run the sync again."
        )


class StoreWriteFailed(StoreError):
    """The store's disk fails in another way."""

    def __init__(self, root: str, detail: str) -> None:
        super().__init__(
            f"Writing to {root} failed: {detail}. What was published is whole. See to the disk, and run the sync again."
        )


class StageBusy(StoreError):
    """Two live processes use one sync id."""

    def __init__(self, folder: str) -> None:
        super().__init__(f"A live process is writing stage {folder}. Use another sync id, or wait for it.")


class IncompatibleColumn(StoreError):
    """A source column changed to a type that the published one cannot hold."""

    def __init__(self, table: str, column: str, old: str, new: str) -> None:
        super().__init__(
            f"{table}.{column} is {old}, the source now gives {new}. The store is unchanged. "
            f"Cast it in the dataset's query, or run the dataset's rebuild job to adopt the new type."
        )


class UnsupportedColumnType(StoreError):
    """An Arrow type for which the store has no SQL type."""

    def __init__(self, column: str, found: str) -> None:
        super().__init__(f"Column {column} has Arrow type {found}, which the store cannot keep. Cast it before.")


class NameRefused(StoreError):
    """A table or column name that the store does not accept."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"{name!r} cannot be a name in the store: {rule}.")


class QueryRefused(StoreError, ValueError):
    """A query that the shut-in SQL interface does not run."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Refused: {reason}. Queries are one SELECT over the store's tables and views.")


class QueryFailed(StoreError, ValueError):
    """DuckDB could not run a query: its message names the table, column or syntax at fault."""


class QueryOutOfMemory(QueryFailed):
    """An untrusted query needs more memory than its process may take."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The query was stopped: it needs more than the {limit / 2**20:,.0f} MiB of memory that an untrusted query "
            f"may take. Aggregate or filter earlier, or make shorter texts and lists."
        )


class QueryCrashed(QueryFailed):
    """The process of an untrusted query ended before it answered."""

    def __init__(self, how: str) -> None:
        super().__init__(f"The process that ran the query ended ({how}). Nothing else is affected; change the query.")


class QueryTimedOut(StoreError, ValueError):
    """A query ran into its time limit and was interrupted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The query was interrupted after {seconds:g} s. Narrow it, or pass a larger timeout.")


class ResultTooLarge(StoreError, ValueError):
    """A query's rows do not fit the memory that one answer may take."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The query was stopped: its rows take more than {limit / 2**20:,.0f} MiB. Aggregate, filter or LIMIT them."
        )


class TooManyRows(StoreError, ValueError):
    """A query has more rows than its caller wants."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The query gives more than {most:,} rows, the limit of this call. Add a LIMIT, or raise it (max_rows)."
        )


class StaleReader(StoreError):
    """A query outlived the grace period of the version it read."""

    def __init__(self) -> None:
        super().__init__(
            "The version of the store that this query reads was swept while it ran. Reopen the store and run it again; "
            "a longer grace period gives long queries more time."
        )
