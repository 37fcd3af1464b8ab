"""A base in an object store, by fsspec: `s3://`, `gs://`, `az://`, `memory://` and all else that it knows.

Belongs here: what the filesystem of fsspec is asked to do. Does not: what its clients raise (`remote_failures`), or
credentials, which fsspec finds by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from analytics_pipeline.errors import ExtraMissing, ObjectsBaseRefused, ObjectUnwritable
from analytics_pipeline.forks import renew_in_child
from analytics_pipeline.objects.base import Entry
from analytics_pipeline.objects.container import Encoded, Source
from analytics_pipeline.objects.remote_failures import Failures

_AT_ONCE = 4 * 1024 * 1024
_UPLOADED_IN_PARTS = frozenset({"s3", "s3a", "gs", "gcs"})
"""Schemes whose files are seen when they are whole. Those of `memory` grow in sight; `az` first deletes the former."""


class RemoteBase:
    """A base at a URL. An object appears when it is whole: object stores show nothing before.

    Args:
        url: with a bucket or a folder, as `s3://bucket/prefix`.
        options: for fsspec.

    Raises:
        ObjectsBaseRefused: it is no URL, fsspec does not know it, or it holds a password.
        ExtraMissing: fsspec, or its package for this scheme, is not installed.
    """

    has_locks = False

    def __init__(self, url: str, options: Mapping[str, object]) -> None:
        _check_url(url)
        self.url = f"{url.rstrip('/')}/"
        # Of a listing that is kept, others' later objects would be missing.
        self._options = {**options, "use_listings_cache": False}
        self._open()
        renew_in_child(self, RemoteBase._open)
        self._in_parts = url.partition("://")[0] in _UPLOADED_IN_PARTS
        self._failures = Failures(self.url, options)

    def _open(self) -> None:
        url = self.url.rstrip("/")
        try:
            import fsspec  # noqa: PLC0415 - an extra

            self._filesystem: Any
            self._filesystem, self._root = fsspec.core.url_to_fs(url, **self._options)
        except ImportError:
            raise ExtraMissing(f"The base {url}", "objects") from None
        except ValueError as error:
            raise ObjectsBaseRefused(url, str(error)) from None

    def __str__(self) -> str:
        return self.url

    def write(self, path: str, encoded: Encoded) -> None:
        """See `Base.write`."""
        place = self._place(path)
        try:
            if encoded.size > _AT_ONCE and self._in_parts:
                self._upload(place, encoded)
            else:
                self._filesystem.pipe_file(place, b"".join(encoded.pieces()))
        except Exception as error:  # noqa: BLE001 - a client of an object store may raise anything
            raise ObjectUnwritable(self.url, self._failures.shown(error)) from None

    def _upload(self, place: str, encoded: Encoded) -> None:
        file = self._filesystem.open(place, "wb")
        try:
            for piece in encoded.pieces():
                file.write(piece)
            file.close()
        except BaseException:
            _discard(file)
            raise

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[Source, int]]:
        """See `Base.opened`."""
        place = self._place(path)
        with self._failures.of_object(path):
            file = self._filesystem.open(place, "rb")
        with file:
            size = getattr(file, "size", None)  # of what was opened, which another may have replaced since
            if size is None:
                with self._failures.of_object(path):
                    size = self._filesystem.size(place)
            yield _Source(file, path, self._failures), int(size)

    def entries(self, prefix: str) -> Sequence[Entry]:
        """See `Base.entries`."""
        try:
            with self._failures.told():
                found = self._filesystem.ls(self._place(prefix), detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return [_entry(item) for item in found]

    def remove(self, path: str) -> None:
        """See `Base.remove`."""
        with suppress(FileNotFoundError), self._failures.told():
            self._filesystem.rm_file(self._place(path))

    def remove_all(self, prefix: str) -> int:
        """See `Base.remove_all`."""
        place = self._place(prefix)
        try:
            with self._failures.told():
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


class _Source:
    """An open object, whose failures are told as the base's."""

    def __init__(self, file: Any, path: str, failures: Failures) -> None:
        self._file = file
        self._path = path
        self._failures = failures

    def readinto(self, target: memoryview, /) -> int | None:
        """See `Source.readinto`."""
        with self._failures.of_object(self._path):
            count: int | None = self._file.readinto(target)
        return count


def _check_url(url: str) -> None:
    shown = f"{url.partition('://')[0]}://…"
    try:
        parts = urlsplit(url)
    except ValueError:  # half of an IPv6 address
        raise ObjectsBaseRefused(shown, "it is no URL") from None
    if parts.password is not None or parts.query:
        raise ObjectsBaseRefused(shown, "a URL carries no password and no query")
    if not parts.netloc:
        raise ObjectsBaseRefused(url, "it names no bucket and no folder")


def _discard(file: Any) -> None:
    """Give an upload up. Nothing of it was ever seen: what was at its place stays."""
    from fsspec.spec import AbstractBufferedFile  # noqa: PLC0415 - an extra

    with suppress(Exception):  # the first failure is told; parts that stay on the server are never seen
        file.discard()
    if isinstance(file, AbstractBufferedFile):
        file.closed = True  # else its end would complete the upload


def _entry(item: Mapping[str, Any]) -> Entry:
    name = str(item["name"]).rstrip("/").rpartition("/")[2]
    if item["type"] == "directory":
        return Entry(name, None)
    moment = next((item[key] for key in ("LastModified", "created", "updated", "mtime") if key in item), None)
    return Entry(name, moment if isinstance(moment, datetime) else datetime.now(UTC))
