"""Every common type with its edge values, through every tier, Parquet and DuckDB, against what Postgres prints."""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import MultidimensionalArray
from analytics_pipeline.sync.postgres import types
from analytics_pipeline.sync.postgres.describe import describe
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline.sync.postgres.types import rule_for
from analytics_pipeline_tests.sync.postgres_reading import execute, read, rules_of
from analytics_pipeline_tests.sync.scenario import asked_of

TEXTS = (
    *("", "NULL", "1", "007", "\\N", "\\", "'", "a,b", 'say "hi"', "two\nlines\r\n", "\t", " padded ", "é", "e\u0301"),
    *("😀", "\u202eright to left", "\U0001d518\U0001d52b\U0001d526", "\x01", "x" * 100_000),
)
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'sehr glücklich')",
    "CREATE DOMAIN price AS numeric(8,3) CHECK (VALUE IS NULL OR VALUE > -1000)",
    "CREATE DOMAIN rebate AS price",
    "CREATE DOMAIN labels AS text[]",
    "CREATE TYPE pair AS (a numeric, b text)",
)


@dataclass(frozen=True)
class Case:
    """Values of one type.

    Args:
        printed: what Postgres is asked to print of {v}.
        stored: what DuckDB is asked to print of {v} in the Parquet file.
        becomes: literals that a documented rule changes, and into what.
        finish: makes the two prints comparable.
    """

    sql: str
    arrow: pa.DataType
    values: tuple[str, ...]
    printed: str = "{v}::text"
    stored: str = "{v}::text"
    becomes: dict[str, object] = field(default_factory=dict)
    finish: Callable[[object], object] = lambda value: value


def bc_last(value: object) -> object:
    """DuckDB prints 0044-03-15 (BC) 00:00:00 where Postgres prints 0044-03-15 00:00:00 BC."""
    if isinstance(value, list):
        return [bc_last(each) for each in value]
    return re.sub(r"^(\S+) \(BC\)(.*)$", r"\1\2 BC", value) if isinstance(value, str) else value


def bits(value: object) -> object:
    """A float as its eight bytes: 0.0 and -0.0 differ, a NaN equals itself."""
    if isinstance(value, list):
        return [bits(each) for each in value]
    return struct.pack(">d", value).hex() if isinstance(value, float) else value


def leading_zero(value: object) -> object:
    """DuckDB prints .5 where Postgres prints 0.5."""
    return re.sub(r"^(-?)\.", r"\g<1>0.", value) if isinstance(value, str) else value


def text(sql: str, *values: str, printed: str = "{v}::text") -> Case:
    return Case(sql, pa.string(), values, printed)


def listed(sql: str, arrow: pa.DataType, *values: str, becomes: dict[str, object] | None = None) -> Case:
    return Case(sql, pa.list_(arrow), values, "{v}::text[]", "{v}::VARCHAR[]", becomes or {}, bc_last)


