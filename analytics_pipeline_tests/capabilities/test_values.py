"""Values of records: what a column can hold and what not, whoever's class the record is of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, Record
from analytics_pipeline.errors import NameRefused, RecordRefused, RecordValueRefused, RunRefused
from analytics_pipeline_tests.capabilities.scenario import run
from analytics_pipeline_tests.capabilities.strangers import Stranger


class Colour(StrEnum):
    """A text with names."""

    RED = "red"


class Level(IntEnum):
    """A number with names."""

    HIGH = 3


class EveryType(BaseRecord, table_name="every_type"):
    """A field of every type, and each of them optional."""

    text: str | None = None
    whole: int | None = None
    number: float | None = None
    flag: bool | None = None
    raw: bytes | None = None
    moment: datetime | None = None
    colour: Colour | None = None
    level: Level | None = None


def test_every_type_comes_back_as_it_was(store: AnalyticsStore) -> None:
    """Also at its limits, and as NULL."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    full = EveryType(
        run_uid="a", text="ä\0\n'\"🎉", whole=-(2**63), number=1e308, flag=False, raw=b"\0\xff", moment=moment,
        colour=Colour.RED, level=Level.HIGH,
    )  # fmt: skip
    store.backend.write([full, EveryType(run_uid="b")])
    columns = "text, whole, number, flag, raw, moment, colour, level"
    found = store.query_sql(f"SELECT {columns} FROM every_type ORDER BY run_uid").rows()
    assert found == [("ä\0\n'\"🎉", -(2**63), 1e308, False, b"\0\xff", moment, "red", 3), (None,) * 8]
    assert list(store.describe_table("every_type").values())[2:] == [
        "String", "Int64", "Float64", "Boolean", "Binary", "Datetime(time_unit='us', time_zone='UTC')", "String",
        "Int64",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("whole", 2**63),
        ("text", "\ud800"),
        ("moment", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("moment", datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))),
        ("number", 10**400),
        ("flag", 1),
        ("whole", True),
        ("whole", 1.0),
        ("raw", "text"),
        ("text", b"raw"),
        ("text", ["a"]),
    ],
    ids=str,
)
def test_a_value_that_no_column_can_hold_is_refused_by_name(store: AnalyticsStore, field: str, value: object) -> None:
    """Also where a record was made without a check; a boolean is no number, a text no bytes."""
    record = EveryType.model_construct(run_uid="b", **{field: value})  # type: ignore[arg-type]
    with pytest.raises(RecordValueRefused, match=rf"{field}.*every_type"):
        store.backend.write([EveryType(run_uid="a"), record])
    assert store.list_tables() == []


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_record_without_a_run_is_refused(store: AnalyticsStore) -> None:
    """It could never be told from its copy."""
    for uid in ("", None, 7):
        with pytest.raises(RunRefused, match=r"run_uid|every_type"):
            store.backend.write([EveryType.model_construct(run_uid=uid)])  # type: ignore[arg-type]
    assert store.list_tables() == []


def test_records_of_other_classes_are_stored_by_their_values(store: AnalyticsStore) -> None:
    """The protocol is all that counts; a column in which no value was ever seen waits for one."""
    store.backend.write([Stranger("example", run_uid="a", score=1.5, later=None)])
    store.backend.write([Stranger("example", run_uid="b", score=None, later="x"), Stranger("example", run_uid="c")])
    assert store.query_sql("SELECT run_uid, score, later FROM example ORDER BY 1").rows() == [
        ("a", 1.5, None),
        ("b", None, "x"),
        ("c", None, None),
    ]
    with pytest.raises(RecordValueRefused, match="tags"):
        store.backend.write([Stranger("example", run_uid="d", tags=["x"])])


@pytest.mark.parametrize("table", ["../outside", "a/b", "a.b", "A", "1a", "", "a b", "x" * 64, "a\n"])
def test_a_record_of_another_class_cannot_name_a_place_outside(
    store: AnalyticsStore, tmp_path: Path, table: str
) -> None:
    """A table's name becomes a folder."""
    with pytest.raises(NameRefused):
        store.backend.write([Stranger(table, run_uid="a", score=1.0)])
    assert not list(tmp_path.rglob("*.parquet"))
    assert store.list_tables() == []


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    "missing", [pd.NA, pd.NaT, np.datetime64("NaT"), np.ma.masked, pa.scalar(None, pa.int64())], ids=str
)
def test_a_missing_value_of_another_package_is_null_as_none_is(store: AnalyticsStore, missing: object) -> None:
    """NaT passes for a datetime of Python's, and is none."""
    fields = dict.fromkeys(("text", "whole", "number", "flag", "raw", "moment"), missing)
    store.backend.write([EveryType.model_construct(run_uid="a", **fields)])  # type: ignore[arg-type]
    store.backend.write([Stranger("example", run_uid="a", score=1.5), Stranger("example", run_uid="b", score=missing)])

    assert store.query_sql("SELECT text, whole, number, flag, raw, moment FROM every_type").rows() == [(None,) * 6]
    assert store.query_sql("SELECT score FROM example ORDER BY run_uid").rows() == [(1.5,), (None,)]


