"""Whatever is taken comes back exactly; what would not is a TypeError with its path, before anything is written."""

from __future__ import annotations

import io
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.objects import DataStoreIO, deserialize, serialize
from analytics_pipeline_tests.objects.values import same

PACKED = np.zeros(3, [("a", "i4"), ("b", "f8")])
MANY = 2_000_000
ZONE = b"TZif".ljust(20, b"\0") + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">l2b4s", 3600, 0, 0, b"ODD\0")
"""A zone of one offset, as RFC 8536 lays it out."""
DAYS = np.array([1], "i8")
offsets = st.sampled_from(
    [
        "D",
        "-2D",
        "90min",
        "W-WED",
        "ME",
        "QS-FEB",
        "WOM-2TUE",
        pd.DateOffset(months=1),
        pd.DateOffset(days=1),
        pd.offsets.BusinessHour(start="11:00"),
        pd.offsets.CustomBusinessDay(holidays=["2020-01-03"]),
        pd.offsets.Week(),
        pd.offsets.Easter(),
        pd.offsets.MonthEnd(normalize=True),
        pd.offsets.FY5253(weekday=1),
    ]
)
structures = st.builds(
    lambda formats, places, align, itemsize: {
        "names": [f"f{at}" for at in range(len(formats))],
        "formats": formats,
        "offsets": places[: len(formats)],
        "itemsize": itemsize,
        "aligned": align,
    },
    st.lists(st.sampled_from(["i1", "i4", "f8", "S3"]), min_size=1, max_size=3),
    st.lists(st.sampled_from([0, 4, 8, 16]), min_size=3, max_size=3),
    st.booleans(),
    st.sampled_from([24, 32]),
)
labels = st.text(st.sampled_from("a\ud83d\ude00\U0001f600\0"), max_size=3)

REFUSED: dict[str, object] = {
    "fields in another order": PACKED[["b", "a"]],
    "fields that overlap": np.zeros(1, {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2]}),
    "a record": np.rec.array([(1, 2.0)], dtype=PACKED.dtype)[0],
    "an array of records": np.rec.array([(1, 2.0)], dtype=PACKED.dtype).view(np.ndarray),
    "aligned fields": np.zeros(1, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "aligned fields within": np.zeros(1, [("c", np.dtype([("a", "i1"), ("b", "f8")], align=True), (2,))]),
    "metadata of a type": np.zeros(1, np.dtype("i4", metadata={"a": 1})),
    "rows of nothing": pa.table({"x": pa.nulls(MANY)}),
    "rows of no columns": pa.table({"x": np.zeros(MANY)}).select([]),
    "rows of runs": pa.table({"x": pa.RunEndEncodedArray.from_arrays(pa.array([MANY], pa.int32()), pa.array([1]))}),
    "rows of nothing in Polars": pl.DataFrame({"x": pl.Series([None]).extend_constant(None, MANY)}),
    "rows of nothing in pandas": pd.Series(pd.array(pa.nulls(MANY), pd.ArrowDtype(pa.null()))),
    "arrays of the width 0": pl.Series([[]], dtype=pl.Array(pl.Int8, 0)),
    "arrays of the width 0 within": pl.Series([{"a": [[]]}], dtype=pl.Struct({"a": pl.List(pl.Array(pl.Int8, 0))})),
    "parts of days": pa.table({"x": pa.Array.from_buffers(pa.date64(), 1, [None, pa.py_buffer(DAYS.tobytes())])}),
    "text that is none": pa.table({"x": pa.array([b"\xff"]).view(pa.string())}),
    "a schema that names extensions": pa.table({"a": [1]}).replace_schema_metadata({"note": "ARROW:extension:name"}),
    "a flag": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "a zone of dateutil": pd.DataFrame({"a": pd.date_range("2020", periods=2, tz="dateutil/Europe/Berlin")}),
    "a zone from a file": datetime(2026, 1, 1, tzinfo=ZoneInfo.from_file(io.BytesIO(ZONE), key="Not/There")),
    "NaN besides NA": pd.Series(pd.arrays.FloatingArray(np.array([np.nan, 1.0]), np.array([False, True]))),
    "categories named by a tuple": pd.Series(pd.Categorical.from_codes([0], pd.Index(["a"], name=("a", 1)))),
    "an index of periods": pd.Series([1], index=pd.period_range("2020", periods=1, freq="D")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_come_back_is_refused_with_its_path(case: str, root: Path, base: None) -> None:
    with pytest.raises(TypeError, match=r"^\$\.a\[1\] .*Nothing was written"):
        DataStoreIO.serialize_write({"a": [0, REFUSED[case]]}, "mine")
    assert not root.exists()


ODD: list[object] = [
    np.str_("a\0"),
    np.bytes_(b"\0"),
    np.float16("nan"),
    np.longdouble(1) / 3,
    np.datetime64("NaT"),
    np.array([3], "m8[25s]")[0],
    np.void(b"\0a"),
    datetime.max.replace(tzinfo=UTC),
    timedelta.min,
    time(1, fold=1),
    datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2020, 1, 1, tzinfo=timezone(timedelta(0), "Z")),
    Decimal("sNaN123"),
    Decimal("-0E+5"),
    complex("nan+infj"),
    10**400,
    {"$": {"$": 1}},
    {1: [1], "1": [2], None: 3, (1, (2,)): {frozenset([1])}},
    b"",
    bytearray(b"x" * 3000),
    pl.DataFrame(),
    pa.table({}),
    pd.DataFrame({1: [1], "1": [2]}),
    pd.DataFrame({"a": [1]}, index=pd.Index([1], name=("x", date(2020, 1, 1)))),
    pd.Series([1], name=float("nan")),
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: f"{type(value).__name__} {str(value)[:20]!r}")
def test_odd_values_come_back_with_their_type(value: Any) -> None:
    (back,) = deserialize(serialize([value]))
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if isinstance(value, datetime | time):
        assert back.fold == value.fold


def back_or_refused(value: object) -> Any:
    """The value as it comes back, or None where it was refused."""
    try:
        data = serialize(value)
    except TypeError as error:
        assert str(error).startswith("$")  # noqa: PT017 - either is right
        return None
    return deserialize(data)


@settings(max_examples=300, deadline=None)
@given(structures)
def test_structured_arrays_come_back_with_their_layout_or_are_refused(layout: Any) -> None:
    try:
        array = np.zeros(2, np.dtype(layout))
    except ValueError:  # no type of NumPy
        return
    back = back_or_refused(array)
    if back is not None:
        assert same(back, array)
        assert back.dtype.isalignedstruct == array.dtype.isalignedstruct
        assert back.dtype.itemsize == array.dtype.itemsize


@settings(max_examples=200, deadline=None)
@given(offsets, st.integers(0, 4), st.sampled_from([None, "Europe/Berlin"]), st.sampled_from(["s", "ns"]))
def test_indexes_of_times_come_back_with_their_frequency_or_are_refused(
    offset: Any, rows: int, zone: Any, unit: Any
) -> None:
    times = pd.date_range("2020-03-20", periods=rows, freq=offset, tz=zone, unit=unit)
    for index in (times, pd.MultiIndex.from_product([times, [1]]), pd.CategoricalIndex(times)):
        series = pd.Series(range(rows), index=index)
        back = back_or_refused(series)
        if back is not None:
            pd.testing.assert_series_equal(back, series, check_freq=True)
            assert frequencies(back.index) == frequencies(series.index)


def frequencies(index: pd.Index[Any]) -> list[Any]:
    if isinstance(index, pd.MultiIndex):
        return [frequencies(level) for level in index.levels]
    if isinstance(index, pd.CategoricalIndex):
        return frequencies(index.categories)
    return [type(getattr(index, "freq", None)), getattr(index, "freq", None)]


@pytest.mark.parametrize("dtype", ["S0", "U0", "V0", [("a", "S0")]])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
def test_items_without_bytes_come_back_and_take_no_memory(dtype: Any, shape: tuple[int, ...]) -> None:
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype)
    back = deserialize(serialize(array))
    assert same(back, array)
    assert back.nbytes == 0


