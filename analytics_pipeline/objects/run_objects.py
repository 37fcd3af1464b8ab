"""Objects of runs whose rows are in the tables of the lakehouse: written before the row, and gone with the next one.

Belongs here: the order of writes. Does not: the rows (`experiments.log`), or the runs that an experiment of
this package persists itself (`experiment_index`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from analytics_pipeline.errors import AnalyticsError, AppendFailed, ObjectsError, StoreUnwritable
from analytics_pipeline.objects.base import Base
from analytics_pipeline.objects.container import Encoded
from analytics_pipeline.objects.names import is_object_name, new_object_name


def replace_objects(
    objects: Sequence[Encoded], prefix: str, base: Base, log_urls: Callable[[Sequence[str]], None]
) -> None:
    """Write objects below a prefix, log their URLs, then remove what was below the prefix before.

    Args:
        objects: of one run, all of them.
        prefix: that only this run has.
        base: to keep them in.
        log_urls: makes the row with the URLs, which are in the order of the objects. Where it fails by the disk or is
            stopped, there may be a row none the less: what it names stays then, and goes with the next call.

    Raises:
        ObjectUnwritable: nothing was logged, and the former objects are unchanged.
    """
    with base.exclusive(prefix):
        former = [entry.name for entry in base.entries(prefix) if is_object_name(entry.name)]
        paths = [f"{prefix}/{new_object_name()}" for _ in objects]
        try:
            for path, encoded in zip(paths, objects, strict=True):
                base.write(path, encoded)
        except BaseException:
            _withdraw(paths, base)
            raise
        try:
            log_urls([f"{base.url}{path}" for path in paths])
        except AnalyticsError as refused:
            if not isinstance(refused, AppendFailed | StoreUnwritable):
                _withdraw(paths, base)
            raise
        _remove([f"{prefix}/{name}" for name in former], base)


def _withdraw(paths: Iterable[str], base: Base) -> None:
    """Remove what no row names. Where that fails, too, the first failure is told; the rest goes with the next call."""
    with suppress(ObjectsError, OSError):
        _remove(paths, base)


def _remove(paths: Iterable[str], base: Base) -> None:
    for path in paths:
        base.remove(path)
