"""pandas frames and Series: their columns and index as one Arrow stream, their labels in the tree.

Belongs here: labels, indexes of one or more levels, names. Does not: a single column's type (`pandas_vectors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from analytics_pipeline.errors import ExtraMissing
from analytics_pipeline.objects.arrow_streams import table_of, table_segment
from analytics_pipeline.objects.container import JsonValue
from analytics_pipeline.objects.scalars import Unfit

if TYPE_CHECKING:
    import pandas as pd

    from analytics_pipeline.objects.tree import Path, TreeDecoder, TreeEncoder


class _Columns:
    """Columns on their way into one table."""

    def __init__(self) -> None:
        self.arrays: list[pa.Array[Any]] = []

    def add(self, name: object, values: pd.Series[Any] | pd.Index[Any]) -> JsonValue:
        """Take a column; the note on it. Notes and columns are in the same order."""
        from analytics_pipeline.objects.pandas_vectors import encode_vector  # noqa: PLC0415 - pandas may be missing

        try:
            array, note = encode_vector(values)
        except Unfit as error:
            raise Unfit(f"has {name!r}, which {error}") from None
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise Unfit(f"has {name!r}, which Arrow cannot hold: {error}") from None
        self.arrays.append(array)
        return note

    def table(self) -> pa.Table:
        """All columns, in order; their names are elsewhere."""
        return pa.Table.from_arrays(self.arrays, names=[str(at) for at in range(len(self.arrays))])


def encode_pandas(value: Any, encoder: TreeEncoder, path: Path, depth: int) -> JsonValue:
    """The node of a frame or Series.

    Raises:
        Unfit: it is something else of pandas, or holds what does not come back as it was.
        ObjectUnsupported: a label cannot be stored.
    """
    import pandas as pd  # noqa: PLC0415 - the value is of pandas, so it is loaded

    columns = _Columns()
    if isinstance(value, pd.Series | pd.DataFrame) and not value.flags.allows_duplicate_labels:
        raise Unfit(
            "has the flag that allows no label twice, which is not kept; set_flags(allows_duplicate_labels=True)"
        )
    if type(value) is pd.Series:
        node: dict[str, JsonValue] = {"$": "pandas.Series", "columns": [columns.add(value.name, value)]}
        node["name"] = encoder.encode(value.name, (path, "name"), depth + 1)
    elif type(value) is pd.DataFrame:
        labels = _Columns()
        notes = [columns.add(label, value.iloc[:, at]) for at, label in enumerate(value.columns)]
        node = {"$": "pandas.DataFrame", "columns": notes}
        node["labels"] = _encode_labels(value.columns, labels, encoder, (path, "columns"), depth)
        node["t"] = encoder.keep(table_segment(labels.table()))
    else:
        raise Unfit(f"is a {type(value).__module__}.{type(value).__qualname__}; store a DataFrame or a Series")
    node["rows"] = len(value)
    node["index"] = _encode_index(value.index, columns, encoder, (path, "index"), depth)
    node["attrs"] = encoder.encode(value.attrs, (path, "attrs"), depth + 1)
    node["s"] = encoder.keep(table_segment(columns.table()))
    return node


def _encode_index(
    index: pd.Index[Any], columns: _Columns, encoder: TreeEncoder, path: Path, depth: int
) -> dict[str, JsonValue]:
    import pandas as pd  # noqa: PLC0415

    from analytics_pipeline.objects.pandas_vectors import frequency_of  # noqa: PLC0415

    names = encoder.encode(list(index.names), path, depth + 1)
    if type(index) is pd.RangeIndex:
        return {"names": names, "range": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        _check_levels(index)
        levels = [_encode_level(level, encoder, path, depth) for level in index.levels]
        codes = [columns.add(at, pd.Series(codes)) for at, codes in enumerate(index.codes)]
        return {"names": names, "levels": levels, "codes": codes}
    if type(index) not in {pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.CategoricalIndex}:
        raise Unfit(f"has a {type(index).__name__}, which has no exact counterpart in Arrow; convert it with astype")
    return {"names": names, "values": columns.add("index", index), "frequency": frequency_of(index)}


def _check_levels(index: pd.MultiIndex) -> None:
    """Refuse what pandas makes only where it is told not to look."""
    import pandas as pd  # noqa: PLC0415

    if index.sortorder is not None:
        raise Unfit(f"has an index with the sortorder {index.sortorder}, which is not kept; set index.sortorder = None")
    try:
        pd.MultiIndex(index.levels, index.codes, names=index.names)
    except ValueError as error:
        raise Unfit(f"has an index that pandas does not build again ({error}); make it by from_tuples") from None


def _encode_level(level: pd.Index[Any], encoder: TreeEncoder, path: Path, depth: int) -> dict[str, JsonValue]:
    columns = _Columns()
    node = _encode_index(level, columns, encoder, path, depth)
    return {**node, "s": encoder.keep(table_segment(columns.table()))}


def _encode_labels(
    labels: pd.Index[Any], columns: _Columns, encoder: TreeEncoder, path: Path, depth: int
) -> dict[str, JsonValue]:
    """Labels of mixed types are a list of values: Arrow has no column for them."""
    import pandas as pd  # noqa: PLC0415

    if labels.dtype == object and not isinstance(labels, pd.MultiIndex):
        names = encoder.encode(list(labels.names), path, depth + 1)
        return {"names": names, "mixed": encoder.encode(list(labels), path, depth + 1)}
    return _encode_index(labels, columns, encoder, path, depth)


def decode_pandas(node: Mapping[str, Any], decoder: TreeDecoder) -> pd.DataFrame | pd.Series[Any]:
    """The frame or Series of a node, in memory of its own.

    Raises:
        ExtraMissing: pandas is not installed.
        ValueError, TypeError, LookupError, pyarrow.ArrowException: no node that `encode_pandas` gives.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - not everybody has it
    except ImportError:
        raise ExtraMissing("A pandas object", "objects") from None
    from analytics_pipeline.objects.pandas_vectors import as_series, decode_vector  # noqa: PLC0415

    table = table_of(decoder.segment(node["s"]))
    notes = node["columns"]
    data = {at: as_series(decode_vector(table.column(at), note)) for at, note in enumerate(notes)}
    index = _decode_index(node["index"], table.columns[len(notes) :], decoder)
    if len(index) != node["rows"] or any(len(column) != len(index) for column in data.values()):
        raise ValueError("a frame whose columns and index differ in length")
    attrs = decoder.decode(node["attrs"])
    if node["$"] == "pandas.Series":
        series = data[0].set_axis(index).rename(decoder.decode(node["name"]))
        series.attrs = attrs
        return series
    frame = pd.DataFrame(data).set_axis(index) if data else pd.DataFrame(index=index)
    frame.columns = _decode_index(node["labels"], table_of(decoder.segment(node["t"])).columns, decoder)
    frame.attrs = attrs
    return frame


def _decode_index(node: Mapping[str, Any], columns: Sequence[Any], decoder: TreeDecoder) -> pd.Index[Any]:
    import pandas as pd  # noqa: PLC0415

    from analytics_pipeline.objects.pandas_vectors import as_index, decode_vector  # noqa: PLC0415

    names = decoder.decode(node["names"])
    if "range" in node:
        return pd.RangeIndex(*node["range"], name=names[0])
    if "mixed" in node:
        values = decoder.decode(node["mixed"])
        return pd.Index(values, dtype=object, name=names[0], tupleize_cols=False)
    if "levels" in node:
        levels = [
            _decode_index(level, table_of(decoder.segment(level["s"])).columns, decoder) for level in node["levels"]
        ]
        codes = [decode_vector(column, note) for column, note in zip(columns, node["codes"], strict=True)]
        return pd.MultiIndex(levels, codes, names=names)
    return as_index(decode_vector(columns[0], node["values"]), names[0], node["frequency"])
