"""A base in an object store, by fsspec: `s3://`, `gs://`, `az://`, `memory://` and all else that it knows.

Belongs here: what the filesystem of fsspec is asked to do. Does not: credentials, which fsspec finds by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from analytics_pipeline.errors import ExtraMissing, ObjectNotFound, ObjectsBaseRefused, ObjectUnwritable
from analytics_pipeline.objects.base import Entry
from analytics_pipeline.objects.container import Encoded, Source

_AT_ONCE = 4 * 1024 * 1024


class RemoteBase:
    """A base at a URL. An object appears when it is whole: object stores show nothing before.

    Args:
        url: with a bucket or a folder, as `s3://bucket/prefix`.
        options: for fsspec.

    Raises:
        ObjectsBaseRefused: fsspec does not know it, or it holds a password.
        ExtraMissing: fsspec, or its package for this scheme, is not installed.
    """

    has_locks = False

    def __init__(self, url: str, options: Mapping[str, object]) -> None:
        parts = urlsplit(url)
        if parts.password is not None or parts.query:
            raise ObjectsBaseRefused(f"{parts.scheme}://…", "a URL carries no password and no query")
        if not parts.netloc:
            raise ObjectsBaseRefused(url, "it names no bucket and no folder")
        try:
            import fsspec  # noqa: PLC0415 - an extra

            self._filesystem: Any
            known = {**options, "use_listings_cache": False}  # of a listing, others' later objects would be missing
            self._filesystem, self._root = fsspec.core.url_to_fs(url.rstrip("/"), **known)
        except ImportError:
            raise ExtraMissing(f"The base {url}", "objects") from None
        except ValueError as error:
            raise ObjectsBaseRefused(url, str(error)) from None
        self.url = f"{url.rstrip('/')}/"

    def __str__(self) -> str:
        return self.url

    def write(self, path: str, encoded: Encoded) -> None:
        """See `Base.write`."""
        place = self._place(path)
        try:
            if encoded.size <= _AT_ONCE:
                self._filesystem.pipe_file(place, b"".join(encoded.pieces()))
            else:
                self._write_in_parts(place, encoded)
        except OSError as error:
            raise ObjectUnwritable(self.url, str(error)) from error

    def _write_in_parts(self, place: str, encoded: Encoded) -> None:
        try:
            with self._filesystem.open(place, "wb") as file:
                for piece in encoded.pieces():
                    file.write(piece)
        except BaseException:
            with suppress(OSError):
                self._filesystem.rm_file(place)
            raise

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[Source, int]]:
        """See `Base.opened`."""
        place = self._place(path)
        try:
            file = self._filesystem.open(place, "rb")
        except FileNotFoundError:
            raise ObjectNotFound(f"{self.url}{path}", self.url) from None
        with file:
            size = getattr(file, "size", None)  # of what was opened, which another may have replaced since
            yield file, int(self._filesystem.size(place) if size is None else size)

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See `Base.entries`."""
        try:
            found = self._filesystem.ls(self._place(prefix), detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return [_entry(item) for item in found]

    def remove(self, path: str) -> None:
        """See `Base.remove`."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._place(path))

    def remove_all(self, prefix: str) -> int:
        """See `Base.remove_all`."""
        place = self._place(prefix)
        try:
            files = self._filesystem.find(place, refresh=True)
            if files:
                self._filesystem.rm(place, recursive=True)
        except FileNotFoundError:
            return 0
        return len(files)

    @contextmanager
    def exclusive(self, prefix: str) -> Iterator[None]:  # noqa: ARG002 - object stores have no locks
        """Does nothing: of two who replace one experiment at once, the last one stays."""
        yield

    def clear_staging(self) -> int:
        """Object stores show nothing that is not whole."""
        return 0

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}" if path else str(self._root)


def _entry(item: Mapping[str, Any]) -> Entry:
    name = str(item["name"]).rstrip("/").rpartition("/")[2]
    if item["type"] == "directory":
        return Entry(name, None)
    moment = next((item[key] for key in ("LastModified", "created", "updated", "mtime") if key in item), None)
    return Entry(name, moment if isinstance(moment, datetime) else datetime.now(UTC))
