"""NumPy arrays as `.npy` bytes, format 3.0, which every NumPy reads; never with Python objects in them.

Belongs here: the header and the bytes behind it, in either order. Does not: scalars, or where the bytes go.
"""

from __future__ import annotations

import ast
import math
import struct
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analytics_pipeline.objects.container import Bytes, Memory, Segment
from analytics_pipeline.objects.scalars import Unfit

_BEGIN = struct.Struct("<8sI")
_MAGIC = b"\x93NUMPY\x03\x00"
_ALIGNMENT = 64
_LARGEST_HEADER = 64 * 1024
_BUFFER_ITEMS = 64 * 1024


def array_segment(array: npt.NDArray[Any]) -> Segment:
    """The array's `.npy` bytes, in its own order; one that is not contiguous is written in C order.

    Raises:
        Unfit: its type holds Python objects, is of another package, or has what the format does not write down.
    """
    header = _header(array)

    def pieces() -> Iterator[Bytes]:
        yield header
        if not array.nbytes:
            return
        if array.flags.c_contiguous or array.flags.f_contiguous:
            flat = (array if array.flags.c_contiguous else array.T).reshape(-1)
            yield flat.view(np.uint8).data
            return
        parts: Any = np.nditer(array, flags=["external_loop", "buffered"], buffersize=_BUFFER_ITEMS, order="C")
        for part in parts:
            yield part.tobytes()

    return Segment(len(header) + array.nbytes, pieces)


def _header(array: npt.NDArray[Any]) -> bytes:
    dtype = array.dtype
    described = _description(dtype)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    text = repr({"descr": described, "fortran_order": fortran, "shape": array.shape}).encode()
    padding = -(_BEGIN.size + len(text) + 1) % _ALIGNMENT
    text += b" " * padding + b"\n"
    if len(text) > _LARGEST_HEADER:
        raise Unfit(f"is an array with {len(dtype.names or ())} fields, which are too many; use a frame")
    return _BEGIN.pack(_MAGIC, len(text)) + text


def _description(dtype: np.dtype[Any]) -> object:
    if dtype.hasobject:
        raise Unfit("is an array of Python objects; give it a type, or store a list")
    for part in _parts(dtype):
        if part.metadata:
            raise Unfit(f"is an array whose type carries metadata ({part.metadata}); remove them")
        if part.names and part.type is not np.void:
            raise Unfit(f"is an array of {part.type.__name__}; view it as a plain structured type")
        if part.isalignedstruct:
            raise Unfit("is an array of aligned fields; pack them with numpy.lib.recfunctions.repack_fields")
    try:
        described = np.lib.format.dtype_to_descr(dtype)
        exact = np.lib.format.descr_to_dtype(described) == dtype
    except (TypeError, ValueError):  # fields that overlap, or are in another order than their bytes
        exact = False
    if not exact:
        raise Unfit(f"is an array of the type {dtype}, which has no place in a file; numpy.lib.recfunctions packs it")
    return described


def _parts(dtype: np.dtype[Any]) -> Iterator[np.dtype[Any]]:
    yield dtype
    if dtype.subdtype:
        yield from _parts(dtype.subdtype[0])
    for field in (dtype.fields or {}).values():
        yield from _parts(field[0])


def array_of(memory: Memory) -> npt.NDArray[Any]:
    """The array in a segment; it shares the segment's memory and may be written.

    Raises:
        ValueError: it is no such array, it holds pickled objects, or its shape needs other memory than there is.
        TypeError, SyntaxError, MemoryError, RecursionError: its header is no header.
    """
    magic, length = _BEGIN.unpack_from(memory.data)
    begin = _BEGIN.size + length
    if magic != _MAGIC or length > _LARGEST_HEADER or begin > len(memory):
        raise ValueError("an array without its header")
    header = ast.literal_eval(memory[_BEGIN.size : begin].tobytes().decode())
    dtype = np.lib.format.descr_to_dtype(header["descr"])
    shape, fortran = header["shape"], header["fortran_order"]
    if dtype.hasobject:
        raise ValueError("an array of pickled objects, which are never loaded")
    if not isinstance(shape, tuple) or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("an array without a shape")
    if math.prod(shape) * dtype.itemsize != len(memory) - begin:
        raise ValueError(f"an array of the shape {shape} in {len(memory) - begin:,} bytes")
    order: Literal["C", "F"] = "F" if fortran is True else "C"
    if begin == len(memory):
        return np.ndarray(shape, dtype, buffer=np.empty(_ALIGNMENT, np.uint8), order=order)  # np.empty widens S0 to S1
    return np.ndarray(shape, dtype, buffer=memory.data, offset=begin, order=order)
