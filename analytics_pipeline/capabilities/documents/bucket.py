"""The inbox as a prefix of an object store, by fsspec: `s3://bucket/inbox`, `gs://…`, `az://…`.

Belongs here: objects. Does not: folders (`folder`), the store's own objects (`backends.object_store`).

An object appears whole, so none is half written. But no object store can compare an object and move it in one step:
one that is replaced in the moment between is gone unread. So each document in a bucket needs a name of its own.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from analytics_pipeline.capabilities.backends.roots import checked_root
from analytics_pipeline.capabilities.documents.inbox import (
    LARGEST_BYTES,
    Dropped,
    day_folder,
    free_name,
    is_document,
    report_name,
    report_of,
    too_large,
)
from analytics_pipeline.errors import ExtraMissing, InboxUnusable

if TYPE_CHECKING:
    from analytics_pipeline.capabilities.documents.reading import Refusal


class BucketInbox:
    """The objects below a URL.

    Args:
        url: of the prefix, without credentials: these are found where the store's own tools find them.
        largest: bytes of a document; a larger one is not read.

    Raises:
        ExtraMissing: the packages for this kind of URL are not installed.
        InboxUnusable: the URL is none, or has credentials.
    """

    def __init__(self, url: str, *, largest: int = LARGEST_BYTES) -> None:
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

            self.place = checked_root(url)
            self._files, root = url_to_fs(self.place)
        except ImportError as error:
            raise ExtraMissing("An inbox in an object store", "objects") from error
        except ValueError as error:
            raise InboxUnusable("in an object store", str(error)) from None
        self._root = root.rstrip("/")
        self._largest = largest

    def has_document(self) -> bool:
        """Whether anything is to be taken up: a listing, of a thousand objects a request."""
        return any(True for _ in self.names())

    @contextmanager
    def held(self, log: Callable[[str], None]) -> Iterator[None]:  # noqa: ARG002 - nobody to wait for
        """Nothing is held: of two intakes at once both store each document, the second time without effect.

        Raises:
            InboxUnusable: the object store refused.
        """
        try:
            yield
        except OSError as error:
            raise InboxUnusable(self.place, str(error)) from error

    def names(self) -> Iterator[str]:
        """The documents that wait, in no order."""
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            for entry in self._files.ls(self._root, detail=True):
                name = posixpath.basename(entry["name"])
                if entry["type"] == "file" and is_document(name):
                    yield name

    def read(self, name: str) -> Dropped | None:
        """A document, whatever it turns out to be; None where it is gone."""
        path = self._path(name)
        try:
            found, stamp = self._files.info(path), self._stamp(path)
            if found["size"] > self._largest:
                return too_large(name, stamp, found["size"], self._largest)
            return Dropped(name, self._files.cat_file(path), stamp)
        except FileNotFoundError:
            return None

    def is_settled(self, document: Dropped) -> bool:  # noqa: ARG002 - all of them are
        """Always: an object appears whole."""
        return True

    def keep(self, document: Dropped) -> bool:
        """Move a stored document to the others of this day; False where another one stands there under its name now.

        Raises:
            OSError: it cannot be moved.
        """
        return self._move(document, day_folder(), None)

    def reject(self, document: Dropped, refusal: Refusal) -> bool:
        """Move a refused document aside, with a report beside it; False where another one has its name now.

        Raises:
            OSError: it cannot be moved.
        """
        return self._move(document, "rejected", refusal)

    def _move(self, document: Dropped, folder: str, refusal: Refusal | None) -> bool:
        source = self._path(document.name)
        try:
            if self._stamp(source) != document.stamp:
                return False
        except FileNotFoundError:
            return False
        name = free_name(document.name, lambda name: bool(self._files.exists(self._path(folder, name))))
        if refusal is not None:
            self._files.pipe_file(self._path(folder, report_name(name)), report_of(document, refusal).encode())
        self._files.copy(source, self._path(folder, name))
        self._files.rm_file(source)
        return True

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def _stamp(self, path: str) -> tuple[str]:
        """What fsspec tells two versions of an object by: its ETag, or its time and size."""
        self._files.invalidate_cache()
        key: Any = self._files.ukey(path)
        return (str(key),)
