"""The sweeper: removes what killed writers left, and nothing that an experiment names.

Belongs here: which files are nobody's. Does not: objects under prefixes that their users look after (`DataStoreIO`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics_pipeline.errors import ObjectsError, PrefixRefused
from analytics_pipeline.objects.base import Base, Entry, open_base
from analytics_pipeline.objects.datastore import BaseLike
from analytics_pipeline.objects.experiment_index import read_urls
from analytics_pipeline.objects.names import is_experiment_id, is_object_name

REMOTE_PATIENCE = timedelta(days=1)
"""How old an orphan in an object store must be: nothing there tells a slow writer from a dead one."""


@dataclass(frozen=True)
class Swept:
    """What a sweep did.

    Args:
        removed: the URLs of the objects that were removed.
        unfinished: the number of files of killed writers that were removed; they had no URL yet.
        left: what could not be swept, by its name, with the reason. All else was.
    """

    removed: Sequence[str]
    unfinished: int
    left: Mapping[str, str]


def sweep(base: BaseLike = None, *, patience: timedelta = REMOTE_PATIENCE) -> Swept:
    """Remove objects of experiments that no index names, and unfinished files of writers that live no more.

    Safe while others write: in a folder they hold locks; in an object store only old orphans are removed. Nothing is
    removed of an experiment whose index cannot be read; the others are swept all the same.

    Args:
        base: folder, URL or base; the one in charge by default (`open_base`).
        patience: least age of an orphan where there are no locks.

    Raises:
        ObjectsBaseRefused: see `open_base`.
    """
    place = open_base(base)
    latest = datetime.now(UTC) - (timedelta(0) if place.has_locks else patience)
    removed: list[str] = []
    left: dict[str, str] = {}
    unfinished = 0
    try:
        unfinished = place.clear_staging()
    except (ObjectsError, OSError) as error:
        left["unfinished files"] = str(error)
    experiments: Sequence[Entry] = ()
    try:
        experiments = place.entries("")
    except (ObjectsError, OSError) as error:
        left[str(place)] = str(error)
    for entry in experiments:
        if not is_experiment_id(entry.name):
            continue
        try:
            removed.extend(_sweep_experiment(entry, place, latest))
        except (ObjectsError, OSError) as error:
            left[entry.name] = str(error)
    return Swept(removed, unfinished, left)


def _sweep_experiment(experiment: Entry, base: Base, latest: datetime) -> Iterator[str]:
    id_experiment = experiment.name
    if not experiment.is_prefix:
        raise PrefixRefused(id_experiment, "is a link or a file where an experiment should be")
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
