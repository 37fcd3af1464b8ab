"""Polars frames and Series, and Arrow tables, as Arrow streams.

Belongs here: these four types. Does not: pandas (`pandas_frames`), whose index and types Arrow does not know.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from analytics_pipeline.arrow_frames import data_frame
from analytics_pipeline.objects.arrow_streams import table_of, table_segment
from analytics_pipeline.objects.container import Memory, Segment
from analytics_pipeline.objects.scalars import Unfit


def polars_segment(frame: pl.DataFrame) -> Segment:
    """The frame as a stream.

    Raises:
        Unfit: a column is of a type that Arrow does not hold, or not exactly.
    """
    for name in frame.columns:  # one by one: Arrow takes what follows an unknown type for something else
        _check_column(frame.get_column(name))
    return table_segment(frame.to_arrow(compat_level=pl.CompatLevel.newest()))


def _check_column(column: pl.Series) -> None:
    reason = f"has the column {column.name!r} of the type {column.dtype}, which does not come back from Arrow as it was"
    if _has_arrays_of_nothing(column.dtype):
        raise Unfit(reason)
    try:
        back = pl.from_arrow(column.head(0).to_frame().to_arrow(compat_level=pl.CompatLevel.newest()))
    except (pa.ArrowException, pl.exceptions.PolarsError, NotImplementedError, TypeError, pl.exceptions.PanicException):
        raise Unfit(reason) from None
    if not isinstance(back, pl.DataFrame) or back.dtypes != [column.dtype]:
        raise Unfit(reason)


def _has_arrays_of_nothing(dtype: object) -> bool:
    """Whether it holds arrays of the width 0: Polars writes them, and panics where it reads them."""
    if isinstance(dtype, pl.Struct):
        return any(_has_arrays_of_nothing(field.dtype) for field in dtype.fields)
    if isinstance(dtype, pl.Array) and not dtype.size:
        return True
    return isinstance(dtype, pl.Array | pl.List) and _has_arrays_of_nothing(dtype.inner)


def polars_frame(memory: Memory) -> pl.DataFrame:
    """The frame in a segment.

    Raises:
        ValueError: see `table_of`.
    """
    table = table_of(memory)
    try:
        found = data_frame(table.rename_columns([str(at) for at in range(table.num_columns)]))
    except pl.exceptions.PanicException as error:  # no Exception: it would end the program
        raise ValueError(f"a frame that Polars cannot read: {error}") from None
    found.columns = table.column_names  # which Polars itself would replace where one is empty
    return found


def frame_segment(value: object) -> tuple[str, Segment]:
    """The tag and the stream of any of the types of this module.

    Raises:
        Unfit: it is none of them, or holds what does not come back.
    """
    if type(value) is pl.DataFrame:
        return "polars.DataFrame", polars_segment(value)
    if type(value) is pl.Series:
        return "polars.Series", polars_segment(value.to_frame())
    if type(value) is pa.Table:
        return "arrow.Table", table_segment(value)
    raise Unfit(f"is a {type(value).__module__}.{type(value).__qualname__}; store a DataFrame, a Series or a Table")


def frame_of(tag: str, memory: Memory) -> pl.DataFrame | pl.Series | pa.Table:
    """What `frame_segment` was given.

    Raises:
        ValueError: see `table_of`.
    """
    if tag == "arrow.Table":
        return table_of(memory)
    frame = polars_frame(memory)
    return frame.to_series() if tag == "polars.Series" else frame
