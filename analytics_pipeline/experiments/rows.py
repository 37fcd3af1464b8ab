"""Rows of what is logged: checked, typed by their values, each with a moment of its own.

Belongs here: which values and keys are taken, how a config becomes columns. Does not: writing rows (`tables`).
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, KeysView, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import date
from datetime import time as time_of_day
from typing import Any, TypeAlias

from analytics_pipeline.errors.experiments import ConfigKeyRefused, LoggedValueRefused
from analytics_pipeline.experiments.storable import Storable
from analytics_pipeline.forks import renew_in_child
from analytics_pipeline.missing_values import is_missing, is_time_of_numpy

Scalar: TypeAlias = "bool | int | float | str | None"
Row: TypeAlias = "dict[str, Scalar]"

RESERVED = frozenset({"run_id", "status", "logged_at", "experiment_id", "fields"})
"""Columns of `runs` and `configs` that no hyper-parameter can have."""

_LARGEST = 2**63


class Clock:
    """Microseconds since 1970 that only go up, whatever the machine's clock does; safe to share between threads."""

    def __init__(self) -> None:
        self._last = 0
        self._renew()
        renew_in_child(self, Clock._renew)

    def _renew(self) -> None:
        self._guard = threading.Lock()

    def take(self, count: int) -> int:
        """The first of some moments in a row, which are nobody else's in this process."""
        with self._guard:
            first = max(time.time_ns() // 1000, self._last + 1)
            self._last = first + count - 1
            return first


clock = Clock()
"""Of this process."""


def checked_name(what: str, value: object) -> str:
    """The text, if it can name a run or a metric.

    Raises:
        LoggedValueRefused: it is no text, empty, or half a character.
    """
    if not isinstance(value, str) or not value or not _is_unicode(value):
        raise LoggedValueRefused(what, value, "a text that is not empty")
    return value


def checked_int(what: str, value: object, least: int) -> int:
    """The number, if it is a whole one of 64 bits.

    Raises:
        LoggedValueRefused: it is not, or is below the least.
    """
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _LARGEST:
        raise LoggedValueRefused(what, value, f"a whole number from {least}")
    return value


def checked_float(what: str, value: object) -> float:
    """The number; NaN and infinities are numbers, too.

    Raises:
        LoggedValueRefused: it is none.
    """
    plain = _plain(value)
    if not isinstance(plain, int | float):
        raise LoggedValueRefused(what, value, "a number")
    try:
        return float(plain)
    except OverflowError:
        return math.inf if plain > 0 else -math.inf


def metric_rows(run_id: str, epoch: int, values: Mapping[str, float]) -> list[Row]:
    """A row for each metric.

    Raises:
        LoggedValueRefused: a name or value cannot be one.
    """
    check_mapping("metrics", values)
    run, at = checked_name("run_id", run_id), checked_int("epoch", epoch, -_LARGEST)
    checked = [(checked_name("metric", name), checked_float(f"metric {name}", values[name])) for name in values]
    first = clock.take(len(checked))
    return [
        {"run_id": run, "epoch": at, "metric": name, "value": value, "logged_at": first + number}
        for number, (name, value) in enumerate(checked)
    ]


def config_columns(config: Mapping[str, object]) -> Row:
    """A config as columns: scalars as they are, containers as JSON text, all else as its text.

    Raises:
        ConfigKeyRefused: a key cannot be a column.
        LoggedValueRefused: it is no mapping, or a value cannot be stored.
    """
    check_mapping("config", config)
    return {_checked_key(key): _column(key, value) for key, value in config.items()}


def scalars_of(config: Mapping[str, object], columns: Row) -> Row:
    """The columns whose values were no containers."""
    return {key: columns[key] for key, value in config.items() if _is_scalar(_said(value))}


def json_text(what: str, value: object, default: Callable[[object], object] | None = None) -> str:
    """A value as strict JSON text: NaN and infinities are null; what JSON does not know is as `default` says.

    Args:
        what: it is, for the error.
        value: to be written.
        default: what stands for a value that JSON does not know; by default `jsonable`.

    Raises:
        LoggedValueRefused: it refers to itself, or holds half a character.
    """
    said = default or jsonable
    try:
        text = json.dumps(_finite(value), default=lambda one: _finite(said(one)), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise LoggedValueRefused(what, type(value).__name__, f"something that JSON can say ({error})") from error
    return text


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not is_sql_text(key):
        raise ConfigKeyRefused(key, "is no text, or an empty one")
    if key.lower() in RESERVED:
        raise ConfigKeyRefused(key, "is a column of the table itself")
    return key


def _column(key: str, value: object) -> Scalar:
    if isinstance(value, Storable):
        raise LoggedValueRefused(f"config {key}", type(value).__name__, "a value; objects belong among the fields")
    plain = _said(value)
    if isinstance(plain, str):
        return checked_text(f"config {key}", plain)
    if isinstance(plain, int) and not -_LARGEST <= plain < _LARGEST:
        return str(plain)  # a number of more than 64 bits would lose digits
    if _is_scalar(plain):
        return plain  # type: ignore[return-value] # checked by the line above
    return json_text(f"config {key}", plain)


def checked_text(what: str, value: object) -> str:
    """The text.

    Raises:
        LoggedValueRefused: it is none, or half a character.
    """
    if not isinstance(value, str) or not _is_unicode(value):
        raise LoggedValueRefused(what, value, "a text")
    return value


def path_text(path: object) -> object:
    """A path or URL as text; anything else as it is, to be refused: its text would name no file."""
    if not isinstance(path, os.PathLike):
        return path
    return os.fspath(path) if isinstance(path, os.DirEntry) else str(path)  # of a remote path, `str` is the URL


def _plain(value: object) -> object:
    """A value as Python has it: scalars of other packages give theirs by `item()` or `as_py()`, paths are texts."""
    if is_missing(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool | int | float | str) and type(value).__module__ != "builtins":
        return value.value if hasattr(value, "value") else _builtin(value)
    if isinstance(value, Mapping) or is_time_of_numpy(value):
        return value  # of nanoseconds `item()` makes a number; `item` of a mapping may be one of its names
    item = getattr(value, "item", None) if getattr(value, "ndim", None) == 0 else getattr(value, "as_py", None)
    if not callable(item):
        return value
    found = item()
    return found if type(found) is type(value) else _plain(found)


def _builtin(value: object) -> object:
    for type_ in (int, float, str):
        if isinstance(value, type_):
            return type_(value)
    return value


def _said(value: object) -> object:
    """A value of a config as a scalar, or as a container of JSON."""
    plain = _plain(value)
    return plain if _is_scalar(plain) or isinstance(plain, dict | list | tuple) else jsonable(plain)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def check_mapping(what: str, value: object) -> None:
    """Refuse what has no names.

    Raises:
        LoggedValueRefused: it is no mapping.
    """
    if not isinstance(value, Mapping):
        raise LoggedValueRefused(what, value, "a mapping of names to values; {} where there are none")


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def is_sql_text(value: object) -> bool:
    """Whether SQL can say it, and a column can be called so."""
    return isinstance(value, str) and value != "" and "\0" not in value and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    return text.isascii() or text.encode(errors="ignore").decode() == text


def jsonable(value: object) -> Any:
    """What stands in JSON for a value that it does not know.

    Raises:
        TypeError: it is an object, whose contents do not stand in the tables.
    """
    if isinstance(value, Storable):
        raise TypeError(f"a {type(value).__name__} in it belongs among the fields")
    if isinstance(value, Mapping):
        return dict(value)
    plain = _plain(value)
    if plain is not value:
        return str(plain) if type(plain) is type(value) else plain  # NumPy gives a longdouble for a longdouble
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    if is_time_of_numpy(value) and getattr(value, "ndim", None) == 0:
        return value.astype(str).item()  # type: ignore[attr-defined] # NumPy is not imported here
    items = _items(value)
    return str(value) if items is None else items


def _items(value: Any) -> list[object] | None:
    """What a container holds, sets in an order that is the same each time; None for what is no container."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return None
    if isinstance(value, AbstractSet) and not isinstance(value, KeysView):
        return sorted(value, key=str)
    if isinstance(value, Sequence | KeysView | ValuesView) or is_time_of_numpy(value):
        return list(value)  # of NumPy's times `tolist()` makes numbers
    for name in ("tolist", "to_list", "to_pylist"):  # of NumPy and frameworks, Polars, Arrow
        if callable(to_list := getattr(value, name, None)):
            return to_list()  # type: ignore[no-any-return]
    return None
