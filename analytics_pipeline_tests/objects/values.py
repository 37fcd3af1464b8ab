"""Every value that can be stored, for Hypothesis, and what it means that one came back exactly."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

BERLIN = ZoneInfo("Europe/Berlin")
zones = st.sampled_from(
    [None, UTC, BERLIN, timezone(timedelta(hours=-3, minutes=-30), "odd"), timezone(timedelta(1) / 7)]
)
text = st.text(st.characters(), max_size=20) | st.sampled_from(["", "$", "\ud800", "\0", "a.b", "__class__"])
dtypes = (
    nps.scalar_dtypes()
    | nps.unicode_string_dtypes()
    | nps.byte_string_dtypes()
    | nps.array_dtypes(nps.scalar_dtypes(), max_size=3, allow_subarrays=True)
)
numpy_scalars = nps.scalar_dtypes().flatmap(lambda dtype: nps.arrays(dtype, ())).map(lambda array: array[()])
hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**200)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=2000)
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times(timezones=zones)
    | st.datetimes(timezones=zones)
    | st.timedeltas()
    | st.uuids()
)
keys = st.recursive(hashable, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=3)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Of every type and shape, in either order or none."""
    array = draw(nps.arrays(draw(dtypes), nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    kind = draw(st.sampled_from(["C", "F", "strided", "reversed"]))
    if kind == "F":
        return np.asfortranarray(array)
    if kind == "strided" and array.ndim:
        return array[..., ::2]
    if kind == "reversed" and array.ndim:
        return array[::-1]
    return array


@st.composite
def polars_frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 5))

    def column(inner: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(st.none() | inner, min_size=rows, max_size=rows))

    integers = st.integers(-(2**63), 2**63 - 1)
    return pl.DataFrame(
        {
            "int": pl.Series(column(integers), dtype=pl.Int64),
            "half": pl.Series(column(st.floats(width=32)), dtype=pl.Float32),
            "zoned": pl.Series(column(integers), dtype=pl.Int64).cast(pl.Datetime("ns", "Europe/Berlin")),
            "span": pl.Series(column(integers), dtype=pl.Int64).cast(pl.Duration("us")),
            "text": pl.Series(column(st.text(st.characters(codec="utf-8"), max_size=20)), dtype=pl.String),
            "bytes": pl.Series(column(st.binary(max_size=20)), dtype=pl.Binary),
            "category": pl.Series(column(st.sampled_from("abc")), dtype=pl.Categorical),
            "enum": pl.Series(column(st.sampled_from("abc")), dtype=pl.Enum(["c", "a", "b"])),
            "money": pl.Series(column(st.decimals(-(10**9), 10**9, places=3)), dtype=pl.Decimal(20, 3)),
            "list": pl.Series(column(st.lists(integers, max_size=3)), dtype=pl.List(pl.Int64)),
            "nothing": pl.Series([None] * rows, dtype=pl.Null),
        }
    )


leaves = (
    hashable
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.binary(max_size=3000).map(bytearray)
    | numpy_scalars
    | arrays()
    | polars_frames()
    | polars_frames().map(lambda frame: frame["text"])
    | polars_frames().map(lambda frame: frame.to_arrow())
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(text, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3)
        | st.sets(keys, max_size=3)
    ),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    """Whether a loaded value and the one that was stored are the same in type and in every bit that it shows."""
    if type(left) is not type(right):
        return False
    for kinds, compare in _COMPARE.items():
        if isinstance(left, kinds):
            return bool(compare(left, right))
    return repr(left) == repr(right) and getattr(left, "fold", 0) == getattr(right, "fold", 0)


def _kind(value: object) -> str:
    return type(value).__name__


def _same_items(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _same_array(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    order = left.flags.f_contiguous == right.flags.f_contiguous or not right.flags.forc
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes() and order


def _same_table(left: pa.Table, right: pa.Table) -> bool:
    return left.schema.equals(right.schema, check_metadata=True) and same(pl.from_arrow(left), pl.from_arrow(right))


_COMPARE: dict[Any, Callable[[Any, Any], bool]] = {
    (list, tuple): _same_items,
    dict: lambda left, right: same(list(left), list(right)) and same(list(left.values()), list(right.values())),
    (set, frozenset): lambda left, right: left == right and sorted(map(_kind, left)) == sorted(map(_kind, right)),
    np.generic: lambda left, right: left.dtype == right.dtype and left.tobytes() == right.tobytes(),
    np.ndarray: _same_array,
    float: lambda left, right: struct.pack("d", left) == struct.pack("d", right),
    pl.DataFrame: lambda left, right: left.schema == right.schema and left.equals(right, null_equal=True),
    pl.Series: lambda left, right: same(left.to_frame(), right.to_frame()),
    pa.Table: _same_table,
}
