"""Arrow tables as uncompressed IPC streams, and back, without copies of their data.

Belongs here: the stream, what it may not hold. Does not: which frame a table stands for (`frames`, `pandas_frames`).
"""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa

from analytics_pipeline.objects.arrow_messages import EXTENSION_KEY, check_messages, most_rows
from analytics_pipeline.objects.container import Bytes, Memory, Segment
from analytics_pipeline.objects.scalars import Unfit


class _Collector(io.RawIOBase):
    """A file for Arrow that keeps references to the buffers it is given."""

    def __init__(self) -> None:
        self.pieces: list[Bytes] = []
        self.length = 0

    def write(self, data: Any) -> int:
        piece = memoryview(data).cast("B")
        self.pieces.append(piece)
        self.length += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self.length

    def writable(self) -> bool:
        return True


def table_segment(table: pa.Table) -> Segment:
    """The table as a stream.

    Raises:
        Unfit: it has extension types, values that contradict their types, or more rows without data than are read back.
    """
    if EXTENSION_KEY in table.schema.serialize().to_pybytes():
        named = [field.name for field in table.schema if EXTENSION_KEY in pa.schema([field]).serialize().to_pybytes()]
        where = ", ".join(named) or "the metadata of its schema"
        raise Unfit(f"has Arrow extension types, in {where}; cast them to the types that store them")
    collector = _Collector()
    try:
        table.validate(full=True)
        with pa.ipc.new_stream(pa.PythonFile(collector, mode="w"), table.schema) as writer:
            writer.write_table(table)
            if not table.num_rows and all(column.num_chunks for column in table.columns):
                writer.write_batch(_empty_batch(table))
    except pa.ArrowException as error:
        raise Unfit(f"has a column that Arrow cannot write: {error}") from None
    rows = max((batch.num_rows for batch in table.to_batches()), default=0)
    if rows > most_rows(collector.length):
        raise Unfit(f"is a table of {rows:,} rows that hold no data; store their number")
    return Segment(collector.length, lambda: collector.pieces)


def _empty_batch(table: pa.Table) -> pa.RecordBatch:
    """What Arrow leaves out of a stream: with it go the dictionaries, which are the categories of pandas."""
    columns: list[Any] = [column.chunk(0) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def table_of(memory: Memory) -> pa.Table:
    """The table in a segment; it shares the segment's memory.

    Raises:
        ValueError: the stream asks for more than it may, or its data contradict each other.
        pyarrow.ArrowException, struct.error: it is no stream.
    """
    check_messages(memory)
    with pa.ipc.open_stream(pa.py_buffer(memory.data)) as reader:
        table = reader.read_all()
    table.validate(full=True)  # offsets that lead out of their buffers
    return table
