"""Records: flat, typed rows of a table, checked when their class is defined.

Belongs here: the base class and what a field may be. Does not: the classes of known capabilities (`tables`), or how
records become Parquet (`rows`).
"""

from __future__ import annotations

import re
import types
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from analytics_pipeline.errors import RecordFieldNotScalar, RecordTableRefused
from analytics_pipeline.store.schema import TABLE_NAME

RUNS = "runs"
"""The table that the store itself fills."""

MATERIALIZATIONS = "materializations"
"""The table that tells which runs an asset of Dagster holds."""

RESERVED = (RUNS, MATERIALIZATIONS)
"""Tables that belong to the store; in a write they come before the payload."""

SCALARS = (bool, int, float, str, bytes, datetime)
"""Types of fields, with their subclasses; `bool` before `int`, which it is a subclass of."""

_DAY_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


def in_utc(value: datetime) -> datetime:
    """A moment in UTC.

    Raises:
        ValueError: it has no time zone, so nobody knows which moment it is; or UTC has no such year.
    """
    if value.utcoffset() is None:
        raise ValueError("a timestamp needs a time zone: use datetime.now(UTC), or .replace(tzinfo=…)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it lies before the year 1 or after the year 9999") from None


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a model's values: which field, and why; the values are not repeated."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    reason = problem["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, [".".join(map(str, problem["loc"])), reason]))


Moment = Annotated[datetime, AfterValidator(in_utc)]
"""A point of time with its zone, kept in UTC."""


def _written(value: object) -> object:
    """Pydantic takes numbers, and digits in quotes, for seconds or milliseconds by their size."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DAY_AND_TIME.match(value)):
        return value
    raise ValueError("write a moment as text with its time zone, such as 2026-01-31T12:00:00Z")


WrittenMoment = Annotated[Moment, BeforeValidator(_written)]
"""A moment that somebody wrote down: as a `datetime`, or as text of ISO 8601; never as a number."""


def scalar_of(annotation: object) -> type | None:
    """The one of `SCALARS` that an annotation stands for, `Optional` and `Annotated` taken off, or None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return scalar_of(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        found = {scalar_of(argument) for argument in get_args(annotation) if argument is not type(None)}
        return found.pop() if len(found) == 1 else None
    if isinstance(annotation, type):
        return next((scalar for scalar in SCALARS if issubclass(annotation, scalar)), None)
    return None


class BaseRecord(BaseModel):
    """A row of a table: `class XRecord(BaseRecord, table_name="x")`.

    Args:
        run_uid: of the run that the row belongs to.
        created_at: when the record was made; by default now.

    Raises:
        RecordTableRefused: at the definition of a class that names no table, or one that cannot be.
        RecordFieldNotScalar: at the definition of a class with a field that is no scalar.
    """

    model_config = ConfigDict(extra="forbid")

    table_name: ClassVar[str]

    run_uid: str = Field(min_length=1)
    created_at: Moment = Field(default_factory=lambda: datetime.now(UTC))

    def __init_subclass__(cls, table_name: str = "", **options: Any) -> None:
        """Keep the table's name; pydantic itself sees the other options."""
        super().__init_subclass__(**options)
        if not TABLE_NAME.fullmatch(table_name):
            raise RecordTableRefused(cls.__qualname__, table_name)
        if table_name in RESERVED and not cls.__module__.startswith("analytics_pipeline.capabilities."):
            raise RecordTableRefused(cls.__qualname__, table_name)
        cls.table_name = table_name

    @classmethod
    def __pydantic_init_subclass__(cls, table_name: str = "", **options: Any) -> None:
        """Check the fields, which are known now."""
        super().__pydantic_init_subclass__(**options)
        for name, field in cls.model_fields.items():
            if scalar_of(field.annotation) is None:
                raise RecordFieldNotScalar(cls.__qualname__, name, str(field.annotation))
