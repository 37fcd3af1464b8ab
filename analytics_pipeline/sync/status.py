"""Status: what is known of a dataset beside its data: whether a sync runs, how the last ended, when it was verified.

Belongs here: the file of a dataset, its heartbeat, and the rule that a silent sync is an interrupted one.
Does not: what a sync does (`engine`), or how fresh is fresh enough (`checks`).

It is a file of its own, `status/<dataset>.json` beside the store, because a refresh that finds nothing makes no commit.
It can be lost at any time: what is published tells the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.store import Manifest, Store
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.waiting import join, wait_for

HEARTBEAT_SECONDS = 5.0
SILENCE = timedelta(seconds=30)
"""After so long without a heartbeat a sync counts as interrupted."""

_INTERRUPTED = "interrupted: the process of the last sync ended without a word; the next one heals by itself"
_CANCELLED = "cancelled: the last sync was stopped before its commit; the next one reads what is still missing"
_TIMES = ("heartbeat", "last_sync", "last_verified", "last_incremental")


class State(StrEnum):
    """What a dataset is doing."""

    NOT_SYNCED = "not_synced"
    SYNCING = "syncing"
    READY = "ready"
    ERROR = "error"
    CANCELLED = "cancelled"


class SyncType(StrEnum):
    """Whether the last commit replaced every partition of both halves, or some."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True)
class DatasetStatus:
    """The status of one dataset. Times are aware, in UTC.

    Args:
        dataset: its name.
        state: what it is doing.
        message: why it failed, or what holds only in part until the next refresh.
        run_id: of the Dagster run that syncs, or synced last.
        heartbeat: last sign of life of the sync that runs.
        last_sync: of the last commit.
        last_verified: the store was equal to its source then.
        sync_type: of the last commit.
        last_incremental: of the last commit that replaced some partitions only.
        incremental_rows: rows that it wrote minus rows that it replaced.
        truncated: whether partitions are left out by `max_sync_rows`.
        rows: published rows of each table, and of the view.
        watermarks: of each table, the greatest value of its incremental column; None where there is no row.
        gate: what the source's gate said at `last_verified`; see `gate`.
        source: who answered the last sync that succeeded; see `postgres.origin`.
        content: a digest of what was published then; another one tells that somebody else published since.
    """

    dataset: str
    state: State = State.NOT_SYNCED
    message: str | None = None
    run_id: str | None = None
    heartbeat: datetime | None = None
    last_sync: datetime | None = None
    last_verified: datetime | None = None
    sync_type: SyncType | None = None
    last_incremental: datetime | None = None
    incremental_rows: int = 0
    truncated: bool = False
    rows: Mapping[str, int] = field(default_factory=dict)
    watermarks: Mapping[str, str | None] = field(default_factory=dict)
    gate: str | None = field(default=None, repr=False)
    content: str | None = field(default=None, repr=False)
    source: str | None = field(default=None, repr=False)


_STATUS = TypeAdapter(DatasetStatus)


def read_status(store: Store, spec: SplitSyncSpec) -> DatasetStatus:
    """The status of a dataset as it is now: a sync without heartbeat is an error, a lost file is made up for.

    Args:
        store: where the dataset is published; its status lies beside it.
        spec: of the dataset.
    """
    written = _written(_file(store, spec))
    manifest = store.manifest()
    if written is not None and written.state is State.READY:
        return (
            written if written.content == digest_of(manifest, spec) else _published_by_others(written, manifest, spec)
        )
    status = _with_published(written or DatasetStatus(spec.name), manifest, spec)
    if written is None:
        return replace(status, state=State.READY if status.last_sync else State.NOT_SYNCED)
    heartbeat = status.heartbeat  # after a clock was set back, one of the future is of a sync before that
    silent = heartbeat is None or abs(datetime.now(UTC) - heartbeat) > SILENCE
    if status.state is State.SYNCING and silent:
        return replace(status, state=State.ERROR, message=_INTERRUPTED)
    return status


def write_status(store: Store, spec: SplitSyncSpec, status: DatasetStatus) -> None:
    """Replace the status of a dataset, in one step for all readers."""
    path = _file(store, spec)
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    values = asdict(status) | {key: value and value.isoformat() for key, value in _times(status).items()}
    try:
        draft.write_text(json.dumps(values, indent=2))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def verified_again(store: Store, spec: SplitSyncSpec, seen: DatasetStatus, at: datetime) -> None:
    """Move `last_verified`, unless the status has changed since it was seen: a sync may have begun or ended."""
    if read_status(store, spec) == seen:
        write_status(store, spec, replace(seen, last_verified=at))


