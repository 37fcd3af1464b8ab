"""pandas frames and Series come back as they were: types, labels, indexes, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analytics_pipeline.errors import ObjectUnsupported
from analytics_pipeline.objects import deserialize, serialize

TIMES = ["2020-01-01 00:00:00.123456789", None, "2021-03-28 03:00:00"]
PLACES = pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["letter", None])
CASES: dict[str, Any] = {
    "numbers": pd.DataFrame({"a": [1, 2, 3], "b": [1.5, np.nan, -0.0], "h": np.array([1, 2, 3], "f2")}),
    "unsigned": pd.DataFrame({"a": np.array([0, 255, 1], "u1"), "b": [True, False, True]}),
    "str": pd.DataFrame({"a": ["a", None, "c"]}),
    "objects of None": pd.DataFrame({"a": pd.Series(["a", None, "c"], dtype=object)}),
    "objects of NaN": pd.DataFrame({"a": pd.Series(["a", np.nan, "c"], dtype=object)}),
    "objects of NA": pd.DataFrame({"a": pd.Series(["a", pd.NA, "c"], dtype=object)}),
    "string": pd.DataFrame(
        {"p": pd.array(["a", None], "string[python]"), "a": pd.array(["a", None], "string[pyarrow]")}
    ),
    "masked": pd.DataFrame({"i": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")}),
    "masked floats": pd.DataFrame({"f": pd.array([1.5, None], "Float32")}),
    "arrow": pd.DataFrame({"a": pd.array([1, None], "int64[pyarrow]")}),
    "categories of a range": pd.Series(pd.Categorical.from_codes([0, 1, -1], pd.RangeIndex(2, name="r"))),
    "categories of days": pd.Series(pd.Categorical(pd.date_range("2020", periods=2, freq="D"))),
    "arrow lists": pd.Series(pd.array([[1], None], pd.ArrowDtype(pa.list_(pa.int64())))),
    "arrow floats": pd.Series(pd.array(pa.array([1.5, None]), pd.ArrowDtype(pa.float64()))),
    "offsets": pd.Series(pd.to_datetime(["2020-01-01T00:00:00+02:00"])),
    "ordered": pd.DataFrame({"a": pd.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True)}),
    "categories of numbers": pd.Series([2, 1, 2], dtype="category"),
    "categories of times": pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"], utc=True).astype("category")),
    "times": pd.DataFrame({"t": pd.to_datetime(TIMES, format="ISO8601")}),
    "zoned": pd.DataFrame({"t": pd.to_datetime(TIMES, format="ISO8601").tz_localize("Europe/Berlin")}),
    "utc": pd.DataFrame({"t": pd.to_datetime(TIMES, format="ISO8601", utc=True)}),
    "seconds": pd.Series(np.array([1, 2], "M8[s]"), name="s"),
    "spans": pd.Series(pd.to_timedelta([1, None, 3], unit="ns"), name="d"),
    "named index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="k")),
    "several levels": pd.DataFrame({"a": [1, 2, 3]}, index=PLACES),
    "levels of columns": pd.DataFrame(np.zeros((2, 3)), columns=PLACES),
    "days": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020-01-01", periods=2, freq="D", tz="Europe/Berlin")),
    "index of categories": pd.Series([1, 2], index=pd.CategoricalIndex(["a", "b"], name="c"), name="n"),
    "range": pd.Series([1, 2], index=pd.RangeIndex(4, 8, 2, name="r"), name=("a", 1)),
    "mixed labels": pd.DataFrame(np.zeros((2, 3)), columns=["a", 1, ("b", 2)]),
    "labels twice": pd.DataFrame([[1, "a"]], columns=["x", "x"]),
    "unnamed": pd.Series([1, 2, 3]),
    "nothing": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="M8[s]"), "b": pd.Series([], dtype="category")}),
    "no columns": pd.DataFrame(index=[1, 2]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pandas_object_comes_back_as_it_was(case: str) -> None:
    given = CASES[case]
    back = deserialize(serialize(given))
    if isinstance(given, pd.Series):
        pd.testing.assert_series_equal(back, given, check_exact=True, check_index_type=True)
    else:
        pd.testing.assert_frame_equal(back, given, check_exact=True, check_index_type=True, check_column_type=True)
        assert list(back.dtypes) == list(given.dtypes)
    assert type(back.index) is type(given.index)
    if isinstance(given, pd.Series) and isinstance(given.dtype, pd.CategoricalDtype):
        assert repr(back.cat.categories) == repr(given.cat.categories)


TWICE = pd.MultiIndex(levels=[["a", "a"]], codes=[[0, 1]], verify_integrity=False)
SORTED = pd.MultiIndex.from_arrays([[1, 2], [3, 4]], sortorder=0)


@pytest.mark.parametrize(("index", "reason"), [(TWICE, "from_tuples"), (SORTED, "set index.sortorder = None")])
def test_levels_that_would_not_come_back_are_refused_with_their_path(index: pd.MultiIndex, reason: str) -> None:
    for given in (pd.Series([1, 2], index=index), pd.DataFrame([[1, 2]], columns=index)):
        with pytest.raises(ObjectUnsupported, match=rf"^\$\['a b'\]\[0\] has an index .*{reason}"):
            serialize({"a b": [given]})


def test_frames_that_were_grouped_stacked_and_sorted_come_back() -> None:
    """What pandas itself makes has no such levels."""
    frame = pd.DataFrame({"a": [2, 1, 2], "b": ["x", "y", "z"], "v": [1.5, 2.5, 3.5]})
    indexed = frame.set_index(["a", "b"])
    for given in (indexed, indexed.sort_index(), indexed.unstack(), indexed.stack(), indexed.groupby("a").agg(["min"])):  # noqa: PD010, PD013 - these are meant
        assert repr(deserialize(serialize(given))) == repr(given)


def test_missing_values_stay_the_ones_they_were() -> None:
    """Comparisons of pandas take None, NaN and NA for the same; users' code does not."""
    for case, missing in (("objects of None", None), ("objects of NaN", np.nan), ("objects of NA", pd.NA)):
        assert repr(deserialize(serialize(CASES[case])).loc[1, "a"]) == repr(missing)


def test_a_loaded_frame_can_be_changed_and_keeps_its_attributes() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    frame.attrs["made by"] = ("us", 1)
    back = deserialize(serialize(frame))
    back.loc[0, "a"] = 7
    assert list(back["a"]) == [7, 2]
    assert back.attrs == {"made by": ("us", 1)}
