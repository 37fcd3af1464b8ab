"""The state: what a refresh must know of the last one to keep what is still true.

Belongs here: its JSON, which lies in the store's metadata beside the cases. Does not: deciding by it (`derivation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analytics_pipeline.human_signals.layout import Layout, SignalColumn
from analytics_pipeline.store import JsonObject, Manifest


@dataclass(frozen=True)
class State:
    """What published cases were made of.

    Args:
        version: of the rules.
        asked: digest of what a user asked for beside the rows.
        identity: of the rows.
        buckets: that the tables are cut into.
        layout: the columns.
    """

    version: int
    asked: str
    identity: str
    buckets: int
    layout: Layout

    def to_json(self) -> JsonObject:
        """As it is kept between syncs."""
        return {
            "version": self.version,
            "asked": self.asked,
            "identity": self.identity,
            "buckets": self.buckets,
            "metrics": self.layout.metrics,
            "columns": [(column.name, column.type, column.signal, column.metric) for column in self.layout.columns],
            "left_out": self.layout.left_out,
        }


def kept_state(manifest: Manifest, name: str, version: int) -> State | None:
    """The state of published cases; None where there are none, or of another version.

    Args:
        manifest: published.
        name: under which it is kept.
        version: of the rules.
    """
    metadata = manifest.metadata.get(name)
    if metadata is None or metadata.value.get("version") != version:
        return None
    kept: Mapping[str, Any] = metadata.value
    layout = Layout(tuple(kept["metrics"]), tuple(SignalColumn(*each) for each in kept["columns"]), kept["left_out"])
    return State(version, kept["asked"], kept["identity"], kept["buckets"], layout)


def difference(before: Layout, after: Layout) -> str | None:
    """Why cases of one layout are none of the other, in words; None where they are."""
    changes = [
        _names("metrics", before.metrics, after.metrics),
        _names("common metadata", before.common, after.common),
        _names("columns", [column.name for column in before.columns], [column.name for column in after.columns]),
        _types(before, after),
    ]
    found = [change for change in changes if change]
    if not found and before.columns != after.columns:
        found = ["other signals have the columns' names"]
    return "; ".join(found) or None


def _names(what: str, before: Sequence[str], after: Sequence[str]) -> str | None:
    new, gone = sorted(set(after) - set(before)), sorted(set(before) - set(after))
    words = [f"{word}: {_listed(names)}" for word, names in (("new", new), ("gone", gone)) if names]
    return f"{what} changed ({', '.join(words)})" if words else None


def _types(before: Layout, after: Layout) -> str | None:
    former = {column.name: column.type for column in before.columns}
    changed = [
        f"{column.name} from {former[column.name]} to {column.type}"
        for column in after.columns
        if column.name in former and former[column.name] != column.type
    ]
    return f"types changed ({_listed(changed)})" if changed else None


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
