"""The base: the one place that objects are kept below, a folder or a prefix of an object store.

Belongs here: what a base can do, and which one is meant where none is named. Does not: how a kind of base does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

from analytics_pipeline.errors import ObjectsBaseRefused
from analytics_pipeline.objects.container import Encoded, Source
from analytics_pipeline.settings import objects_url


class Durability(Enum):
    """When a local write counts as done."""

    DISK = "disk"
    """When the disk has it: it outlives a loss of power."""
    CACHE = "cache"
    """When the operating system has it: it outlives this process."""


@dataclass(frozen=True)
class Entry:
    """Something directly below a prefix.

    Args:
        name: its last part.
        modified: when it was written; None for a prefix.
    """

    name: str
    modified: datetime | None

    @property
    def is_prefix(self) -> bool:
        """Whether more is below it."""
        return self.modified is None


class Base(Protocol):
    """Keeps containers under paths. Every path that it is given was checked (`names`).

    Whatever is asked of an object store raises `ObjectsUnreachable` where that does not answer or lets nobody in.
    """

    @property
    def url(self) -> str:
        """What the URLs of its objects begin with; ends with `/`."""

    def write(self, path: str, encoded: Encoded) -> None:
        """Write a container; what was at the path stays until the new one is there, whole.

        Raises:
            ObjectUnwritable: nothing has changed.
            PrefixRefused: a link on the way leads out of the base.
        """

    def opened(self, path: str) -> AbstractContextManager[tuple[Source, int]]:
        """Open a container; yields it and its size.

        Raises:
            ObjectNotFound: there is none.
            PrefixRefused: a link on the way leads out of the base.
        """

    def entries(self, prefix: str) -> Sequence[Entry]:
        """What is directly below a prefix; of the empty one, all that is in the base."""

    def remove(self, path: str) -> None:
        """Remove a container; harmless where there is none."""

    def remove_all(self, prefix: str) -> int:
        """Remove everything below a prefix; the number of containers."""

    def exclusive(self, prefix: str) -> AbstractContextManager[None]:
        """Keep others who ask for the same out; does nothing where the place knows no locks."""

    @property
    def has_locks(self) -> bool:
        """Whether `exclusive` keeps anybody out."""

    def clear_staging(self) -> int:
        """Remove what killed writers left; the number of files.

        Raises:
            PrefixRefused: the place for it is a link.
        """


_chosen: ContextVar[Base | None] = ContextVar("objects_base", default=None)


def open_base(
    url: str | Path | Base | None = None,
    *,
    durability: Durability = Durability.DISK,
    storage_options: Mapping[str, object] | None = None,
) -> Base:
    """The base at a folder or URL.

    Args:
        url: absolute folder, or a URL that fsspec knows, as `s3://bucket/prefix`; None for the one in charge: that of
            `using_base`, else `ANALYTICS_OBJECTS_URL`, else `objects` in the home.
        durability: of a local base.
        storage_options: for fsspec.

    Raises:
        ObjectsBaseRefused: it can be none.
        ExtraMissing: the packages for it are not installed.
    """
    if url is None:
        url = _chosen.get() or objects_url()
    if not isinstance(url, (str, Path)):  # a tuple: of each object that is written or read
        return url
    from analytics_pipeline.objects.local import LocalBase  # noqa: PLC0415 - both know this module

    scheme, separator, rest = str(url).partition("://")
    if not separator:
        return LocalBase(_absolute(url), durability)
    if scheme in {"file", "local"}:
        if not rest.startswith("/") or "%" in rest:
            raise ObjectsBaseRefused(str(url), "a file URL is file:///absolute/folder, without percent-encoding")
        return LocalBase(Path(rest), durability)
    from analytics_pipeline.objects.remote import RemoteBase  # noqa: PLC0415 - fsspec is an extra

    return RemoteBase(str(url), storage_options or {})


def _absolute(folder: str | Path) -> Path:
    try:
        path = Path(folder).expanduser()
    except RuntimeError as error:  # no such user
        raise ObjectsBaseRefused(str(folder), str(error)) from None
    if not path.is_absolute():
        raise ObjectsBaseRefused(
            str(folder), "it is relative, so each working directory would have its own; begin with / or ~"
        )
    return path


@contextmanager
def using_base(url: str | Path | Base, *, durability: Durability = Durability.DISK) -> Iterator[Base]:
    """Keep objects there for the length of a `with` block, wherever no base is named.

    Raises:
        ObjectsBaseRefused: it can be none.
    """
    base = open_base(url, durability=durability)
    token = _chosen.set(base)
    try:
        yield base
    finally:
        _chosen.reset(token)
