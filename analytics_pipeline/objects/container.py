"""The container: one file an object, with its lengths in front and a checksum over every byte at its end.

Belongs here: the layout, the checks that come before memory is taken, reading and writing in bounded memory.
Does not: what the header's tree or a segment means (`tree`), or where the file is (`places`).

    magic 8 | version 2 | zero 2 | length of header 4 | header | SHA-256 so far | segments | SHA-256 of all before

The header is JSON, `{"segments": [length, …], "tree": …}`. Its own digest is compared before it is parsed. SHA-256 is
what backups and object stores compare, too, and costs less than a copy of the data on processors of the last years.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from analytics_pipeline.errors import ObjectDamaged, ObjectForeign, ObjectRefused, ObjectTooDeep, ObjectTooLarge

MAGIC = b"\x93APOBJ\r\n"
VERSION = 1
LARGEST_HEADER = 64 * 1024 * 1024
DIGEST_BYTES = 32
_FIXED = struct.Struct("<8sHHI")
_CHUNK = 1024 * 1024
SURROGATES = "surrogatepass"
"""Halves of UTF-16 pairs, which Python's text may hold, stay what they were; escapes of JSON would join two of them."""
_TEXT = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)
_PICKLE = b"\x80"

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
Bytes = bytes | memoryview
Memory = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Segment:
    """Bytes of known length that are given piece by piece, without a copy of the whole.

    Args:
        length: sum of the pieces.
        pieces: gives them, from the start, each time that it is called.
    """

    length: int
    pieces: Callable[[], Iterable[Bytes]]


class Source(Protocol):
    """Something that is read from front to back into memory of the reader's."""

    def readinto(self, target: memoryview, /) -> int | None:
        """Fill the target, or less of it; the number of bytes, 0 at the end."""


class Encoded:
    """An object on its way out: its header, and references to the memory that holds the rest.

    Raises:
        ObjectTooLarge: the header is larger than one may be.
    """

    def __init__(self, tree: JsonValue, segments: Sequence[Segment]) -> None:
        document = {"segments": [segment.length for segment in segments], "tree": tree}
        header = _TEXT.encode(document).encode(errors=SURROGATES)
        if len(header) > LARGEST_HEADER:
            raise ObjectTooLarge(len(header), LARGEST_HEADER)
        head = _FIXED.pack(MAGIC, VERSION, 0, len(header)) + header
        self._digest = hashlib.sha256(head)
        self._head = head + self._digest.digest()
        self._digest.update(self._digest.digest())
        self._segments = segments
        self._checksum = ""

    @property
    def size(self) -> int:
        """Bytes of the whole container."""
        return len(self._head) + sum(segment.length for segment in self._segments) + DIGEST_BYTES

    @property
    def checksum(self) -> str:
        """SHA-256 over all that `pieces` gave, in hexadecimal; known when they were all taken."""
        return self._checksum

    def pieces(self) -> Iterator[Bytes]:
        """The container's bytes, in order; each piece is small enough for the processor's cache or large and whole."""
        digest = self._digest.copy()
        yield self._head
        for segment in self._segments:
            for given in segment.pieces():
                whole = memoryview(given)
                for begin in range(0, len(whole), _CHUNK):
                    piece = whole[begin : begin + _CHUNK]
                    digest.update(piece)
                    yield piece
        self._checksum = digest.hexdigest()
        yield digest.digest()


@dataclass(frozen=True)
class Contents:
    """What a container held, proven to be what was written."""

    tree: object
    segments: Sequence[Memory]
    checksum: str