def test_common_frequencies_are_kept_and_not_refused() -> None:
    for frequency in ("D", "h", "W-WED", "MS", "B", "QS-FEB"):
        series = pd.Series(range(3), index=pd.date_range("2020", periods=3, freq=frequency))
        assert deserialize(serialize(series)).index.freq == series.index.freq


def test_levels_come_back_with_those_that_no_row_has() -> None:
    index = pd.MultiIndex.from_product([["a", "b", "c"], pd.RangeIndex(3)], names=["letter", ("n", 1)])
    series = pd.Series(range(9), index=index).iloc[2:5].reindex([("a", 2), ("b", np.nan)])
    back = deserialize(serialize(series)).index
    given_index = cast("pd.MultiIndex", series.index)
    assert [list(level) for level in back.levels] == [list(level) for level in given_index.levels]
    assert list(back.dtypes) == list(given_index.dtypes)
    assert [list(codes) for codes in back.codes] == [list(codes) for codes in given_index.codes]


@given(st.dictionaries(labels, labels | st.sets(labels) | labels.map(np.str_)))
def test_halves_of_utf_16_pairs_stay_what_they_were(value: dict[str, Any]) -> None:
    """Python's text may hold them, and JSON's escapes would join two of them to one character."""
    assert same(deserialize(serialize(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        pl.Series([1, 2]),
        pl.Series("", ["a"]),
        pl.DataFrame({"a": [1], "": [2]}),
        pl.DataFrame({"": [1], "column_0": [2]}),
    ],
    ids=repr,
)
def test_what_has_no_name_in_polars_gets_none(value: pl.Series | pl.DataFrame) -> None:
    back = deserialize(serialize(value))
    assert same(back, value)
    assert repr(back) == repr(value)


def test_categories_stay_where_no_row_is_left() -> None:
    series = pd.Series(["a", "b"], dtype="category").iloc[:0]
    assert list(deserialize(serialize(series)).cat.categories) == ["a", "b"]


def test_labels_that_are_no_text_of_arrow_come_back() -> None:
    frame = pd.DataFrame([[1, 2]], columns=pd.Index(["\ud83d", "a"], dtype=object))
    assert list(deserialize(serialize(frame)).columns) == ["\ud83d", "a"]


def test_long_tables_with_data_come_back() -> None:
    table = pa.table({"nothing": pa.nulls(MANY), "x": np.zeros(MANY, "i1")})
    assert deserialize(serialize(table)).equals(table)
