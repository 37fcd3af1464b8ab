"""Trees of values as JSON with tags, and back: lists and mappings with single values, arrays and frames as leaves.

Belongs here: which types are taken, the path in messages, the limits of depth. Does not: how a leaf is written.

JSON's own values stand for themselves. Everything else is `{"$": tag, "v": …}`, or `{"$": tag, "s": number}` for what
is in a segment; a mapping that has the key `$`, or keys that are no text, is a list of pairs under the tag `dict`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from analytics_pipeline.errors import ObjectUnsupported
from analytics_pipeline.objects.arrays import array_of, array_segment
from analytics_pipeline.objects.container import JsonValue, Memory, Segment
from analytics_pipeline.objects.scalars import (
    SCALAR_TAGS,
    SCALARS,
    Unfit,
    data_of,
    decode_numpy,
    encode_numpy,
    text_of,
)

DEEPEST = 100
_INLINE_BYTES = 1024
_INT_BITS = 63
_JSON = json.JSONEncoder(ensure_ascii=False)
_PLAIN = frozenset({type(None), bool, str})
_SEQUENCES: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAKERS: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}

Path = tuple["Path", object] | None
"""Where a value is: its parent's path and its key; None is the root. Made into text only for a message."""


def path_text(path: Path) -> str:
    """`$.a[3]['b c']`."""
    if path is None:
        return "$"
    parent, key = path
    if isinstance(key, str) and key.isidentifier():
        return f"{path_text(parent)}.{key}"
    shown = repr(key)
    return f"{path_text(parent)}[{shown if len(shown) <= 60 else shown[:60] + '…'}]"  # noqa: PLR2004


class TreeEncoder:
    """Makes the JSON of one object, and collects the segments that it names.

    Args:
        url_of: stores a `DataStore` that stands in a container by itself, and gives its URL; None keeps it in the tree.
    """

    def __init__(self, url_of: Callable[[Any], str] | None = None) -> None:
        self.segments: list[Segment] = []
        self._url_of = url_of

    def keep(self, segment: Segment) -> int:
        """Add a segment; its number."""
        self.segments.append(segment)
        return len(self.segments) - 1

    def encode(self, value: object, path: Path = None, depth: int = 0) -> JsonValue:
        """The JSON of a value.

        Raises:
            ObjectUnsupported: names the path of what cannot be stored exactly.
        """
        if depth > DEEPEST:
            raise ObjectUnsupported(_short(path), f"is more than {DEEPEST} levels deep, or holds itself")
        kind = type(value)
        if kind in _PLAIN:
            return value  # type: ignore[return-value]
        if isinstance(value, list) and kind is list:
            return self._items(value, path, depth)
        if isinstance(value, dict) and kind is dict:
            return self._mapping(value, path, depth)
        if kind in _SEQUENCES:
            return self._tagged_items(value, path, depth)
        try:
            return self._leaf(value, path, depth)
        except Unfit as error:
            raise ObjectUnsupported(path_text(path), str(error)) from None

    def _items(self, items: Sequence[object], path: Path, depth: int) -> Sequence[JsonValue]:
        return [
            item if type(item) in _PLAIN else self.encode(item, (path, number), depth + 1)  # type: ignore[misc]
            for number, item in enumerate(items)
        ]

    def _tagged_items(self, value: Any, path: Path, depth: int) -> JsonValue:
        items = self._items(list(value), path, depth)
        if type(value) is not tuple:
            items = sorted(items, key=_JSON.encode)
        return {"$": _SEQUENCES[type(value)], "v": items}

    def _mapping(self, value: dict[object, object], path: Path, depth: int) -> JsonValue:
        if "$" not in value and all(type(key) is str for key in value):
            return {str(key): self.encode(item, (path, key), depth + 1) for key, item in value.items()}
        pairs: list[JsonValue] = []
        for key, item in value.items():
            where = (path, key)
            pairs.append([self.encode(key, where, depth + 1), self.encode(item, where, depth + 1)])
        return {"$": "dict", "v": pairs}

    def _leaf(self, value: Any, path: Path, depth: int) -> JsonValue:
        kind = type(value)
        if (kind is int and value.bit_length() <= _INT_BITS) or (kind is float and math.isfinite(value)):
            return value  # type: ignore[no-any-return]
        if scalar := SCALARS.get(kind):
            return {"$": scalar.tag, "v": scalar.encode(value)}
        if kind is bytes or kind is bytearray:
            return self._bytes(value)
        if kind is np.ndarray:
            return {"$": "array", "s": self.keep(array_segment(value))}
        return self._of_package(value, path, depth)

    def _of_package(self, value: Any, path: Path, depth: int) -> JsonValue:
        package = type(value).__module__.partition(".")[0]
        if package == "numpy" and isinstance(value, np.generic):
            if value.dtype.names:
                return {"$": "numpy.record", "s": self.keep(array_segment(np.asarray(value)))}
            return {"$": "numpy", "v": encode_numpy(value)}
        if package == "pandas":
            from analytics_pipeline.objects.pandas_frames import encode_pandas  # noqa: PLC0415 - few objects need it

            return encode_pandas(value, self, path, depth)
        if package in {"polars", "pyarrow"}:
            from analytics_pipeline.objects.frames import frame_segment  # noqa: PLC0415 - half a second

            tag, segment = frame_segment(value)
            return {"$": tag, "s": self.keep(segment)}
        if package == "analytics_pipeline":
            from analytics_pipeline.objects.datastore import DataStore  # noqa: PLC0415 - it knows this module

            if type(value) is DataStore:
                return self._data_store(value, path, depth)
        raise Unfit(f"is a {type(value).__module__}.{type(value).__qualname__}, which cannot be stored")

    def _data_store(self, value: Any, path: Path, depth: int) -> JsonValue:
        if self._url_of is not None:
            return {"$": "DataStore", "url": self._url_of(value)}
        return {"$": "DataStore", "v": self._mapping(dict(value), path, depth)}

    def _bytes(self, value: bytes | bytearray) -> JsonValue:
        tag = type(value).__name__
        if len(value) <= _INLINE_BYTES:
            return {"$": tag, "v": text_of(value)}
        return {"$": tag, "s": self.keep(Segment(len(value), lambda: [memoryview(value)]))}


