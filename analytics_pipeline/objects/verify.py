"""Verification of objects: each container is read and compared with the checksum at its end.

Belongs here: the containers below a base, and those that an experiment's index names. Does not: rows that hold URLs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analytics_pipeline.errors import ExperimentCopied, ObjectNotFound, ObjectsError
from analytics_pipeline.objects.base import Base, open_base
from analytics_pipeline.objects.container import read_container
from analytics_pipeline.objects.datastore import BaseLike
from analytics_pipeline.objects.experiment_index import read_urls
from analytics_pipeline.objects.names import is_experiment_id
from analytics_pipeline.store.verify import Damage, Verified

_REMEDY = "Put it back from a backup, or store the experiment or the run again."


def verify_objects(base: BaseLike = None) -> Verified:
    """Read every object of a base and compare it with its checksum.

    Args:
        base: folder, URL or base; the one in charge by default (`open_base`).

    Raises:
        ObjectsError: the base cannot be read.
    """
    place = open_base(base)
    paths = list(_paths("", place))
    damages = [damage for path in paths for damage in _damaged(path, place)]
    damages += [damage for entry in place.entries("") for damage in _unnamed(entry.name, place)]
    return Verified(damages, len(paths))


def _paths(prefix: str, base: Base) -> Iterator[str]:
    for entry in base.entries(prefix):
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_prefix:
            yield from _paths(path, base)
        else:
            yield path


def _damaged(path: str, base: Base) -> Iterator[Damage]:
    try:
        with base.opened(path) as (source, size):
            read_container(source, size, path)
    except ObjectNotFound:
        return  # it was deleted meanwhile
    except ObjectsError as error:
        yield Damage(Path(str(base)) / path, str(error), _REMEDY)


def _unnamed(id_experiment: str, base: Base) -> Iterator[Damage]:
    """Objects that an index names and that are gone; an experiment with objects and without an index."""
    if not is_experiment_id(id_experiment):
        return
    try:
        named = read_urls(id_experiment, base)
    except ExperimentCopied:
        return
    except ObjectsError:
        return  # its container is named as damaged
    found = {f"{id_experiment}/{entry.name}" for entry in base.entries(id_experiment)}
    for path in sorted(set(named or ()) - found):
        yield Damage(Path(str(base)) / path, f"is missing; the index of {id_experiment} names it", _REMEDY)
    if named is None and found:
        where = Path(str(base)) / id_experiment
        yield Damage(where, f"has {len(found)} objects and no index, so the next sweep removes them", _REMEDY)
