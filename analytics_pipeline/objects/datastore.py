"""Objects under URLs: `DataStore` for named values that belong together, `DataStoreIO` for single ones.

Belongs here: writing, reading, deleting by URL and prefix. Does not: what can be stored (`serialization`), the objects
of an experiment (`experiment`), or the place (`base`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from analytics_pipeline.errors import ObjectTypeUnexpected
from analytics_pipeline.objects.base import Base, open_base
from analytics_pipeline.objects.container import Encoded, Segment, read_container
from analytics_pipeline.objects.mapping import AttributeMapping
from analytics_pipeline.objects.names import new_object_name, object_path, own_prefix, run_prefix
from analytics_pipeline.objects.run_objects import replace_objects
from analytics_pipeline.objects.serialization import decode, encode

T = TypeVar("T")
BaseLike = str | Path | Base | None
DEFAULT_PREFIX = "datastores"


@dataclass(frozen=True)
class StoredFacts:
    """What is known of a stored object without loading it.

    Args:
        size: bytes of its container.
        checksum: SHA-256 that the container ends with, in hexadecimal.
    """

    size: int
    checksum: str


class DataStoreIO:
    """One stored object. Whoever writes it by this class deletes it, too.

    Args:
        url: of the object, as `file:///{prefix}/{32 hexadecimal digits}`, relative to the base.
        base: folder, URL or base that it is in; the one in charge by default (`open_base`).

    Raises:
        ObjectUrlRefused: the URL is of no object in this base.
    """

    __slots__ = ("_base", "_path", "url")

    def __init__(self, url: str, base: BaseLike = None) -> None:
        self._base = open_base(base)
        self._path = object_path(url, self._base.url)
        self.url = url

    def __repr__(self) -> str:
        return f"DataStoreIO({self.url!r})"

    @classmethod
    def write(cls, data: bytes, relative_path_prefix: str, base: BaseLike = None) -> DataStoreIO:
        """Store bytes as they are, under a new URL.

        Raises:
            PrefixRefused: the prefix cannot be, or is that of an experiment.
            ObjectUnwritable: nothing was written.
        """
        if not isinstance(data, bytes):
            raise ObjectTypeUnexpected("What is to be written", type(data).__name__, "bytes; use serialize_write")
        raw = Encoded({"$": "bytes", "s": 0}, [Segment(len(data), lambda: [data])])
        return cls._store(raw, own_prefix(relative_path_prefix), base)

    @classmethod
    def serialize_write(cls, obj: object, relative_path_prefix: str, base: BaseLike = None) -> DataStoreIO:
        """Store an object under a new URL.

        Raises:
            ObjectUnsupported: names the path of what cannot be stored exactly; nothing was written.
            PrefixRefused, ObjectUnwritable: see `write`.
        """
        return cls._store(encode(obj), own_prefix(relative_path_prefix), base)

    @classmethod
    def _store(cls, encoded: Encoded, prefix: str, base: BaseLike) -> DataStoreIO:
        place = open_base(base)
        path = f"{prefix}/{new_object_name()}"
        place.write(path, encoded)
        return cls(f"{place.url}{path}", place)

    @classmethod
    def delete(cls, relative_path_prefix: str, base: BaseLike = None) -> int:
        """Delete everything below a prefix; the number of objects.

        Raises:
            PrefixRefused: the prefix is empty, cannot be, leads over a link, or is that of an experiment.
        """
        return open_base(base).remove_all(own_prefix(relative_path_prefix))

    def read(self) -> bytes:
        """The bytes that were given to `write`, or those of a serialized object's container; verified.

        Raises:
            ObjectNotFound, ObjectDamaged: see `read_deserialize`.
        """
        with self._base.opened(self._path) as (source, size):
            contents = read_container(source, size, self.url)
        if contents.tree == {"$": "bytes", "s": 0} and len(contents.segments) == 1:
            return contents.segments[0].tobytes()
        with self._base.opened(self._path) as (source, size):
            data = bytearray(size)
            view, filled = memoryview(data), 0
            while count := source.readinto(view[filled:]):
                filled += count
        return bytes(view[:filled])

    @overload
    def read_deserialize(self) -> Any: ...

    @overload
    def read_deserialize(self, expected_type: type[T]) -> T: ...

    def read_deserialize(self, expected_type: type[T] | None = None) -> Any:
        """The object, exactly as it was stored.

        Args:
            expected_type: of which it must be an instance.

        Raises:
            ObjectNotFound: it is not there.
            ObjectDamaged: it is torn or altered, or was not written by this store.
            ObjectRefused: it was made to do harm.
            ObjectTypeUnexpected: it is of another type.
        """
        with self._base.opened(self._path) as (source, size):
            contents = read_container(source, size, self.url)
        found = decode(contents, self.url)
        if expected_type is not None and not isinstance(found, expected_type):
            raise ObjectTypeUnexpected(self.url, f"a {type(found).__name__}", f"a {expected_type.__name__}")
        return found

    def facts(self) -> StoredFacts:
        """Size and checksum; the object is read through and verified.

        Raises:
            ObjectNotFound, ObjectDamaged: see `read_deserialize`.
        """
        with self._base.opened(self._path) as (source, size):
            return StoredFacts(size, read_container(source, size, self.url).checksum)


class DataStore(AttributeMapping):
    """Named values that are stored together, as one object; a row keeps only their URL."""

    __slots__ = ()

    def to_url(self, relative_path_prefix: str = DEFAULT_PREFIX, base: BaseLike = None) -> str:
        """Store the values as one object; its URL.

        Raises:
            ObjectUnsupported, PrefixRefused, ObjectUnwritable: see `DataStoreIO.serialize_write`.
        """
        return DataStoreIO.serialize_write(dict(self), relative_path_prefix, base).url

    @classmethod
    def store_for_run(
        cls,
        stores: Sequence[Self],
        run: tuple[str, str | None, str],
        log_urls: Callable[[Sequence[str]], None],
    ) -> None:
        """Store all that a run of a lakehouse has, in place of what it had before.

        Args:
            stores: all of them.
            run: the lakehouse, the experiment's id or None, and the run's id.
            log_urls: see `replace_objects`.

        Raises:
            ObjectUnsupported: names the path of what cannot be stored exactly; nothing was written.
            ObjectUnwritable: see `replace_objects`.
        """
        replace_objects([encode(dict(store)) for store in stores], run_prefix(*run), open_base(), log_urls)

    @classmethod
    def from_url(cls, url: str, base: BaseLike = None) -> DataStore:
        """The values that are stored under a URL.

        Raises:
            ObjectNotFound, ObjectDamaged, ObjectRefused, ObjectTypeUnexpected: see `DataStoreIO.read_deserialize`.
        """
        return cls(DataStoreIO(url, base).read_deserialize(dict))
