"""The sweep: what dead processes left, and files whose grace has passed, go from the disk.

Belongs here: which files nobody needs any more. Does not: when it runs, or how a version is made (`commit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics_pipeline.store.commit import advance, held, load_manifest, prune
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.manifest import Manifest
from analytics_pipeline.store.stage import sweep_stages


@dataclass(frozen=True)
class Swept:
    """What a sweep removed: names of dead stages, paths of expired and of unlisted files."""

    stages: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()


def sweep(layout: Layout, grace: timedelta) -> Swept:
    """Remove dead stages, retired files whose grace has passed, and files that no version lists.

    Files are moved into `tables/` only under the lock that is held here, so an unlisted one belongs to nobody alive.
    """
    with held(layout):
        stages = sweep_stages(layout)
        current = load_manifest(layout)
        orphans = _remove_unlisted(layout, current)  # first: the next steps need room on the disk
        now = datetime.now(UTC)
        expired = tuple(item.path for item in current.retired if now - item.retired_at >= grace)
        if expired:
            current = current.without_retired(expired, now)
            advance(layout, current)
            _remove_unlisted(layout, current)
        prune(layout, current.version)
    return Swept(tuple(stages), expired, tuple(sorted(orphans)))


def _remove_unlisted(layout: Layout, manifest: Manifest) -> set[str]:
    listed = {file.path for file in manifest.live_files} | {item.path for item in manifest.retired}
    removed = set()
    for path in layout.tables.rglob("*.parquet"):
        relative = str(path.relative_to(layout.root))
        if relative not in listed:
            path.unlink()
            removed.add(relative)
    return removed