def named(nodes: dict[str, JsonValue]) -> JsonValue:
    """The node of a mapping of names to values that are nodes already."""
    if "$" not in nodes:
        return nodes
    return {"$": "dict", "v": [[name, node] for name, node in nodes.items()]}


def _short(path: Path) -> str:
    """The beginning of a path that is too long to be read."""
    keys: list[object] = []
    while path is not None:
        path, key = path
        keys.append(key)
    text: Path = None
    for key in keys[:-4:-1]:
        text = (text, key)
    return f"{path_text(text)}…"


class TreeDecoder:
    """Makes an object out of its JSON and segments. Anything it raises, of whatever type, means: refused.

    Args:
        segments: of the container.
        store_at: gives the `DataStore` of a URL; None refuses one.
    """

    def __init__(self, segments: Sequence[Memory], store_at: Callable[[str], object] | None = None) -> None:
        self.segments = segments
        self._store_at = store_at
        self._taken: set[int] = set()

    def decode(self, node: Any) -> Any:
        """The value of a node.

        Raises:
            ValueError, TypeError, LookupError, ArithmeticError, RecursionError: no node that `TreeEncoder` gives.
        """
        if isinstance(node, list):
            return [self.decode(item) if isinstance(item, list | dict) else item for item in node]
        if not isinstance(node, dict):
            return node
        if "$" not in node:
            return {key: self.decode(item) for key, item in node.items()}
        tag = node["$"]
        if tag in _MAKERS:
            return _MAKERS[tag](self.decode(node["v"]))
        if tag in SCALAR_TAGS:
            return SCALAR_TAGS[tag](node["v"])
        return _LEAVES[tag](self, node)

    def data_store(self, node: dict[str, Any]) -> object:
        """A `DataStore` in a container: its values, or those under its URL."""
        from analytics_pipeline.objects.datastore import DataStore  # noqa: PLC0415 - it knows this module

        if "v" in node:
            return DataStore(self.decode(node["v"]))
        if self._store_at is None or not isinstance(node["url"], str):
            raise LookupError("a DataStore that is stored elsewhere")
        return self._store_at(node["url"])

    def segment(self, number: object) -> Memory:
        """A segment by its number; each once, or a small object could ask for one without end.

        Raises:
            LookupError: there is none, or it was given already.
        """
        if type(number) is not int or number < 0 or number in self._taken:
            raise LookupError("no segment")
        self._taken.add(number)
        return self.segments[number]


def _dict(decoder: TreeDecoder, node: dict[str, Any]) -> object:
    return {decoder.decode(key): decoder.decode(item) for key, item in node["v"]}


def _bytes(decoder: TreeDecoder, node: dict[str, Any]) -> bytes:
    return data_of(node["v"]) if "v" in node else decoder.segment(node["s"]).tobytes()


def _pandas(decoder: TreeDecoder, node: dict[str, Any]) -> object:
    from analytics_pipeline.objects.pandas_frames import decode_pandas  # noqa: PLC0415 - few objects need it

    return decode_pandas(node, decoder)


def _frame(decoder: TreeDecoder, node: dict[str, Any]) -> object:
    from analytics_pipeline.objects.frames import frame_of  # noqa: PLC0415 - half a second

    return frame_of(node["$"], decoder.segment(node["s"]))


_LEAVES: dict[str, Callable[[TreeDecoder, dict[str, Any]], object]] = {
    "dict": _dict,
    "bytes": _bytes,
    "bytearray": lambda decoder, node: bytearray(_bytes(decoder, node)),
    "DataStore": TreeDecoder.data_store,
    "numpy": lambda _, node: decode_numpy(node["v"]),
    "numpy.record": lambda decoder, node: array_of(decoder.segment(node["s"]))[()],
    "array": lambda decoder, node: array_of(decoder.segment(node["s"])),
    "arrow.Table": _frame,
    "polars.DataFrame": _frame,
    "polars.Series": _frame,
    "pandas.DataFrame": _pandas,
    "pandas.Series": _pandas,
}