def read_container(source: Source, size: int, where: str) -> Contents:
    """Read a container to its end and compare its checksums.

    No memory is taken for anything that is not there: the lengths in the header must add up to the size of the file.

    Args:
        source: at its first byte.
        size: bytes that the source has, by whoever keeps it.
        where: the object's name in errors.

    Raises:
        ObjectForeign: this is no container.
        ObjectDamaged: it is torn or altered.
        ObjectRefused: it is whole, and its header is none that this store writes.
        ObjectTooDeep: its header is deeper than Python's own limit allows at this call.
    """
    reader = _Reader(source, where)
    tree, lengths = _header(reader, size, where)
    if sum(lengths) != size - reader.taken - DIGEST_BYTES:
        raise ObjectDamaged(where, f"its header names {sum(lengths):,} bytes of data, its {size:,} bytes hold others")
    segments = [reader.take(length) for length in lengths]
    found = reader.digest.digest()
    if reader.fill(DIGEST_BYTES) != found:
        raise ObjectDamaged(where, "its checksum is that of other bytes")
    return Contents(tree, segments, found.hex())


def _header(reader: _Reader, size: int, where: str) -> tuple[object, Sequence[int]]:
    if size < _FIXED.size + 2 * DIGEST_BYTES:
        raise ObjectForeign(where, f"{size} bytes are no object")
    fixed = reader.fill(_FIXED.size)
    magic, version, zero, length = _FIXED.unpack(fixed)
    if magic != MAGIC:
        what = "a pickle, which is never loaded" if magic.startswith(_PICKLE) else f"something that begins {magic!r}"
        raise ObjectForeign(where, f"it is {what}")
    if (version, zero) != (VERSION, 0):
        raise ObjectForeign(where, f"its format is {version}.{zero}, this release reads {VERSION}.0")
    if length > LARGEST_HEADER or _FIXED.size + length + 2 * DIGEST_BYTES > size:
        raise ObjectDamaged(where, f"a header of {length:,} bytes does not fit its {size:,} bytes")
    rest = reader.fill(length + DIGEST_BYTES)
    header, digest = rest[:length], rest[length:]
    reader.digest.update(fixed + header)
    if digest != reader.digest.digest():
        raise ObjectDamaged(where, "the checksum of its header is that of other bytes")
    reader.digest.update(digest)
    return _parsed(header, where)


def _parsed(header: bytes, where: str) -> tuple[object, Sequence[int]]:
    try:
        text = header.decode(errors=SURROGATES)
        document, end = _JSON.raw_decode(text)
    except RecursionError:
        raise ObjectTooDeep(where, sys.getrecursionlimit()) from None
    except ValueError as error:
        raise ObjectRefused(where, f"has a header that cannot be read ({type(error).__name__})") from None
    if end != len(text) or not isinstance(document, dict) or document.keys() != {"segments", "tree"}:
        raise ObjectRefused(where, "has a header of another kind")
    lengths = document["segments"]
    if not isinstance(lengths, list) or any(type(length) is not int or length < 0 for length in lengths):
        raise ObjectRefused(where, "has segments without lengths")
    return document["tree"], lengths


def _no_constant(name: str) -> object:
    raise ValueError(name)


_JSON = json.JSONDecoder(parse_constant=_no_constant)


class _Reader:
    """Takes bytes into memory of their own, and hashes each part while it is in the processor's cache."""

    def __init__(self, source: Source, where: str) -> None:
        self.digest = hashlib.sha256()
        self.taken = 0
        self._source = source
        self._where = where

    def take(self, length: int) -> Memory:
        """Bytes that count for the checksum."""
        memory = np.empty(length, dtype=np.uint8)
        view = memory.data
        for begin in range(0, length, _CHUNK):
            piece = view[begin : begin + _CHUNK]
            self._fill(piece)
            self.digest.update(piece)
        return memory

    def fill(self, length: int) -> bytes:
        """Bytes that do not count for the checksum, or that the caller counts."""
        memory = bytearray(length)
        self._fill(memoryview(memory))
        return bytes(memory)

    def _fill(self, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            count = self._source.readinto(view[filled:] if filled else view)
            if not count:
                raise ObjectDamaged(self._where, f"it ends after {self.taken + filled:,} bytes")
            filled += count
        self.taken += filled
