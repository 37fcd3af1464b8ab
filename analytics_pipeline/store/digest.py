"""Digests: a hash of a file's bytes, taken when they are written and compared when somebody asks what a file holds now.

Belongs here: the hash, its comparison with a file, and setting a damaged file aside. Does not: which files a store has
(`manifest`), or what a whole home is checked for (`verify`).

SHA-256, as in the containers of objects and in the tools for backups: processors of the last years compute it at about
1.4 GB/s.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import cpu_count
from pathlib import Path

from analytics_pipeline.errors import StoreReadDenied
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.partition import DataFile
from analytics_pipeline.waiting import at_once

ALTERED = "its bytes are not those that were written"


@dataclass(frozen=True)
class FileCheck:
    """What reading some data files showed.

    Args:
        files: paths of all of them.
        damaged: by path, what is wrong with it.
        unproven: paths of those with no recorded digest, of which presence and size alone were compared.
    """

    files: frozenset[str]
    damaged: Mapping[str, str]
    unproven: frozenset[str]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def problem_of(path: Path, size: int, digest: str | None) -> str | None:
    """What is wrong with a file; None if it holds what was written, or if nothing more than its size was recorded.

    Args:
        path: of the file.
        size: bytes that were written.
        digest: of these bytes; None where none was recorded.

    Raises:
        StoreReadDenied: this user may not read it.
    """
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found:,} of {size:,} bytes"
        return ALTERED if digest is not None and file_digest(path) != digest else None
    except FileNotFoundError:
        return "is missing"
    except PermissionError:
        raise StoreReadDenied(str(path)) from None
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def damaged_files(layout: Layout, files: Iterable[DataFile]) -> Mapping[str, str]:
    """The files that do not hold what was written, by path, with what is wrong with each; reads all of them.

    Raises:
        StoreReadDenied: this user may not read one.
    """

    def checked(file: DataFile) -> tuple[str, str | None]:
        return file.path, problem_of(layout.root / file.path, file.bytes, file.digest)

    tasks = [partial(checked, file) for file in files]
    found = at_once(tasks, cpu_count() or 1, "digest")  # hashing holds no lock of the interpreter
    return {path: problem for path, problem in found if problem is not None}


def set_aside(layout: Layout, path: str) -> Path | None:
    """Move a damaged file out of the tables, so that each query and refresh notices that it is gone.

    A query would otherwise read its bytes without a sign. The folder `damaged` keeps it for a person to look at.

    Returns:
        Where it is now; None where it was gone already, or this user may not move it.
    """
    target = layout.damaged / f"{Path(path).name}.{uuid.uuid4().hex[:8]}"
    with suppress(FileNotFoundError, PermissionError):
        layout.damaged.mkdir(exist_ok=True)
        (layout.root / path).rename(target)
        return target
    return None
