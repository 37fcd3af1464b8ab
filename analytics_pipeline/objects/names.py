"""Names in the object store: prefixes, URLs of objects, ids of experiments; what is refused before a file is opened.

Belongs here: their forms. Does not: links on the disk, which the base itself does not follow (`local`).
"""

from __future__ import annotations

import re
import uuid

from analytics_pipeline.errors import ObjectUrlRefused, PrefixRefused

INDEX = "index"
"""The name, beside an experiment's objects, of what says which of them it has."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*", re.ASCII)
_OBJECT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_EXPERIMENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_LONGEST_PART = 200
_LONGEST_PREFIX = 800


def new_object_name() -> str:
    """A name that no other object has: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def is_object_name(name: str) -> bool:
    """Whether it could be the name of an object."""
    return _OBJECT.fullmatch(name) is not None


def is_experiment_id(name: str) -> bool:
    """Whether it could be the id of an experiment, of this process or any other."""
    return _EXPERIMENT.fullmatch(name) is not None


def checked_prefix(prefix: str) -> str:
    """A prefix, as it was given.

    Raises:
        PrefixRefused: it is empty, absolute, percent-encoded, leads upwards, or holds anything but plain names.
    """
    if not prefix:
        raise PrefixRefused(prefix, "is empty: it would be the whole store")
    if prefix.startswith("/"):
        raise PrefixRefused(prefix, "is absolute")
    if "%" in prefix:
        raise PrefixRefused(prefix, "is percent-encoded")
    for part in prefix.split("/"):
        if part == "..":
            raise PrefixRefused(prefix, "leads upwards")
        if not _PART.fullmatch(part) or len(part) > _LONGEST_PART:
            raise PrefixRefused(prefix, f"has the part {part!r}, which is no name")
    if len(prefix) > _LONGEST_PREFIX:
        raise PrefixRefused(prefix, f"is longer than {_LONGEST_PREFIX} characters")
    return prefix


def own_prefix(prefix: str) -> str:
    """A prefix that its user looks after: not that of an experiment, which the store empties and deletes by itself.

    Raises:
        PrefixRefused: see `checked_prefix`; or it is below the id of an experiment.
    """
    checked = checked_prefix(prefix)
    first = checked.partition("/")[0]
    if is_experiment_id(first):
        raise PrefixRefused(prefix, f"is that of an experiment; begin with a name of your own, as in my/{first}")
    return checked


def checked_experiment_id(given: str) -> str:
    """The id of an experiment.

    Raises:
        PrefixRefused: it is none.
    """
    if not is_experiment_id(given):
        raise PrefixRefused(given, "is no id of an experiment")
    return given


def object_path(url: str, base_url: str) -> str:
    """Where an object is, relative to its base.

    Args:
        url: of the object.
        base_url: what the URLs of all objects of the base begin with; ends with `/`.

    Raises:
        ObjectUrlRefused: it is no URL of an object in this base.
    """
    form = f"{base_url}{{prefix}}/{{32 hexadecimal digits}}"
    if not url.startswith(base_url):
        raise ObjectUrlRefused(url, "is of another base", form)
    path = url.removeprefix(base_url)
    prefix, _, name = path.rpartition("/")
    try:
        checked_prefix(prefix)
    except PrefixRefused as error:
        raise ObjectUrlRefused(url, f"has a prefix that is refused ({error})", form) from None
    if not is_object_name(name):
        raise ObjectUrlRefused(url, f"ends with {name!r}, which is no name of an object", form)
    return path
