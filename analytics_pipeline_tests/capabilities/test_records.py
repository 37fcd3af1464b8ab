# ruff: noqa: UP007, UP045 — both ways to write a union are tried
"""Record classes are checked when they are defined, and say what to write instead."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, Literal, Optional, Union

import pytest
from pydantic import BaseModel, Field, ValidationError

from analytics_pipeline.capabilities import BaseRecord, RunRecord
from analytics_pipeline.capabilities.records import SCALARS, scalar_of
from analytics_pipeline.errors import RecordFieldNotScalar, RecordTableRefused

ALLOWED = ("str", "int", "float", "bool", "bytes", "datetime", "Optional")


class Shade(StrEnum):
    """A text with names."""

    LIGHT = "light"


class Size(IntEnum):
    """A number with names."""

    SMALL = 1


class Nested(BaseModel):
    """No scalar."""

    value: int


class Plain(Enum):
    """Values of any type: no scalar."""

    ONE = 1


def record_with(annotation: object, table_name: str = "tried") -> type[BaseRecord]:
    """A record class with one field of a type."""
    return type("Tried", (BaseRecord,), {"__annotations__": {"tried": annotation}}, table_name=table_name)


@pytest.mark.parametrize(
    "annotation",
    [
        list[str], dict[str, int], set[int], tuple[int, ...], list, dict, Nested, Any, object, Plain, Decimal, date,
        timedelta, complex, None, type(None), Literal["a"], Union[int, str], int | float, int | str | None,
        Optional[list[int]], Annotated[list[int], Field()], list[int] | None, Optional[Any], type[int],
    ],
    ids=str,
)  # fmt: skip
def test_a_field_that_is_no_scalar_is_refused_at_the_definition(annotation: object) -> None:
    """The message names the field, the class, what is allowed, and the way out."""
    with pytest.raises(RecordFieldNotScalar) as refused:
        record_with(annotation)
    assert isinstance(refused.value, TypeError)
    words = str(refused.value)
    assert "'tried'" in words
    assert "Tried" in words
    assert "several records" in words
    assert all(name in words for name in ALLOWED)


@pytest.mark.parametrize(
    "annotation",
    [
        *SCALARS, *(Optional[scalar] for scalar in SCALARS), *(None | scalar for scalar in SCALARS), Shade, Size,
        Shade | None, Annotated[float, Field(ge=0)], Annotated[int | None, Field()], str | Shade,
    ],
    ids=str,
)  # fmt: skip
def test_scalars_their_subclasses_and_optional_ones_are_columns(annotation: object) -> None:
    """All that a flat row needs."""
    assert scalar_of(record_with(annotation).model_fields["tried"].annotation) is not None


def test_a_boolean_is_a_column_of_its_own_kind() -> None:
    """In Python it is a number, too."""
    assert scalar_of(bool) is bool
    assert scalar_of(bool | None) is bool
    assert scalar_of(bool | int) is None


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/b", "a\\b", "a.b", "runs", "materializations", "", "Upper", "1st", "_hidden", "a-b", "a b",
     "ä", "a;b", 'a"b', "a\n", "a\0", "x" * 64],
)  # fmt: skip
def test_a_table_name_that_is_no_plain_identifier_is_refused_at_the_definition(name: str) -> None:
    """It becomes a folder and a name in SQL; `runs` is the store's own."""
    with pytest.raises(RecordTableRefused) as refused:
        record_with(int, table_name=name)
    assert isinstance(refused.value, TypeError)
    assert "Tried" in str(refused.value)
    assert 'table_name="my_table"' in str(refused.value)


def test_a_record_class_without_a_table_is_refused() -> None:
    """Also one below a class that has one: two classes would mean two things by one table."""
    with pytest.raises(RecordTableRefused, match="Nameless"):

        class Nameless(BaseRecord):
            value: int


def test_a_record_has_its_table_a_run_and_a_time() -> None:
    """The two fields that all records have; a time in UTC, whatever zone it came in."""
    kind = record_with(int)
    before = datetime.now(UTC)
    record = kind.model_validate({"run_uid": "a", "tried": 1})
    assert record.table_name == "tried"
    assert before <= record.created_at <= datetime.now(UTC)
    there = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    elsewhere = kind.model_validate({"run_uid": "a", "tried": 1, "created_at": there})
    assert elsewhere.created_at.isoformat() == "2026-01-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"run_uid": "a", "tried": 1, "extra": 2}, "extra"),
        ({"tried": 1}, "run_uid"),
        ({"run_uid": "", "tried": 1}, "run_uid"),
        ({"run_uid": "a"}, "tried"),
        ({"run_uid": "a", "tried": 1, "created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001
        (
            {"run_uid": "a", "tried": 1, "created_at": datetime.min.replace(tzinfo=timezone(timedelta(1 / 2)))},
            "created",
        ),
    ],
    ids=str,
)
def test_a_record_is_checked_when_it_is_made(values: dict[str, object], field: str) -> None:
    """A misspelt field would be lost, a time without a zone is no moment."""
    with pytest.raises(ValidationError, match=field):
        record_with(int).model_validate(values)


def test_what_is_no_field_is_no_column() -> None:
    """Constants of a class may be anything."""

    class WithConstant(BaseRecord, table_name="constants"):
        names: ClassVar[list[str]] = ["a"]
        value: int

    assert list(WithConstant(run_uid="a", value=1).model_dump(mode="python")) == ["run_uid", "created_at", "value"]


def test_the_table_runs_has_the_fields_of_the_spec() -> None:
    """One row a run and entity, and who ran it where."""
    assert list(RunRecord.model_fields) == [
        "run_uid", "created_at", "capability_id", "capability_table", "entity_type", "entity_id", "user_id",
        "workspace_id", "job_id", "backend", "submitted_at", "completed_at", "environment", "executor", "cluster_id",
        "request_id", "run_event_id",
    ]  # fmt: skip
