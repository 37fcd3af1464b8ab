"""Roots: what the path of a folder or the URL of an object store may be, before anything is opened.

Belongs here: telling them apart; refusing those that show a secret, or are a slip of the pen. Does not: opening them
(`files`, `object_store`).
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FILE = "file://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_KNOWN = frozenset({"abfs", "abfss", "adl", "az", "file", "gcs", "gs", "http", "https", "memory", "oci", "s3", "s3a"})
_CONTAINER_FIRST = frozenset({"abfs", "abfss", "az"})
"""Of these `container@account` is the place, and no credential."""


def checked_root(root: str | Path) -> str:
    """The root with its scheme in lower case; it is shown and logged from here on.

    Raises:
        ValueError: it carries a user, a password, a query or a fragment, which may be credentials; or has one slash
            where a URL has two, and would be a folder. The message does not repeat it.
    """
    return "::".join(_checked(part) for part in str(root).split("::"))  # fsspec chains URLs by ::


def _checked(uri: str) -> str:
    matched = _SCHEME.fullmatch(uri)
    if matched is None:
        return uri
    scheme, rest = matched[1].lower(), matched[2]
    if rest.startswith("//"):
        _refuse_credentials(scheme, f"{scheme}:{rest}")
        return f"{scheme}:{rest}"
    if scheme in _KNOWN and rest:
        raise ValueError(f"after {scheme}: come two slashes; of a folder of that name, write ./{scheme}:")
    return uri


def _refuse_credentials(scheme: str, uri: str) -> None:
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - what is no number is refused: it may be a password up to its first slash
    except ValueError:  # which may repeat the URI
        raise ValueError("a uri has a valid host, and credentials in storage_options") from None
    user = None if scheme in _CONTAINER_FIRST else parts.username
    if any((user, parts.password, parts.query, parts.fragment)):
        raise ValueError("a uri carries no user, password, query or fragment: give credentials in storage_options")


def is_object_uri(root: str | Path) -> bool:
    """Whether a root is the URL of an object store, and no folder."""
    return isinstance(root, str) and "://" in root and not root.startswith(_FILE)


def folder_of(root: str | Path) -> Path:
    """The folder that a path or a `file://` URL names."""
    return Path(unquote(root.removeprefix(_FILE)) if isinstance(root, str) and root.startswith(_FILE) else root)
