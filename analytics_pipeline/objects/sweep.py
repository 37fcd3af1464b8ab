"""The sweeper: removes what killed writers left, and nothing that an experiment names.

Belongs here: which files are nobody's. Does not: objects under prefixes that their users look after (`DataStoreIO`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from analytics_pipeline.objects.base import Base, Entry, open_base
from analytics_pipeline.objects.datastore import BaseLike
from analytics_pipeline.objects.experiment_index import read_urls
from analytics_pipeline.objects.names import is_experiment_id, is_object_name

REMOTE_PATIENCE = timedelta(days=1)
"""How old an orphan in an object store must be: nothing there tells a slow writer from a dead one."""


def sweep(base: BaseLike = None, *, patience: timedelta = REMOTE_PATIENCE) -> Sequence[str]:
    """Remove objects of experiments that no index names, and unfinished files of writers that live no more.

    Safe while others write: in a folder they hold locks; in an object store only old orphans are removed.

    Args:
        base: folder, URL or base; the one in charge by default (`open_base`).
        patience: least age of an orphan where there are no locks.

    Returns:
        The URLs of the objects that were removed; unfinished files have none.

    Raises:
        ObjectDamaged: an index cannot be read. Nothing of its experiment was removed.
    """
    place = open_base(base)
    place.clear_staging()
    latest = datetime.now(UTC) - (timedelta(0) if place.has_locks else patience)
    removed: list[str] = []
    for entry in place.entries(""):
        if entry.is_prefix and is_experiment_id(entry.name):
            removed += _sweep_experiment(entry.name, place, latest)
    return removed


def _sweep_experiment(id_experiment: str, base: Base, latest: datetime) -> Iterator[str]:
    with base.exclusive(id_experiment):
        named = read_urls(id_experiment, base)
        found = base.entries(id_experiment)
        for path in _orphans(id_experiment, found, set(named or ()), latest):
            base.remove(path)
            yield f"{base.url}{path}"
        if named is None and not base.entries(id_experiment):
            base.remove_all(id_experiment)


def _orphans(id_experiment: str, found: Sequence[Entry], named: set[str], latest: datetime) -> Iterator[str]:
    for entry in found:
        path = f"{id_experiment}/{entry.name}"
        if is_object_name(entry.name) and path not in named and entry.modified and entry.modified <= latest:
            yield path