def test_numbers_of_numpy_are_numbers(store: AnalyticsStore) -> None:
    """Measurements come from arrays; also in a class's own fields, and beside Python's."""
    values = {"number": np.float32(0.5), "whole": np.int64(7), "flag": np.bool_(True), "small": np.uint8(1)}  # noqa: FBT003
    store.backend.write([Stranger("plain", run_uid="a", **values), Stranger("plain", run_uid="b", number=1.5)])
    assert store.query_sql("SELECT number, whole, flag, small FROM plain ORDER BY run_uid").rows() == [
        (0.5, 7, True, 1),
        (1.5, None, None, None),
    ]
    assert list(store.describe_table("plain").values()) == ["String", "Float64", "Int64", "Boolean", "Int64"]
    for value in (np.datetime64("2026-01-01", "ns"), np.array([1]), np.complex64(1)):
        with pytest.raises(RecordValueRefused, match=r"strange.*plain"):
            store.backend.write([Stranger("plain", run_uid="c", strange=value)])


class Dumb:
    """Something with a table's name whose fields are `given`."""

    def __init__(self, given: object, table_name: object = "example") -> None:
        self.given = given
        self.table_name = table_name

    def model_dump(self, *, mode: str) -> object:
        """What was given."""
        assert mode == "python"
        return self.given


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (Dumb(None), "Dumb gives a NoneType from model_dump"),
        (Dumb([]), "Dumb gives a list from model_dump"),
        (Dumb({"run_uid": "a"}, table_name=None), "Dumb has a NoneType as its table_name"),
        (Dumb({"run_uid": "a"}, table_name=7), "Dumb has a int as its table_name"),
        (None, "NoneType"),
        ("hunter2", "str"),
    ],
)
def test_what_is_no_record_is_refused_by_name(store: AnalyticsStore, record: Record, told: str) -> None:
    """And is not repeated: it may be anything."""
    with pytest.raises(RecordRefused, match=told) as refused:
        store.backend.write([record])
    assert "hunter2" not in str(refused.value)
    assert store.list_tables() == []


def test_a_field_whose_name_is_no_text_is_refused(store: AnalyticsStore) -> None:
    """A column has a name."""
    with pytest.raises(RecordValueRefused, match=r"7.*int as its name"):
        store.backend.write([Dumb({"run_uid": "a", 7: 1})])  # type: ignore[list-item]


RUN_ROW = {
    "run_uid": "x",
    "capability_id": "c",
    "capability_table": "example",
    "entity_type": "model",
    "entity_id": "m",
}


@pytest.mark.parametrize(
    ("table", "fields", "told"),
    [
        ("runs", {"run_uid": "x", "user_id": 5}, "capability_id"),
        ("runs", {**RUN_ROW, "user_id": 5}, "user_id"),
        ("runs", {**RUN_ROW, "entity_id": None}, "entity_id"),
        ("runs", {**RUN_ROW, "password": "hunter2"}, "password"),
        ("runs", {**RUN_ROW, "submitted_at": datetime(2026, 1, 1)}, "submitted_at"),  # noqa: DTZ001
        ("materializations", {"run_uid": "x"}, "materialization_id"),
        ("materializations", {"run_uid": "x", "materialization_id": "m", "asset_key": 5}, "asset_key"),
    ],
)
def test_rows_of_the_stores_own_tables_are_as_the_store_writes_them(
    store: AnalyticsStore, table: str, fields: dict[str, object], told: str
) -> None:
    """A column of another type, or a row without a key, would stop everybody's writes."""
    with pytest.raises(RecordValueRefused, match=rf"{told}.*{table}") as refused:
        store.backend.write([Stranger(table, **fields)])
    assert "hunter2" not in str(refused.value)
    store.write([run("a")], provenance={"user_id": "ada"})
    assert store.query_sql("SELECT DISTINCT run_uid, user_id FROM runs").rows() == [("a", "ada")]


def test_rows_of_runs_may_be_objects_of_any_class(store: AnalyticsStore) -> None:
    """With all columns, and each entity once."""
    for _ in range(2):
        store.backend.write([Stranger("runs", **RUN_ROW)])
    assert store.query_sql("SELECT run_uid, entity_id, job_id FROM runs").rows() == [("x", "m", None)]
    assert store.query_sql("SELECT count(created_at) FROM runs").item() == 1
