"""What is stored comes back exactly, or is refused before anything is written."""

from __future__ import annotations

import enum
import inspect
import os
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.errors import ObjectDamaged, ObjectTooDeep, ObjectTooLarge, ObjectUnsupported
from analytics_pipeline.objects import container, deserialize, serialize
from analytics_pipeline_tests.objects.values import arrays, polars_frames, same, trees

STORED = serialize({"a": np.arange(5), "b": [1, "two"], "c": pl.DataFrame({"x": [1, 2]}), "d": b"x" * 2000})


@settings(max_examples=300, deadline=None)
@given(trees)
def test_every_tree_comes_back_as_it_was(value: Any) -> None:
    assert same(deserialize(serialize(value)), value)


@settings(max_examples=300, deadline=None)
@given(arrays())
def test_every_array_comes_back_in_its_order_and_can_be_written(array: np.ndarray[Any, Any]) -> None:
    back = deserialize(serialize(array))
    assert same(back, array)
    assert back.flags.writeable


@settings(max_examples=100, deadline=None)
@given(polars_frames())
def test_every_frame_comes_back_with_its_types(frame: pl.DataFrame) -> None:
    assert same(deserialize(serialize(frame)), frame)


@pytest.mark.parametrize("unit", ["Y", "M", "D", "s", "ms", "us", "ns", "25us", "generic"])
@pytest.mark.parametrize("kind", ["M8", "m8"])
def test_moments_keep_their_unit_and_every_tick(kind: str, unit: str) -> None:
    values = np.array([-(2**63), -1, 0, 1, 2**62], np.int64).view(
        np.dtype(kind if unit == "generic" else f"{kind}[{unit}]")
    )
    assert same(deserialize(serialize([values, values[1]])), [values, values[1]])


@pytest.mark.parametrize("dtype", ["<f16", ">f8", ">i2", "<c32", "V3", "V0", "<U0", "S0", "?", "<f2"])
def test_rare_types_of_arrays_come_back(dtype: str) -> None:
    array = np.zeros((2, 3), dtype=dtype)
    assert same(deserialize(serialize(array)), array)


def test_equal_sets_are_equal_bytes() -> None:
    """The order of a set differs between processes; a checksum that did, too, would say nothing."""
    code = "import sys; from analytics_pipeline.objects import serialize; print(serialize(set('abcdefgh')).hex())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


class Colour(enum.IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")  # noqa: PYI024 - what users have


class Text(str):
    __slots__ = ()


UNSUPPORTED = [
    object(),
    Colour.RED,
    Point(1, 2),
    Text("x"),
    OrderedDict(a=1),
    len,
    threading.Lock(),
    np.array([None]),
    np.array(["a"], dtype=np.dtypes.StringDType()),
    np.ma.masked_array([1]),
    np.zeros(1, [("a", "i4")]).view(np.recarray),
    pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}),
    pl.DataFrame({"x": pl.Series([1], dtype=pl.Int128)}),
    pl.LazyFrame({"x": [1]}),
    pa.array([1]),
    pa.table({"x": pa.array([b"0" * 16], pa.uuid())}),
    pd.Index([1]),
    pd.Timestamp(0),
    pd.DataFrame({"x": [object()]}),
    pd.Series([1j]),
    pd.Series(pd.period_range("2020", periods=1, freq="D")),
    pd.Series(["a", None, float("nan")], dtype=object),
]


@pytest.mark.parametrize("value", UNSUPPORTED, ids=lambda value: type(value).__name__)
def test_what_cannot_come_back_is_refused_with_its_path(value: object) -> None:
    with pytest.raises(TypeError, match=r"^\$\.a\[3\]\['b c'\] .*Nothing was written"):
        serialize({"a": [0, 1, 2, {"b c": value}]})


def test_a_tree_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append({"again": loop})
    with pytest.raises(ObjectUnsupported, match=r"^\$\[0\].* levels deep"):
        serialize(loop)


@pytest.mark.parametrize("room", range(50, 300, 50))
def test_an_object_that_is_loaded_near_the_limit_of_recursion_is_not_called_harmful(room: int) -> None:
    tree: object = 1
    for _ in range(100):
        tree = (tree,)
    data = serialize(tree)

    def below(levels: int) -> object:
        return below(levels - 1) if levels else deserialize(data)

    depth = sys.getrecursionlimit() - len(inspect.stack(0)) - room
    with pytest.raises(ObjectTooDeep, match=r"recursion limit .* allows at this call.*called less deep") as told:
        below(depth)
    assert "harm" not in str(told.value)
    assert deserialize(data) == tree


def test_a_header_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "LARGEST_HEADER", 1000)
    with pytest.raises(ObjectTooLarge, match="Give long lists of numbers as arrays"):
        serialize(list(range(1000)))


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(STORED) - 1), st.integers(1, 255))
def test_any_altered_byte_is_damage_and_never_other_data(at: int, change: int) -> None:
    altered = bytearray(STORED)
    altered[at] ^= change
    with pytest.raises(ObjectDamaged, match="Nothing of it was loaded"):
        deserialize(altered)


@given(st.integers(0, len(STORED) - 1))
def test_a_torn_object_is_damage(length: int) -> None:
    with pytest.raises(ObjectDamaged):
        deserialize(STORED[:length])


def test_more_bytes_than_were_written_are_damage() -> None:
    with pytest.raises(ObjectDamaged):
        deserialize(STORED + b"\0")
