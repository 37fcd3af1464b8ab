"""Identity: what tells a row that a store holds from a new one.

Belongs here: the keys of payload tables and of `runs`. Does not: where they are kept (`store.append`, `backends`).

A payload table has one identity a run. A row of `runs` with a run event takes two: that of its event, by which it is
known, and that without an event, so that a later row without one is a duplicate of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.capabilities.records import MATERIALIZATIONS, RUNS

_BASE = ("run_uid", "capability_table", "entity_type", "entity_id")
_EVENT = "run_event_id"
_MATERIALIZATION = ("materialization_id", "asset_key", "partition_key", "run_uid")


class CapabilityIdentity:
    """The identities of all tables of a capability store."""

    def columns(self, table: str) -> Sequence[str]:
        """The columns that identities of a table are made from."""
        if table == MATERIALIZATIONS:
            return _MATERIALIZATION
        return (*_BASE, _EVENT) if table == RUNS else ("run_uid",)

    def of(self, table: str, rows: pa.Table) -> Sequence[tuple[str, ...]]:
        """For each row the identities that it takes; it is known if the first of them is."""
        if table == RUNS:
            return _of_runs(rows)
        if table == MATERIALIZATIONS:
            return [(key,) for key in _keys(rows, _MATERIALIZATION)]
        if "run_uid" not in rows.column_names:
            return [()] * rows.num_rows  # another program's: there is nothing to know it by
        return [() if uid is None else (uid,) for uid in rows.column("run_uid").to_pylist()]


def _of_runs(rows: pa.Table) -> Sequence[tuple[str, ...]]:
    if not set(_BASE) <= set(rows.column_names):
        return [()] * rows.num_rows
    bases = _keys(rows, _BASE)
    if _EVENT not in rows.column_names:
        return [(base,) for base in bases]
    events = rows.column(_EVENT).to_pylist()
    return [
        (base,) if event is None else (json.dumps([base, event]), base)
        for base, event in zip(bases, events, strict=True)
    ]


def _keys(rows: pa.Table, names: Sequence[str]) -> Sequence[str]:
    columns = [_values(rows, name) for name in names]
    return [json.dumps(row, default=str) for row in zip(*columns, strict=True)]


def _values(rows: pa.Table, name: str) -> Sequence[object]:
    """Of a column that a file of another program may lack."""
    return rows.column(name).to_pylist() if name in rows.column_names else [None] * rows.num_rows


def without_repeated_runs(rows: pa.Table) -> pa.Table:
    """Rows of `runs`, each identity once; of equal ones the first."""
    seen: set[str] = set()
    kept = []
    for number, identities in enumerate(_of_runs(rows)):
        if not identities or identities[0] not in seen:
            seen.update(identities)
            kept.append(number)
    return rows if len(kept) == rows.num_rows else rows.take(kept)


def run_uids(rows: pa.Table) -> Sequence[str]:
    """The runs that some rows belong to, each once."""
    return [uid for uid in pc.unique(rows.column("run_uid")).to_pylist() if uid is not None]
