"""The source of the model test: two tables that people write to, change and empty, and what a query gives of them.

Belongs here: kinds of incremental columns, the tables' columns, SQL of changes, rows in a form that both sides share.
Does not: the store, or what is done to it (`refresh_model`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg

from analytics_pipeline.sync.spec import Half, SplitSyncSpec

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TABLES = {Half.DATASET: "records", Half.RESULTS: "scores"}
TYPES: Mapping[str, str] = {
    "int": "9",
    "bigint": "5000000000",
    "numeric(8,2)": "1.50",
    "varchar(9)": "'x'",
    "text": "''",
}
"""Types of columns that come and go, with a value of each."""

WIDER = {"int": "bigint", "varchar(9)": "text", "numeric(8,2)": "numeric(12,4)", "bigint": "numeric(24,2)"}

Row = tuple[tuple[str, Any], ...]
"""Names and values of a row, sorted, without its NULLs: a column that is gone is as one without values."""

Rows = Sequence[Row]


class Geometry(NamedTuple):
    """Grain, start and zone of a spec."""

    grain: str
    start: str
    timezone: str | None = None

    def as_settings(self) -> Mapping[str, str | None]:
        """As a spec spells it."""
        return {"partitions": self.grain, "start": self.start, "timezone": self.timezone}


@dataclass(frozen=True)
class Variant:
    """One kind of incremental column, under the geometries that a spec may give it."""

    sql_type: str
    now: datetime
    geometries: Sequence[Geometry]
    epoch: str | None = None

    @property
    def is_local(self) -> bool:
        return self.sql_type in {"date", "timestamp"}

    @property
    def unit(self) -> int:
        """Microseconds in one of an integer column."""
        return {"s": 1_000_000, "ms": 1_000, "us": 1}[self.epoch or "us"]

    def literal(self, local: datetime | str | None, zone: str) -> str:
        """A moment in a zone as a value of the column."""
        if local is None:
            return f"NULL::{self.sql_type}"
        if isinstance(local, str):
            return "NULL::bigint" if self.epoch else f"'{local}'::{self.sql_type}"
        if self.is_local:
            return f"timestamp '{local}'::{self.sql_type}"
        moment = f"timestamp '{local}' AT TIME ZONE '{zone}'"
        if self.epoch is None:
            return moment
        return f"floor(extract(epoch FROM {moment}) * {1_000_000 // self.unit})::{self.sql_type}"

    def microseconds(self, column: str) -> str:
        """SQL for the column as microseconds since 1970; the store has NULL for infinities."""
        if self.epoch:
            return f"{column}::bigint * {self.unit}"
        return f"CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint END"


VARIANTS = (
    Variant(
        "timestamptz",
        datetime(2024, 1, 10, 3, 30, tzinfo=UTC),
        [Geometry("hourly", "2024-01-09"), Geometry("daily", "2024-01-01")],
    ),
    Variant(
        "bigint",
        datetime(2024, 1, 10, 3, tzinfo=UTC),
        [Geometry("hourly", "2024-01-09"), Geometry("weekly", "2024-01-01", "Asia/Tokyo")],
        "us",
    ),
    Variant(
        "timestamptz",
        datetime(2024, 4, 2, 12, tzinfo=UTC),
        [
            Geometry("daily", "2024-03-28", "Europe/Berlin"),
            Geometry("daily", "2024-03-30", "America/New_York"),
            Geometry("monthly", "2024-02-01"),
        ],
    ),
    Variant(
        "timestamp",
        datetime(2024, 11, 5, 12, tzinfo=UTC),
        [Geometry("daily", "2024-11-01", "America/New_York"), Geometry("hourly", "2024-11-04", "UTC")],
    ),
    Variant(
        "date",
        datetime(2024, 3, 3, tzinfo=UTC),
        [Geometry("daily", "2024-02-27"), Geometry("daily", "2024-02-20"), Geometry("weekly", "2024-02-19")],
    ),
    Variant(
        "bigint",
        datetime(2024, 1, 3, tzinfo=UTC),
        [Geometry("daily", "2023-12-30"), Geometry("monthly", "2023-12-01", "Asia/Kolkata")],
        "ms",
    ),
    Variant(
        "timestamptz",
        datetime(2024, 4, 9, tzinfo=UTC),
        [Geometry("weekly", "2024-03-18", "Asia/Kolkata"), Geometry("daily", "2024-03-30", "Asia/Kolkata")],
    ),
    Variant(
        "integer",
        datetime(2024, 1, 30, tzinfo=UTC),
        [Geometry("weekly", "2024-01-01", "America/Havana"), Geometry("weekly", "2024-01-08")],
        "s",
    ),
    Variant(
        "timestamp",
        datetime(2024, 4, 1, tzinfo=UTC),
        [Geometry("monthly", "2023-12-01", "UTC"), Geometry("weekly", "2024-03-04", "UTC")],
    ),
    Variant(
        "timestamptz",
        datetime(2024, 4, 1, tzinfo=UTC),
        [Geometry("monthly", "2023-12-01", "Pacific/Apia"), Geometry("daily", "2024-03-25", "Pacific/Apia")],
    ),
)


@dataclass
class Column:
    """A column of a table, and its name in the query's answer."""

    name: str
    shown: str
    type: str

    @property
    def is_text(self) -> bool:
        return self.type.startswith(("text", "varchar"))