DATES = ("1970-01-01", "0001-01-01", "0044-03-15 BC", "4713-01-01 BC", "10000-01-01", "9999-12-31", "2024-02-29")
TIMES = (*(f"{day} 00:00:00" for day in DATES if not day.endswith("BC")), "0044-03-15 01:02:03.000004 BC")
TIMES = (*TIMES, "1969-12-31 23:59:59.999999", "294247-01-10 04:00:54.775806")
TOO_LATE: dict[str, object] = dict.fromkeys(
    ("infinity", "-infinity", "294247-01-10 04:00:54.775807", "294276-12-31 23:59:59.999999")
)
NO_DATE: dict[str, object] = {"infinity": None, "-infinity": None}
FLOATS = ("NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "-1.5")
INTERVALS = (
    *("1 day", "24:00:00", "-1 mons +3 days -04:05:06.789", "1 year 2 mons", "00:00:00", "-00:00:00.000001"),
    *("100000:00:00", "3 days -00:00:01"),
)

CASES = (
    Case("bool", pa.bool_(), ("true", "false")),
    Case("int2", pa.int16(), ("-32768", "32767")),
    Case("int4", pa.int32(), ("-2147483648", "2147483647")),
    Case("int8", pa.int64(), ("-9223372036854775808", "9223372036854775807")),
    Case("oid", pa.int64(), ("0", "4294967295")),
    Case("float4", pa.float32(), (*FLOATS, "3.4028235e38", "1e-45"), "{v}::float8", "{v}::float8", finish=bits),
    Case("float8", pa.float64(), (*FLOATS, "1.7976931348623157e308", "5e-324"), "{v}", "{v}", finish=bits),
    text("text", *TEXTS),
    text("varchar(12)", "", "NULL", "a", "😀😀"),
    text("name", "", "é", "n" * 63),
    text("char(4)", "", "ab", "a b", "😀"),
    text('"char"', "", "x"),
    text("uuid", "00000000-0000-0000-0000-000000000000", "c9bf9e57-1685-4c89-bafb-ff5af830be8a"),
    text("json", '{"a":  1.0, "a": 1.00}', "null", '"\\u00e9"', "[]"),
    text("jsonb", "1.0", "1.00", "null", '{"b": 1, "a": [1, {"c": "😀"}]}', '""'),
    Case("bytea", pa.binary(), ("\\x", "\\x00", "\\x00ff5c270a00"), "{v}", "{v}"),
    Case(
        "numeric",
        pa.float64(),
        ("NaN", "Infinity", "-Infinity", "0", "0.1", "12345678.125"),
        "{v}::float8",
        "{v}",
        finish=bits,
    ),
    Case("numeric(10,2)", pa.decimal128(10, 2), ("99999999.99", "-0.01", "0", "1.5", "NaN"), becomes={"NaN": None}),
    Case("numeric(38,0)", pa.decimal128(38, 0), ("9" * 38, "-" + "9" * 38)),
    Case("numeric(38,38)", pa.decimal128(38, 38), ("0." + "9" * 38, "-0." + "0" * 37 + "1"), finish=leading_zero),
    Case("numeric(5,-2)", pa.decimal128(7, 0), ("9999900", "100", "-12345")),
    Case("numeric(3,5)", pa.decimal128(5, 5), ("0.00999", "-0.00001"), finish=leading_zero),
    text("numeric(39,1)", "9" * 38 + ".9", "NaN", "1.0"),
    text("numeric(1000,500)", "9" * 500 + "." + "9" * 500, "0.5"),
    Case("price", pa.decimal128(8, 3), ("1.500", "99999.999")),
    Case("rebate", pa.decimal128(8, 3), ("1.5",)),
    Case(
        "money",
        pa.decimal128(23, 4),
        ("92233720368547758.07", "-92233720368547758.08", "0.01"),
        "{v}::numeric(23,4)::text",
    ),
    Case("date", pa.date32(), (*DATES, "5874897-12-31", *NO_DATE), becomes=NO_DATE, finish=bc_last),
    Case("timestamp", pa.timestamp("us"), (*TIMES, *TOO_LATE), becomes=TOO_LATE, finish=bc_last),
    Case(
        "timestamptz",
        pa.timestamp("us", "UTC"),
        (*TIMES, *TOO_LATE),
        "({v} AT TIME ZONE 'UTC')::text",
        "make_timestamp(epoch_us({v}))::text",
        TOO_LATE,
        bc_last,
    ),
    Case("time", pa.time64("us"), ("00:00:00", "23:59:59.999999", "24:00:00")),
    text("timetz", "24:00:00+15:59", "00:00:00-15:59", "12:00:00.5+00"),
    Case(
        "interval",
        pa.string(),
        INTERVALS,
        "extract(epoch FROM {v})::text",
        "round(epoch({v}::INTERVAL), 6)::DECIMAL(18,6)::text",
    ),
    text("mood", "sad", "sehr glücklich"),
    text("pair", '(1.00,"a, b")', "(,)", "(NaN,😀)", printed="to_json({v})::text"),
    text("inet", "10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"),
    text("cidr", "10.0.0.0/8", "::/0"),
    text("macaddr", "08:00:2b:01:02:03"),
    text("bit(4)", "0101", "0000"),
    text("varbit", "", "0", "101"),
    text("int4range", "[1,5)", "empty", "(,)"),
    text("numrange", "[1.0,2.00]", "(,5)"),
    text("tstzrange", "[2024-01-01 00:00:00+00,infinity)"),
    text("int4multirange", "{}", "{[1,3),[5,7)}"),
    text("tsvector", "'a':1 'b':2"),
    text("point", "(1.5,-0)"),
    text("polygon", "((0,0),(1,1),(1,0))"),
    text("pg_lsn", "0/16B3748"),
    text("int2vector", "1 2"),
    text("xid", "4294967295"),
    listed("int4[]", pa.int32(), "{}", "{NULL}", "{1,NULL,3}", "[5:6]={1,2}"),
    listed("bool[]", pa.bool_(), "{}", "{t,NULL,f}"),
    listed("text[]", pa.string(), "{}", '{"",NULL,"NULL","a,b","q\\"q","😀"}'),
    listed("labels", pa.string(), "{}", "{a}"),
    listed("char(3)[]", pa.string(), '{"a  ",NULL}'),
    listed(
        "numeric(6,2)[]", pa.decimal128(6, 2), "{}", "{1.50,NULL,-0.01}", "{NaN,1}", becomes={"{NaN,1}": [None, "1.00"]}
    ),
    Case("numeric[]", pa.list_(pa.float64()), ("{}", "{1.5,NULL,NaN}"), "{v}::float8[]", "{v}", finish=bits),
    Case("float8[]", pa.list_(pa.float64()), ("{}", "{-0,NULL,NaN,Infinity}"), "{v}", "{v}", finish=bits),
    Case("bytea[]", pa.list_(pa.binary()), ("{}", '{"\\\\x00ff",NULL,""}'), "{v}", "{v}"),
    listed("uuid[]", pa.string(), "{c9bf9e57-1685-4c89-bafb-ff5af830be8a,NULL}"),
    listed("jsonb[]", pa.string(), '{"1.0","1.00",NULL,"null"}'),
    listed("mood[]", pa.string(), '{sad,NULL,"sehr glücklich"}'),
    listed("price[]", pa.decimal128(8, 3), "{1.500,NULL}"),
    listed("inet[]", pa.string(), "{10.0.0.1,::1}"),
    listed("oid[]", pa.int64(), "{4294967295,NULL}"),
    listed("time[]", pa.time64("us"), "{00:00:00,NULL,23:59:59.999999}"),
    listed("int4range[]", pa.string(), '{"[1,5)",empty}'),
    listed(
        "date[]",
        pa.date32(),
        "{}",
        "{infinity,NULL,2024-01-01,0044-03-15 BC}",
        becomes={"{infinity,NULL,2024-01-01,0044-03-15 BC}": [None, None, "2024-01-01", "0044-03-15 BC"]},
    ),
    listed(
        "timestamp[]",
        pa.timestamp("us"),
        "{}",
        '{-infinity,"2024-01-01 00:00:00",NULL}',
        becomes={'{-infinity,"2024-01-01 00:00:00",NULL}': [None, "2024-01-01 00:00:00", None]},
    ),
    Case(
        "pair[]",
        pa.list_(pa.string()),
        ('{"(1.0,x)",NULL}',),
        "ARRAY(SELECT to_json(e)::text FROM (SELECT unnest({v}) AS e) AS u)",
        "{v}",
    ),
)
NAMES = [f"c{number}" for number in range(len(CASES))]
NAMED = list(zip(NAMES, CASES, strict=True))


@dataclass(frozen=True)
class Mirrored:
    url: str
    files: dict[Tier, Path]


@pytest.fixture(scope="module")
def mirrored(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """All cases as columns of one table, read once a tier; row n holds each type's n-th value or NULL."""
    database = f"types_{uuid.uuid4().hex[:8]}"
    execute(postgres_server, f"CREATE DATABASE {database}")
    url = postgres_server.replace("/postgres?", f"/{database}?")
    columns = ", ".join(f"{name} {case.sql}" for name, case in zip(NAMES, CASES, strict=True))
    execute(url, *TYPES, f"CREATE TABLE edge (n int PRIMARY KEY, {columns})")
    height = max(len(case.values) for case in CASES) + 1
    with psycopg.connect(url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for n in range(height):
            row = [n, *(case.values[n] if n < len(case.values) else None for case in CASES)]
            casts = ["%s", *(f"%s::text::{case.sql}" for case in CASES)]
            connection.execute(f"INSERT INTO edge VALUES ({', '.join(casts)})".encode(), row)
    folder = tmp_path_factory.mktemp("types")
    files = {}
    for tier in Tier:
        files[tier] = folder / f"{tier.name}.parquet"
        pq.write_table(read(url, "SELECT * FROM edge", tier, partition_column="n"), files[tier])
    yield Mirrored(url, files)
    execute(postgres_server, f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize(("name", "case"), NAMED, ids=[case.sql for case in CASES])
def test_a_value_is_stored_as_postgres_prints_it(mirrored: Mirrored, name: str, case: Case, tier: Tier) -> None:
    """Otherwise a dashboard shows another value than the source, and nobody is told."""
    with psycopg.connect(mirrored.url) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        sql = f"SELECT {case.printed.replace('{v}', name)}, {name} IS NOT DISTINCT FROM NULL FROM edge ORDER BY n"
        printed = connection.execute(sql.encode()).fetchall()
    with duckdb.connect() as store:
        sql = f"SELECT {case.stored.replace('{v}', name)} FROM '{mirrored.files[tier]}' ORDER BY n"
        stored = [case.finish(value) for (value,) in store.execute(sql).fetchall()]
    expected = [case.finish(value) if not missing else None for value, missing in printed]
    expected = [
        case.becomes.get(case.values[n], value) if n < len(case.values) else None for n, value in enumerate(expected)
    ]
    assert stored == expected
    assert len(stored) > len(case.values), "the last row is NULL in every column"


@pytest.mark.parametrize(("name", "case"), NAMED, ids=[case.sql for case in CASES])
def test_a_column_has_the_documented_type(mirrored: Mirrored, name: str, case: Case) -> None:
    """Otherwise a join or a sum over two datasets fails, or a type changes with the tier that happened to be used."""
    for path in mirrored.files.values():
        found = pq.read_schema(path).field(name).type
        # Parquet renames the field inside a list.
        assert str(found).replace("element:", "item:") == str(case.arrow)


def test_the_tiers_give_equal_data(mirrored: Mirrored) -> None:
    """Otherwise a fallback at night changes values, and every partition looks changed the next morning."""
    tables = [pq.read_table(path).sort_by("n") for path in mirrored.files.values()]
    with duckdb.connect() as store:
        for table in tables[1:]:
            store.register("one", tables[0])
            store.register("other", table)
            differences = store.execute("(FROM one EXCEPT ALL FROM other) UNION ALL (FROM other EXCEPT ALL FROM one)")
            assert differences.fetchall() == []


def test_polars_reads_every_column(mirrored: Mirrored) -> None:
    """Otherwise notebooks cannot open the store."""
    frame = pl.read_parquet(mirrored.files[Tier.STREAM])
    assert frame.columns == ["n", *NAMES]


@pytest.mark.parametrize("tier", Tier)
def test_A1_numerics_stay_decimals_in_every_tier(mirrored: Mirrored, tier: Tier) -> None:  # noqa: N802 - a finding's id
    """Otherwise sums of prices come from text or floats."""
    table = read(mirrored.url, "SELECT n, 12.50::numeric(10,2) AS p FROM edge", tier, partition_column="n")
    assert table.schema.field("p").type == pa.decimal128(10, 2)
    assert {str(value) for value in table["p"].to_pylist()} == {"12.50"}


@pytest.mark.parametrize("tier", Tier)
def test_A2_texts_that_look_like_something_else_stay_texts(  # noqa: N802 - a finding's id
    mirrored: Mirrored, tier: Tier
) -> None:
    """Otherwise '007' becomes 7 and '' becomes NULL, as when CSV types are guessed."""
    column = NAMES[[case.sql for case in CASES].index("text")]
    table = read(mirrored.url, f"SELECT n, {column} AS t FROM edge", tier, partition_column="n").sort_by("n")
    values = table["t"].to_pylist()
    assert values == [*TEXTS, *[None] * (len(values) - len(TEXTS))]


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
@pytest.mark.parametrize(
    "value", ["ARRAY[[1,2],[3,4]]", "ARRAY[ARRAY[now()]]", "ARRAY[ARRAY['a'::text]]", "ARRAY[[1.5]]"]
)
def test_an_array_of_two_dimensions_stops_the_read(postgres_url: str, tier: Tier, value: str) -> None:
    """Otherwise a matrix arrives flattened, and its shape is lost without a word."""
    query = f"""SELECT g, CASE WHEN g = 3 THEN {value} END AS "odd ""name" FROM generate_series(1, 5) AS g"""
    with pytest.raises(MultidimensionalArray, match=r'Column odd "name holds .* json` for its query under `types`'):
        read(postgres_url, query, tier)


def test_infinite_and_huge_numerics_become_what_a_double_holds(postgres_url: str) -> None:
    """Otherwise one value out of range ends every sync of the table."""
    query = "SELECT v::numeric FROM unnest(ARRAY['1e400', '-1e400', '1e-400', 'Infinity', 'NaN']) AS v"
    for tier in (Tier.STREAM, Tier.CURSOR):
        assert [str(value) for value in read(postgres_url, query, tier)["v"].to_pylist()] == [
            "inf",
            "-inf",
            "0.0",
            "inf",
            "nan",
        ]


DIFFERENT = (
    ("numeric", "1.0", "1.00"),
    ("float8", "0", "-0"),
    ("float4", "0", "-0"),
    ("interval", "1 day", "24:00:00"),
    ("interval", "1 mon", "30 days"),
    ("json", '{"a": 1}', '{"a":  1}'),
    ("jsonb", "1.0", "1.00"),
    ("text", "", "NULL"),
    ("text", "é", "e\u0301"),
    ("timetz", "12:00:00+00", "13:00:00+01"),
    ("time", "00:00:00", "24:00:00"),
    ("int4[]", "{}", "{NULL}"),
    ("numeric[]", "{1.0}", "{1.00}"),
    ("numrange", "[1.0,2)", "[1.00,2)"),
    ("timestamp", "infinity", "-infinity"),
    ("numeric(10,2)", "NaN", "0"),
    ("bytea", "\\x00", "\\x"),
    ("money", "0.01", "0.10"),
    ("bit(3)", "001", "000"),
    ("inet", "10.0.0.1/8", "10.0.0.2/8"),
    ("tsvector", "a", "b"),
    ("point", "(0,0)", "(0,-0)"),
    ("bigint", "1", "4294967296"),
    ("bigint", "30064771081", "38654705671"),
    ("timestamp", "2000-01-01 00:00:00.000001", "2000-01-01 01:11:34.967296"),
    ("timestamptz", "2000-01-01 00:00:00.000001+00", "2000-01-01 01:11:34.967296+00"),
    ("time", "00:00:00.000001", "01:11:34.967296"),
    ("numeric", "1.5", "-1.5"),
    ("numeric(10,2)", "1.50", "-1.50"),
    ("float8", "1.5", "-1.5"),
    ("numeric", "NaN", "Infinity"),
    ("numeric", "Infinity", "-Infinity"),
    ("uuid", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"),
)


@pytest.mark.parametrize(
    ("sql", "one", "other"), DIFFERENT, ids=[f"{case[0]} {case[1]} {case[2]}" for case in DIFFERENT]
)
@pytest.mark.parametrize("server", [17, 18])
def test_a_hash_tells_apart_what_equality_does_not(
    postgres_url: str, sql: str, one: str, other: str, server: int
) -> None:
    """Otherwise an update from 1.0 to 1.00 is never mirrored."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        (column,) = describe(connection, f"SELECT NULL::{sql} AS v")
    if server == types._NAMED_HASHES > column.server:
        pytest.skip(f"PostgreSQL {column.server} has none of the hash functions of {server}")
    rule = rule_for(replace(column, server=server))
    hashed = f"coalesce({rule.hashed(1)}, -1)"
    with psycopg.connect(postgres_url) as connection:
        found = [
            connection.execute(f"SELECT {hashed} FROM (SELECT %s::text::{sql} AS v) AS q".encode(), [value]).fetchone()
            for value in (one, one, other, None)
        ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(("name", "case"), NAMED, ids=[case.sql for case in CASES])
def test_every_type_can_be_hashed(mirrored: Mirrored, name: str, case: Case) -> None:
    """Otherwise a dataset with such a column can never be fingerprinted."""
    (rule,) = rules_of(mirrored.url, f"SELECT {name} FROM edge")
    with psycopg.connect(mirrored.url) as connection:
        sql = f"SELECT count(DISTINCT coalesce({rule.hashed(1)}, -1)) FROM edge AS q"
        assert connection.execute(sql.encode()).fetchone() == (len(set(case.values)) + 1,)


@pytest.mark.parametrize("sql", ["text", "varchar", "name", "mood", "jsonb", "text[]"])
def test_texts_are_hashed_byte_by_byte_whatever_their_collation(mirrored: Mirrored, sql: str) -> None:
    """Otherwise a case-insensitive collation hides an update from 'a' to 'A'."""
    (rule,) = rules_of(mirrored.url, f"SELECT NULL::{sql} AS v")
    assert 'COLLATE pg_catalog."C"' in rule.hashed(0)


def test_an_extension_type_is_stored_as_its_text(postgres_url: str) -> None:
    """Otherwise a column of a type that nobody thought of ends the sync of its table."""
    if not asked_of(postgres_url, "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("the extension vector is not installed")
    execute(postgres_url, "CREATE EXTENSION vector")
    for tier in (Tier.STREAM, Tier.CURSOR):
        table = read(postgres_url, "SELECT '[1,2.5]'::vector AS v, ARRAY['[1,2]'::vector, NULL] AS vs", tier)
        assert table.to_pylist() == [{"v": "[1,2.5]", "vs": ["[1,2]", None]}]


@pytest.mark.parametrize("tier", [Tier.STREAM, Tier.CURSOR])
def test_names_that_look_like_placeholders_are_names(postgres_url: str, tier: Tier) -> None:
    """Otherwise a column with braces in its name becomes SQL that nobody wrote."""
    names = ("{v}", "{seed}", "{guard}", "{list}")
    columns = ", ".join(f"ARRAY[DATE '2024-01-01', NULL] AS \"{name}\"" for name in names)
    table = read(postgres_url, f"SELECT {columns}", tier)
    assert table.column_names == list(names)
    assert table.to_pylist() == [{name: [date(2024, 1, 1), None] for name in names}]
