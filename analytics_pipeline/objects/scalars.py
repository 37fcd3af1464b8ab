"""Single values as JSON, each with a tag that names its type, and back exactly.

Belongs here: one row for each type. Does not: what is made of them (`tree`), or arrays.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np

from analytics_pipeline.objects.container import JsonValue

_NUMPY_KINDS = "biufcmMSUV"
_LONGEST_DTYPE = 64


class Unfit(Exception):
    """A value cannot be stored exactly; the reason continues a sentence that begins with its path."""


@dataclass(frozen=True)
class Scalar:
    """How one type is written and read.

    Args:
        tag: its name in the JSON.
        encode: raises `Unfit` for what would not come back.
        decode: raises what it likes for JSON that `encode` does not give.
    """

    tag: str
    encode: Callable[[Any], JsonValue]
    decode: Callable[[Any], object]


def text_of(data: bytes | bytearray) -> str:
    """Bytes in base64."""
    return base64.b64encode(data).decode()


def data_of(text: str) -> bytes:
    """Bytes out of base64.

    Raises:
        ValueError: it is no base64.
    """
    return base64.b64decode(text, validate=True)


def _float(value: float) -> JsonValue:
    return struct.pack(">d", value).hex()


def _float_back(text: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(text))[0])


def _zone(zone: tzinfo | None) -> JsonValue:
    if zone is None:
        return None
    if type(zone) is ZoneInfo and _is_known(zone.key):
        return zone.key
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined] # of copy and pickle, in every release
        return [offset // timedelta(microseconds=1), *name]
    raise Unfit(f"has a time zone of {type(zone).__module__}.{type(zone).__qualname__}; use zoneinfo.ZoneInfo")


def _is_known(key: str | None) -> bool:
    try:
        return key is not None and bool(ZoneInfo(key))
    except (OSError, LookupError, ValueError):  # it was made from a file
        return False


def _zone_back(given: Any) -> tzinfo | None:
    if given is None:
        return None
    if isinstance(given, str):
        return ZoneInfo(given)
    microseconds, *name = given
    return timezone(timedelta(microseconds=microseconds), *name) if name or microseconds else UTC


def _clock(value: datetime | time) -> JsonValue:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)]


def _datetime_back(given: Any) -> datetime:
    text, fold, zone = given
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=_zone_back(zone))


def _time_back(given: Any) -> time:
    text, fold, zone = given
    return time.fromisoformat(text).replace(fold=fold, tzinfo=_zone_back(zone))


def _timedelta(value: timedelta) -> JsonValue:
    return [value.days, value.seconds, value.microseconds]


def _complex(value: complex) -> JsonValue:
    return [_float(value.real), _float(value.imag)]


def _complex_back(given: Any) -> complex:
    real, imaginary = given
    return complex(_float_back(real), _float_back(imaginary))


SCALARS: Mapping[type, Scalar] = {
    int: Scalar("int", hex, lambda text: int(text, 16)),
    float: Scalar("float", _float, _float_back),
    complex: Scalar("complex", _complex, _complex_back),
    datetime: Scalar("datetime", _clock, _datetime_back),
    date: Scalar("date", date.isoformat, date.fromisoformat),
    time: Scalar("time", _clock, _time_back),
    timedelta: Scalar("timedelta", _timedelta, lambda given: timedelta(*given)),
    Decimal: Scalar("decimal", str, Decimal),
    UUID: Scalar("uuid", str, UUID),
    np.str_: Scalar("numpy.str", str.__str__, np.str_),
    np.bytes_: Scalar("numpy.bytes", text_of, lambda text: np.bytes_(data_of(text))),
}
SCALAR_TAGS: Mapping[str, Callable[[Any], object]] = {scalar.tag: scalar.decode for scalar in SCALARS.values()}


def encode_numpy(value: np.generic) -> JsonValue:
    """A NumPy scalar without fields: its type and its bytes."""
    dtype = value.dtype
    if dtype.kind not in _NUMPY_KINDS or np.dtype(dtype.str) != dtype:
        raise Unfit(f"is a NumPy scalar of the type {dtype}, which has no place in a file")
    return [dtype.str, text_of(value.tobytes())]


def decode_numpy(given: Any) -> object:
    """The NumPy scalar; its bytes must be as many as its type has.

    Raises:
        ValueError: they are not, or the type is none that is written.
    """
    text, data = given[0], data_of(given[1])
    if not isinstance(text, str) or len(text) > _LONGEST_DTYPE:
        raise ValueError("no type of a NumPy scalar")
    dtype = np.dtype(text)
    if dtype.kind not in _NUMPY_KINDS or dtype.names or dtype.subdtype or dtype.itemsize != len(data):
        raise ValueError("no type of a NumPy scalar")
    found: Any = np.frombuffer(data, dtype, 1)[0] if data else np.zeros((), dtype)[()]
    return found