@dataclass
class Source:
    """Both tables as they are now, with the queries that read them.

    Args:
        url: of an empty database.
        variant: kind of the incremental column, which is `happened`.
        star: the queries say `*`; else they list columns, which changes them with the tables.
    """

    url: str
    variant: Variant
    star: bool
    where: dict[Half, str] = field(default_factory=lambda: dict.fromkeys(Half, ""))

    def __post_init__(self) -> None:
        note = "note" if self.star else "label"
        values = {Half.DATASET: Column("note", note, "text"), Half.RESULTS: Column("score", "score", "float8")}
        self.columns = {
            half: [Column("id", "id", "int"), Column("happened", "happened", self.variant.sql_type), values[half]]
            for half in Half
        }
        self.connection = psycopg.connect(self.url, autocommit=True)
        self.run("DROP TABLE IF EXISTS records, scores")
        for half in Half:
            columns = ", ".join(f"{column.name} {column.type}" for column in self.columns[half])
            self.run(f"CREATE TABLE {TABLES[half]} ({columns})")
        self.run("INSERT INTO records SELECT g, NULL, '' FROM generate_series(-3, 0) AS g")

    def run(self, statement: str) -> None:
        self.connection.execute(statement.encode())

    def value(self, half: Half) -> Column:
        """The column that is neither key nor time."""
        return self.columns[half][2]

    def query(self, half: Half) -> str:
        listed = ", ".join(f"{column.name} AS {column.shown}" for column in self.columns[half])
        return f"SELECT {'*' if self.star else listed} FROM {TABLES[half]}{self.where[half]}"

    def rows(self, half: Half, spec: SplitSyncSpec, connection: psycopg.Connection | None = None) -> Rows:
        """What the half's query gives now, under the names of the store."""
        columns = self.columns[half]
        listed = [
            self.variant.microseconds(column.name) if column.name == "happened" else column.name for column in columns
        ]
        query = f"SELECT {', '.join(listed)} FROM {TABLES[half]}{self.where[half]}"
        names = [store_name(column, spec) for column in columns]
        found = (connection or self.connection).execute(query.encode()).fetchall()
        return rows_of(dict(zip(names, values, strict=True)) for values in found)

    def add(self, half: Half, name: str, type_: str, *, filled: bool) -> None:
        default = f" DEFAULT {TYPES[type_]}" if filled else ""
        self.run(f"ALTER TABLE {TABLES[half]} ADD COLUMN {name} {type_}{default}")
        self.columns[half].append(Column(name, name, type_))

    def drop(self, half: Half, column: Column) -> None:
        self.run(f"ALTER TABLE {TABLES[half]} DROP COLUMN {column.name}")
        self.columns[half].remove(column)

    def retype(self, half: Half, column: Column, type_: str) -> None:
        self.run(f"ALTER TABLE {TABLES[half]} ALTER {column.name} DROP DEFAULT, ALTER {column.name} TYPE {type_}")
        column.type = type_

    def rename(self, half: Half, shown: str) -> None:
        """The value goes by another name: in the table itself where the query says `*`."""
        column = self.value(half)
        if self.star and shown != column.name:
            self.run(f"ALTER TABLE {TABLES[half]} RENAME COLUMN {column.name} TO {shown}")
            column.name = shown
        column.shown = shown


def store_name(column: Column, spec: SplitSyncSpec) -> str:
    """Under which name a column is published."""
    return spec.columns.get(column.shown) or {"id": "dataset_id"}.get(column.shown, column.shown)


def rows_of(found: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows in a form that can be compared: sorted, without NULLs, numbers and moments alike from both sides."""
    return sorted(
        (tuple(sorted((name, _plain(value)) for name, value in row.items() if value is not None)) for row in found),
        key=repr,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _plain(microseconds(value))
    if isinstance(value, date):
        return _plain((value - EPOCH.date()) // MICROSECOND)
    return Decimal(value).normalize() if isinstance(value, (int, Decimal)) else value


def microseconds(moment: datetime) -> int:
    """Since 1970, of an aware moment, or of a local one as if it were in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND
