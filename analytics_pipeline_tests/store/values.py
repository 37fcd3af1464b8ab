"""Rows of every type the store keeps, with the values that careless copies change, and their comparison by bits."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa

from analytics_pipeline.store import Store
from analytics_pipeline_tests.store.scenario import Row, schema_of

EVERYTHING = schema_of(
    id=pa.int64(),
    tiny=pa.int8(),
    small=pa.int16(),
    plain=pa.int32(),
    natural=pa.uint64(),
    ratio=pa.float64(),
    single=pa.float32(),
    price=pa.decimal128(10, 2),
    huge=pa.decimal128(38, 0),
    text=pa.string(),
    bytes=pa.binary(),
    day=pa.date32(),
    clock=pa.time64("us"),
    local=pa.timestamp("us"),
    at=pa.timestamp("us", "UTC"),
    flag=pa.bool_(),
    tags=pa.list_(pa.string()),
    prices=pa.list_(pa.decimal128(10, 2)),
    nested=pa.list_(pa.list_(pa.float64())),
    file_row_number=pa.int64(),
)
_NULLS: dict[str, object] = dict.fromkeys(EVERYTHING.names)
_FIRST: dict[str, object] = {
    "tiny": -128, "small": 32767, "plain": -(2**31), "natural": 2**64 - 1, "ratio": -0.0, "single": 1.5,
    "price": Decimal("1.00"), "huge": Decimal(10**38 - 1), "text": "", "bytes": b"\x00\xff", "day": date(1, 1, 1),
    "clock": time(23, 59, 59, 999999), "local": datetime(1969, 12, 31, 23, 59, 59, 1),  # noqa: DTZ001 — without zone
    "at": datetime(2024, 2, 29, 12, 0, 0, 7, UTC), "flag": False, "tags": ["", None, "ü\x00"], "prices": [],
    "nested": [[math.inf], [], None, [-0.0, None]], "file_row_number": 7,
}  # fmt: skip
_SECOND: dict[str, object] = {
    "tiny": 0, "small": 0, "plain": 0, "natural": 0, "ratio": math.nan, "single": -0.0, "price": Decimal("-0.01"),
    "huge": Decimal(0), "text": " \n'\"世界", "bytes": b"", "day": date(9999, 12, 31), "clock": time(0), "flag": True,
    "local": datetime(9999, 12, 31),  # noqa: DTZ001 — without zone
    "at": datetime(1, 1, 1, tzinfo=UTC), "tags": [], "prices": [Decimal("0.10"), None],
    "nested": [], "file_row_number": 0,
}  # fmt: skip
_CHOICES: Sequence[Mapping[str, object]] = (_NULLS, _FIRST, _SECOND)


def everything(*ids: int) -> list[Row]:
    """Rows with all kinds of values, which one a row has following from its id."""
    return [{**_CHOICES[number % 3], "id": number} for number in ids]


def bits(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Rows in a form in which NaN equals NaN, and 0.0 does not equal -0.0."""
    return [{name: _bits(value) for name, value in row.items()} for row in rows]


def _bits(value: object) -> object:
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, list):
        return [_bits(item) for item in value]
    return value


def stored(store: Store, table: str) -> list[dict[str, object]]:
    """The rows of a table by id, for comparison by bits."""
    return bits(store.query(f"SELECT * FROM {table} ORDER BY id").to_arrow().to_pylist())
