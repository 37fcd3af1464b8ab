"""What the messages of an Arrow stream claim, read before Arrow takes any memory for it.

Belongs here: the few fields of `Message.fbs` and `Schema.fbs` of the Arrow format that a harmful stream would abuse.
Does not: decoding data, which Arrow does (`arrow_streams`).
"""

from __future__ import annotations

import struct

import pyarrow as pa

from analytics_pipeline.objects.container import Memory

EXTENSION_KEY = b"ARROW:extension:name"
_FREE_ROWS = 1 << 20
_ROWS_PER_BYTE = 8  # of booleans; all other types need more, and nulls alone need nothing
_MESSAGE_HEADER = 2
_BATCH_LENGTH, _BATCH_COMPRESSION = 0, 3
_DICTIONARY_BATCH = 1


def most_rows(size: int) -> int:
    """How many rows a record batch of a stream of so many bytes may claim."""
    return max(_FREE_ROWS, _ROWS_PER_BYTE * size)


def check_messages(memory: Memory) -> None:
    """Refuse a stream that would run code of extension types, or take memory that its own bytes do not account for.

    Raises:
        ValueError: it names extension types, is compressed, or claims more rows than its bytes can hold.
        pyarrow.ArrowInvalid, struct.error: it is no stream of Arrow messages.
    """
    most = most_rows(len(memory))
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(memory.data))
    for message in messages:
        metadata = bytes(message.metadata)
        if message.type == "schema":
            if EXTENSION_KEY in metadata:
                raise ValueError("a table with extension types, whose code is not run")
            continue
        batch = _table_at(metadata, _root(metadata), _MESSAGE_HEADER)
        if message.type == "dictionary":
            batch = _table_at(metadata, batch, _DICTIONARY_BATCH)
        elif message.type != "record batch":
            raise ValueError(f"a {message.type} in a table")
        if _field(metadata, batch, _BATCH_COMPRESSION):
            raise ValueError("a compressed table, which could take any memory")
        at = _field(metadata, batch, _BATCH_LENGTH)
        rows = struct.unpack_from("<q", metadata, at)[0] if at else 0
        if not 0 <= rows <= most:
            raise ValueError(f"a table of {rows:,} rows in {len(memory):,} bytes")


def _root(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 0)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table is; 0 where the table leaves it out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + entry)[0] if entry < size else 0
    return int(table + offset) if offset else 0


def _table_at(data: bytes, table: int, number: int) -> int:
    at = _field(data, table, number)
    if not at:
        raise ValueError("an Arrow message without its content")
    return int(at + struct.unpack_from("<I", data, at)[0])