@contextmanager
def syncing(store: Store, spec: SplitSyncSpec, run_id: str | None) -> Iterator[DatasetStatus]:
    """Show a dataset as syncing, with a heartbeat, for a `with` block; its failure becomes the status.

    Gives the status as it was before. Who succeeds writes the new one after the block.
    """
    before = read_status(store, spec)
    begun = replace(before, state=State.SYNCING, message=None, run_id=run_id)
    ended = threading.Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # of a disk that is full now and may not be in five seconds
                write_status(store, spec, replace(begun, heartbeat=datetime.now(UTC)))
            if wait_for(ended, HEARTBEAT_SECONDS):
                return

    write_status(store, spec, replace(begun, heartbeat=datetime.now(UTC)))
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield before
    except BaseException as error:
        _end(thread, ended)
        state, message = _ended_by(error)
        try:
            write_status(store, spec, replace(begun, state=state, message=message, heartbeat=datetime.now(UTC)))
        except OSError as unwritten:
            error.add_note(f"The status could not be written: {unwritten}")
        raise
    _end(thread, ended)


def _ended_by(error: BaseException) -> tuple[State, str]:
    if not isinstance(error, Exception):  # Ctrl-C, SIGTERM, Dagster's interrupt
        return State.CANCELLED, _CANCELLED
    return State.ERROR, str(error) if isinstance(error, AnalyticsError) else type(error).__name__  # may hold secrets


def _end(thread: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    join(thread)  # or its last beat would overwrite what comes now


def _file(store: Store, spec: SplitSyncSpec) -> Path:
    return store.root.parent / "status" / f"{spec.name}.json"


def _times(status: DatasetStatus) -> Mapping[str, datetime | None]:
    return {name: getattr(status, name) for name in _TIMES}


def _written(path: Path) -> DatasetStatus | None:
    """What the file says; None where it is missing or not ours."""
    try:
        status = _STATUS.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    if status.state is State.NOT_SYNCED or any(at and at.tzinfo is None for at in _times(status).values()):
        return None
    return status


def content_of(manifest: Manifest, tables: Iterable[str]) -> Iterator[str]:
    """Which sync wrote each partition: the same after a compaction, not after a restore."""
    for name in tables:
        table = manifest.tables.get(name)
        for partition in table.partitions.values() if table else ():
            yield f"{name}:{partition.key}:{partition.sync_id}:{partition.fingerprint}"


def digest_of(manifest: Manifest, spec: SplitSyncSpec) -> str:
    """What is published of a dataset, by the syncs that wrote it: the same after a compaction, not after a restore."""
    return hashlib.sha256("\n".join(content_of(manifest, map(spec.table, Half))).encode()).hexdigest()[:16]


def _published_by_others(status: DatasetStatus, manifest: Manifest, spec: SplitSyncSpec) -> DatasetStatus:
    """A status after a restore or a reset: nobody has compared with the source what is there now."""
    return replace(
        status,
        state=State.READY if any(spec.table(half) in manifest.tables for half in Half) else State.NOT_SYNCED,
        rows=published_rows(manifest, spec),
        watermarks=published_watermarks(manifest, spec),
        truncated=is_truncated(manifest, spec),
        last_verified=None,
        gate=None,
    )


def _with_published(status: DatasetStatus, manifest: Manifest, spec: SplitSyncSpec) -> DatasetStatus:
    """A status with what the store itself tells of a later commit, by a sync that died before it could tell of it."""
    tables = [manifest.tables[name] for name in map(spec.table, Half) if name in manifest.tables]
    partitions = [partition for table in tables for partition in table.partitions.values()]
    newest = max(partitions, key=lambda partition: partition.synced_at, default=None)
    if newest is None or (status.last_sync is not None and newest.synced_at <= status.last_sync):
        return status
    is_full = len(tables) == len(Half) and all(partition.sync_id == newest.sync_id for partition in partitions)
    rows = {table.name: table.rows for table in tables}
    net = sum(rows.values()) - sum(status.rows.get(name, 0) for name in rows)
    return replace(
        status,
        last_sync=newest.synced_at,
        sync_type=SyncType.FULL if is_full else SyncType.INCREMENTAL,
        last_incremental=status.last_incremental if is_full else newest.synced_at,
        incremental_rows=status.incremental_rows if is_full else net,
        rows=published_rows(manifest, spec),
        watermarks=published_watermarks(manifest, spec),
        truncated=is_truncated(manifest, spec),
    )


def published_rows(manifest: Manifest, spec: SplitSyncSpec) -> Mapping[str, int]:
    """Rows of each table of a dataset, and of its view once both are there."""
    rows = {name: manifest.tables[name].rows for name in map(spec.table, Half) if name in manifest.tables}
    view = manifest.metadata.get(spec.view)
    return rows if view is None else rows | {spec.view: int(str(view.value["row_count"]))}


def is_truncated(manifest: Manifest, spec: SplitSyncSpec) -> bool:
    """Whether partitions of a dataset are left out by its limit of rows."""
    tables = [manifest.tables[name] for name in map(spec.table, Half) if name in manifest.tables]
    partitions = [partition for table in tables for partition in table.partitions.values()]
    return any(partition.fingerprint is None and not partition.files for partition in partitions)


def published_watermarks(manifest: Manifest, spec: SplitSyncSpec) -> Mapping[str, str | None]:
    """The greatest value of each table's incremental column, where it has one."""
    found = {name: manifest.metadata.get(name) for name in map(spec.table, Half)}
    return {name: str(kept.value["watermark"]) for name, kept in found.items() if kept and kept.value.get("watermark")}
