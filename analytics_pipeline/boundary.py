"""The boundary to the machine: what its file systems and databases raise, as errors of this package.

Belongs here: which foreign errors are failures of the environment, the sentence for each, and how a command ends.
Does not: failures of a source (`sync.postgres.failures`) or of an object store (`objects.remote_failures`). A bug stays
what it is, and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from analytics_pipeline.errors import AnalyticsError, DiskFull, EnvironmentFailed
from analytics_pipeline.settings import HOME_VARIABLE, environment_value

P = ParamSpec("P")
T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_IN_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "database or disk is full")
_FIXES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Run as a user with these rights, or set ANALYTICS_HOME elsewhere"),
    errno.EROFS: "Set ANALYTICS_HOME to a folder on a disk that is not read-only",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "Set ANALYTICS_HOME to a folder"),
    errno.ENAMETOOLONG: "Choose a shorter path",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENOENT: "See that it exists",
}
_FOREIGN = (("duckdb", "IOException"),)
_SQLITE_CODES = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOTADB,
}
_DAMAGED_FILE = ("Parquet", "magic bytes", "footer", "Arrow file", "IPC")


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk, or a user's share of it, has no room."""
    return getattr(error, "errno", None) in FULL or any(words in str(error) for words in _FULL_IN_WORDS)


def environment_error(error: BaseException, place: str) -> EnvironmentFailed | None:
    """What the machine refused, as an error of this package; None for anything else, such as a bug.

    Args:
        error: as it was raised.
        place: file or folder that was worked on, for errors that name none.
    """
    if isinstance(error, UnicodeEncodeError):
        if "surrogates" not in error.reason:
            return None
        return EnvironmentFailed(printable(str(error.object)), "is not UTF-8", "Choose a path of ordinary characters")
    if not _is_of_environment(error):
        return None
    if is_full(error):
        return DiskFull(printable(_path_of(error) or place), _words(error))
    fix = _FIXES.get(getattr(error, "errno", None) or 0, "See to the disk, and try again")
    return EnvironmentFailed(printable(_path_of(error) or place), _words(error), fix)


def _is_of_environment(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno is not None
    if isinstance(error, sqlite3.DatabaseError):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF in _SQLITE_CODES
    if type(error).__name__ == "ArrowInvalid":  # of a value, too; then it is a bug, and repeats the value
        return any(words in str(error) for words in _DAMAGED_FILE)
    foreign = (getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN)
    return any(isinstance(kind, type) and isinstance(error, kind) for kind in foreign)


def _path_of(error: BaseException) -> str | None:
    name = getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, str | bytes) else None


def _words(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(words).splitlines()[0].rstrip("."))


def printable(text: str) -> str:
    """A text that any terminal and log takes: bytes that are not UTF-8 as escapes."""
    return text.encode(errors="backslashreplace").decode()


@contextmanager
def environment_errors(place: os.PathLike[str] | str) -> Iterator[None]:
    """Raise what the machine refuses inside a `with` block as an error of this package.

    Args:
        place: file or folder that is worked on, for errors that name none.

    Raises:
        EnvironmentFailed: names the path, the reason, and the fix.
    """
    try:
        yield
    except Exception as error:
        failure = environment_error(error, os.fspath(place))
        if failure is None:
            raise
        raise failure from error


def at_boundary(function: Callable[P, T]) -> Callable[P, T]:
    """A function that raises what the machine refuses as `environment_errors` does; its first argument is the place."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with environment_errors(str(next(iter((*args, *kwargs.values())), ""))):
            return function(*args, **kwargs)

    return inside


def command(main: Callable[P, int]) -> Callable[P, int]:
    """A command whose refusals, and failures of the machine, are one sentence on standard error and exit code 1."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except BrokenPipeError:  # such as `… | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except AnalyticsError as error:
            return _told(error)
        except Exception as error:
            failure = environment_error(error, _home())
            if failure is None:
                raise
            return _told(failure)

    return run


def _home() -> str:
    return environment_value(HOME_VARIABLE) or os.curdir


def _told(error: AnalyticsError) -> int:
    sys.stderr.write(f"{printable(str(error))}\n")
    return 1
