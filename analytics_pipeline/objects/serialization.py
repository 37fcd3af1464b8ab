"""Objects to bytes and back, exactly, without pickle: nothing that is loaded can run code.

Belongs here: the two directions, and what failures become. Does not: the layout (`container`), the types (`tree` and
what it uses), or where the bytes are kept (`datastore`).
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from analytics_pipeline.errors import ExtraMissing, ObjectRefused, ObjectTooDeep, ObjectUnsupported
from analytics_pipeline.objects.container import Bytes, Contents, Encoded, JsonValue, Source, read_container
from analytics_pipeline.objects.tree import TreeDecoder, TreeEncoder


def encode(obj: object) -> Encoded:
    """An object, ready to be written in pieces. It must not change until they are written.

    Raises:
        ObjectUnsupported: something in it cannot be stored exactly; names its path, as in `$.a[3].b`.
        ObjectTooLarge: too much of it is neither array, frame nor bytes.
    """
    return encode_by(lambda encoder: encoder.encode(obj))


def encode_by(make: Callable[[TreeEncoder], JsonValue], url_of: Callable[[Any], str] | None = None) -> Encoded:
    """What an encoder gives, ready to be written.

    Args:
        make: uses the encoder.
        url_of: see `TreeEncoder`.

    Raises:
        ObjectUnsupported: also where Python's own limit of depth comes before that of the store.
        ObjectTooLarge: see `encode`.
    """
    encoder = TreeEncoder(url_of)
    try:
        return Encoded(make(encoder), encoder.segments)
    except RecursionError:
        reason = f"is deeper than Python's recursion limit ({sys.getrecursionlimit():,}) allows at this call"
        raise ObjectUnsupported("$", reason) from None


def decode(contents: Contents, where: str, store_at: Callable[[str], object] | None = None) -> Any:
    """The object that a container held.

    Args:
        contents: of the container.
        where: it is, for messages.
        store_at: see `TreeDecoder`.

    Raises:
        ObjectRefused: the container is whole, and asks for something that loading does not do.
        ObjectTooDeep: it is deeper than Python's own limit allows at this call.
        ExtraMissing: the object is a pandas frame, and pandas is not installed.
    """
    try:
        return TreeDecoder(contents.segments, store_at).decode(contents.tree)
    except ExtraMissing:
        raise
    except RecursionError:
        raise ObjectTooDeep(where, sys.getrecursionlimit()) from None
    except _failures() as error:  # asked for only where there is one
        raise ObjectRefused(where, f"holds {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    """What decoding raises for what no encoder gives."""
    import pyarrow as pa  # noqa: PLC0415 - half of what loading a number takes

    return (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        pa.ArrowException,
    )


def serialize(obj: object) -> bytes:
    """An object as bytes, all at once.

    Raises:
        ObjectUnsupported, ObjectTooLarge: see `encode`.
    """
    pieces: Sequence[Bytes] = list(encode(obj).pieces())
    return b"".join(pieces)


def deserialize(data: bytes | bytearray | memoryview) -> Any:
    """The object in some bytes.

    Raises:
        ObjectDamaged: they are not what `serialize` gave.
        ObjectRefused: they were made by something else, with intent.
    """
    source: Source = io.BytesIO(data)
    where = f"An object of {len(data):,} bytes"
    return decode(read_container(source, len(data), where), where)
