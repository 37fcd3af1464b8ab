"""Names in the object store: prefixes, URLs of objects, ids of experiments; what is refused before a file is opened.

Belongs here: their forms. Does not: links on the disk, which the base itself does not follow (`local`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re

from analytics_pipeline.errors import ObjectTypeUnexpected, ObjectUrlRefused, PrefixRefused

INDEX = "index"
"""The name, beside an experiment's objects, of what says which of them it has."""

RUNS = "runs"
"""Where the objects of runs are whose rows are in a lakehouse: below an experiment, or in the base."""

ASSETS = "assets"
"""Where the objects of Dagster's assets are."""

_MANAGED = frozenset({RUNS, ASSETS})
_DIGESTED = "_"
"""What digests of names begin with, and no name that stands for itself does."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*", re.ASCII)
_OBJECT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_EXPERIMENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_LONGEST_PART = 200
_LONGEST_PREFIX = 800
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.=+-]{0,99}", re.ASCII)


def new_object_name() -> str:
    """A name that no other object has: 32 hexadecimal digits."""
    return os.urandom(16).hex()


def is_object_name(name: str) -> bool:
    """Whether it could be the name of an object."""
    return _OBJECT.fullmatch(name) is not None


def is_experiment_id(name: str) -> bool:
    """Whether it could be the id of an experiment, of this process or any other."""
    return _EXPERIMENT.fullmatch(name) is not None


def checked_prefix(prefix: str) -> str:
    """A prefix, as it was given.

    Raises:
        ObjectTypeUnexpected: it is no text.
        PrefixRefused: it is empty, absolute, percent-encoded, leads upwards, or holds anything but plain names.
    """
    _check_text("A prefix", prefix)
    _check_prefix(prefix)
    return prefix


@functools.lru_cache(maxsize=1024)
def _check_prefix(prefix: str) -> None:
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


def own_prefix(prefix: str) -> str:
    """A prefix that its user looks after: nothing that the store itself empties and deletes is below it.

    Raises:
        PrefixRefused: see `checked_prefix`; or it is that of an experiment, of logged runs or of assets.
    """
    checked = checked_prefix(prefix)
    first = checked.partition("/")[0]
    if is_experiment_id(first):
        raise PrefixRefused(prefix, f"is that of an experiment; begin with a name of your own, as in my/{first}")
    if first.lower() in _MANAGED:  # folders may not tell case apart
        raise PrefixRefused(
            prefix, f"is one that the store looks after; begin with a name of your own, as in my/{first}"
        )
    return checked


def checked_experiment_id(given: str) -> str:
    """The id of an experiment.

    Raises:
        ObjectTypeUnexpected: it is no text.
        PrefixRefused: it is none.
    """
    _check_text("The id of an experiment", given)
    if not is_experiment_id(given):
        raise PrefixRefused(given, "is no id of an experiment")
    return given


def run_prefix(lakehouse: str, experiment_id: str | None, run_id: str) -> str:
    """The prefix of a run whose row is in a lakehouse: below its experiment where that can have objects.

    Args:
        lakehouse: tells runs of one name apart; an experiment's id does by itself.
        experiment_id: any text, or None.
        run_id: any text.
    """
    run = plain_name(run_id)
    if experiment_id is not None and is_experiment_id(experiment_id):
        return f"{experiment_id}/{RUNS}/{run}"
    experiment = _DIGESTED if experiment_id is None else plain_name(experiment_id)
    return f"{RUNS}/{digest(lakehouse)[:16]}/{experiment}/{run}"


def plain_name(text: str) -> str:
    """A part of a prefix for any text: itself where it can be one on every file system, else its digest.

    No two texts have the same, and none is the name of an object.
    """
    if _PLAIN.fullmatch(text) and not is_object_name(text):
        return text
    return f"{_DIGESTED}{digest(text)}"


def digest(text: str) -> str:
    """32 hexadecimal digits that are always those of this text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _check_text(what: str, given: object) -> None:
    if not isinstance(given, str):
        raise ObjectTypeUnexpected(what, f"a {type(given).__name__}", "text")


def object_path(url: str, base_url: str) -> str:
    """Where an object is, relative to its base.

    Args:
        url: of the object.
        base_url: what the URLs of all objects of the base begin with; ends with `/`.

    Raises:
        ObjectTypeUnexpected: it is no text.
        ObjectUrlRefused: it is no URL of an object in this base.
    """
    _check_text("The URL of an object", url)
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
