"""One column or index of pandas as an Arrow column and a note that says what it was, and back exactly.

Belongs here: one pair of functions for each kind of pandas type. Does not: frames and their labels (`pandas_frames`).
Nothing is left to the metadata that PyArrow writes for pandas: it does not bring back every type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from analytics_pipeline.objects.container import JsonValue
from analytics_pipeline.objects.scalars import Unfit

Note = dict[str, JsonValue]
Values = Any
"""A NumPy array or an array of pandas."""
_MASKED = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "boolean")
_NUMBERS = "biuf"
_LARGEST_FLOAT = 8
_MISSING: Mapping[str, Any] = {"None": None, "nan": float("nan"), "NA": pd.NA}


def encode_vector(values: pd.Series[Any] | pd.Index[Any]) -> tuple[pa.Array[Any], Note]:
    """The values as an Arrow column, and the note.

    Raises:
        Unfit: their type has no exact counterpart.
    """
    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _encode_categories(pd.Categorical(values))
    if isinstance(dtype, pd.DatetimeTZDtype):
        moments = pd.DatetimeIndex(values)
        return _moments(moments.asi8, dtype.unit), {"kind": "zoned", "unit": dtype.unit, "zone": _zone(dtype)}
    if isinstance(dtype, pd.StringDtype):
        note: Note = {"kind": "string", "storage": dtype.storage, "missing": _name_of_missing(dtype.na_value)}
        return pa.array(values.to_numpy(dtype=object, na_value=None), pa.large_string()), note
    if isinstance(dtype, pd.ArrowDtype):
        return _single(pa.array(values.array)), {"kind": "arrow"}
    if isinstance(dtype, np.dtype):
        return _encode_numpy(values.to_numpy(), dtype)
    if str(dtype) in _MASKED:
        return _encode_masked(_single(pa.array(values.array)), str(dtype))
    raise Unfit(f"has the pandas type {dtype}, which has no exact counterpart in Arrow; convert it with astype")


def _encode_numpy(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> tuple[pa.Array[Any], Note]:
    note: Note = {"kind": "numpy", "type": dtype.str}
    if dtype.kind == "M":
        return _moments(values.view(np.int64), np.datetime_data(dtype)[0]), note
    if dtype.kind == "m":
        return _durations(values.view(np.int64), np.datetime_data(dtype)[0]), note
    if dtype.kind in _NUMBERS and dtype.isnative and dtype.itemsize <= _LARGEST_FLOAT:
        return pa.array(values, from_pandas=False), note
    if dtype.kind == "O":
        return _encode_texts(values)
    raise Unfit(f"has the NumPy type {dtype}, which Arrow does not know; store it as an array")


def _encode_masked(column: pa.Array[Any], dtype: str) -> tuple[pa.Array[Any], Note]:
    if dtype.startswith("Float") and compute.any(compute.is_nan(column)).as_py():
        raise Unfit("holds NaN besides NA, which pandas does not read back; keep one of them")
    return column, {"kind": "masked", "type": dtype}


def _encode_texts(values: np.ndarray[Any, Any]) -> tuple[pa.Array[Any], Note]:
    missing = {_name_of_missing(value) for value in values if type(value) is not str}
    if len(missing) > 1:
        raise Unfit(f"holds several kinds of missing values: {', '.join(sorted(missing))}; keep one of them")
    texts = [value if type(value) is str else None for value in values]
    return pa.array(texts, pa.large_string()), {"kind": "texts", "missing": next(iter(missing), "None")}


def _name_of_missing(value: object) -> str:
    if value is None:
        return "None"
    if value is pd.NA:
        return "NA"
    if type(value) is float and value != value:  # noqa: PLR0124 - NaN
        return "nan"
    raise Unfit(f"has the type object and holds a {type(value).__qualname__}; give the column a type, as category")


def _moments(values: np.ndarray[Any, Any], unit: Any) -> Any:
    return pa.array(values, from_pandas=False).view(pa.timestamp(unit))


def _durations(values: np.ndarray[Any, Any], unit: Any) -> Any:
    return pa.array(values).view(pa.duration(unit))


def _zone(dtype: pd.DatetimeTZDtype) -> str:
    name = str(dtype.tz)
    try:
        exact = isinstance(dtype.tz, ZoneInfo | type(_UTC)) and pd.DatetimeTZDtype(dtype.unit, name) == dtype
    except (LookupError, OSError, TypeError, ValueError):
        exact = False
    if not exact:
        raise Unfit(f"has a time zone of {type(dtype.tz).__module__}; convert it to one by name, as Europe/Berlin")
    return name


_UTC = pd.DatetimeTZDtype("ns", "UTC").tz


def _encode_categories(values: pd.Categorical) -> tuple[pa.Array[Any], Note]:
    name = values.categories.name
    if name is not None and type(name) is not str:
        raise Unfit(f"has categories with the name {name!r}, which is no text")
    categories, note = encode_vector(values.categories)
    codes = pa.array(values.codes, from_pandas=False, mask=values.codes < 0)
    column = pa.DictionaryArray.from_arrays(codes, categories, ordered=bool(values.ordered))
    return column, {
        "kind": "category",
        "ordered": bool(values.ordered),
        "of": note,
        "name": name,
        "frequency": frequency_of(values.categories),
        "range": _range_of(values.categories),
    }


def _range_of(index: pd.Index[Any]) -> JsonValue:
    return [index.start, index.stop, index.step] if isinstance(index, pd.RangeIndex) else None


def frequency_of(index: pd.Index[Any]) -> str | None:
    """The name of an index's frequency, proven to be one: pandas also names those that it cannot read.

    Raises:
        Unfit: it has no name, or the values do not conform to it.
    """
    if not isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) or index.freq is None:
        return None
    name: str = index.freqstr
    try:
        back: Any = type(index)(index, freq=name).freq
    except (ValueError, TypeError):
        back = None
    if type(back) is not type(index.freq) or back != index.freq:
        raise Unfit(f"has an index with the frequency {index.freq!r}, which has no name; set index.freq = None")
    return name


def _single(column: pa.Array[Any] | pa.ChunkedArray[Any]) -> pa.Array[Any]:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return cast("pa.Array[Any]", column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())


def decode_vector(column: pa.ChunkedArray[Any], note: Any) -> Values:
    """The values that `encode_vector` was given, in memory of their own.

    Raises:
        ValueError, TypeError, LookupError, pyarrow.ArrowException: column and note do not go together.
    """
    return _DECODERS[note["kind"]](_single(column), note)


def as_index(values: Values, name: object = None, frequency: str | None = None) -> pd.Index[Any]:
    """An index of them: the type is given, else pandas would guess one from objects.

    Raises:
        ValueError: they do not have the frequency.
    """
    index = pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
    if frequency is not None and isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        index.freq = frequency
    return index


def as_series(values: Values) -> pd.Series[Any]:
    """A Series of them; see `as_index`."""
    return pd.Series(values, dtype=values.dtype)


def _decode_numpy(column: pa.Array[Any], note: Any) -> Values:
    dtype = np.dtype(note["type"])
    if dtype.kind in "mM":
        return np.array(_integers(column)).view(dtype)
    if dtype.kind not in _NUMBERS:
        raise ValueError("a column of a type that Arrow does not know")
    return np.array(column.to_numpy(zero_copy_only=False), dtype=dtype)


def _integers(column: pa.Array[Any]) -> np.ndarray[Any, Any]:
    return column.view(pa.int64()).to_numpy(zero_copy_only=False)


def _decode_zoned(column: pa.Array[Any], note: Any) -> Values:
    moments = pd.DatetimeIndex(np.array(_integers(column)).view(np.dtype(f"M8[{note['unit']}]")))
    return moments.tz_localize("UTC").tz_convert(note["zone"]).array


def _decode_string(column: pa.Array[Any], note: Any) -> Values:
    dtype: Any = pd.StringDtype(note["storage"], na_value=_MISSING[note["missing"]])
    return pd.array(column.to_numpy(zero_copy_only=False), dtype=dtype)


def _decode_texts(column: pa.Array[Any], note: Any) -> Values:
    missing = _MISSING[note["missing"]]
    values = np.empty(len(column), dtype=object)
    values[:] = [missing if text is None else text for text in column.to_pylist()]
    return values


def _decode_masked(column: pa.Array[Any], note: Any) -> Values:
    if note["type"] not in _MASKED:
        raise ValueError("a column of an unknown pandas type")
    dtype: Any = pd.api.types.pandas_dtype(note["type"])
    return dtype.__from_arrow__(column)


def _decode_categories(column: Any, note: Any) -> Values:
    values = decode_vector(pa.chunked_array([column.dictionary]), note["of"])
    categories = as_index(values, note["name"], note["frequency"])
    if note["range"] is not None:
        numbers, categories = categories, pd.RangeIndex(*note["range"], name=note["name"])
        if len(numbers) != len(categories):
            raise ValueError("categories of another length than their range")
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return pd.Categorical.from_codes(codes, categories, ordered=note["ordered"])


_DECODERS: Mapping[str, Callable[[Any, Any], Values]] = {
    "numpy": _decode_numpy,
    "zoned": _decode_zoned,
    "string": _decode_string,
    "texts": _decode_texts,
    "masked": _decode_masked,
    "category": _decode_categories,
    "arrow": lambda column, _: pd.array(column, dtype=pd.ArrowDtype(column.type)),
}
