"""Reset: mark what is published of a dataset as stale, so that its next refresh reads everything anew.

Belongs here: the commit that does so; it changes no row. Does not: reading (`engine`).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from analytics_pipeline.errors import PartitionsMoved
from analytics_pipeline.store import Change, Manifest, Store, Table, TableChange
from analytics_pipeline.sync.reading import Log
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

logger = logging.getLogger(__name__)

FORGOTTEN = "forgotten"
"""A fingerprint that no content of a source has. Not None: that means left out by the limit of rows."""

_ATTEMPTS = 10
"""Each further one takes a compaction that was faster."""


def forget_fingerprints(store: Store, spec: SplitSyncSpec, log: Log = logger.info) -> Sequence[str]:
    """Make every published partition of a dataset differ from its source, in a commit that changes no row.

    Partitions that the limit of rows left out stay as they are.

    Args:
        store: where the dataset is published.
        spec: of the dataset.
        log: told if this waits for a sync of the dataset.

    Returns:
        The tables of which something is published.

    Raises:
        PartitionsMoved: others changed them again and again; nothing has changed.
        StoreError: the store refused the commit.
    """
    with store.exclusive(spec.name, log):
        for _ in range(_ATTEMPTS - 1):
            with suppress(PartitionsMoved):
                return _forget(store, spec)
        return _forget(store, spec)


def _forget(store: Store, spec: SplitSyncSpec) -> Sequence[str]:
    tables = _tables(store.manifest(), spec)
    changes = [change for table in tables if (change := _forgetting(table)).partitions]
    if changes:
        with store.stage(f"{spec.name}-reset-{uuid.uuid4().hex[:16]}") as stage:
            store.commit(stage, Change(changes))
    return [table.name for table in tables]


def _tables(manifest: Manifest, spec: SplitSyncSpec) -> Sequence[Table]:
    return [manifest.tables[name] for name in map(spec.table, Half) if name in manifest.tables]


def _forgetting(table: Table) -> TableChange:
    known = {key: part for key, part in table.partitions.items() if part.fingerprint not in {None, FORGOTTEN}}
    forgotten = [replace(partition, fingerprint=FORGOTTEN) for partition in known.values()]
    return TableChange(table.name, table.columns, forgotten, expected=known)
