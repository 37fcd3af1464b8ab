"""Queries are shut in: one SELECT over the store, no file, no setting, an end in time and memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.errors import QueryFailed, QueryRefused, QueryTimedOut, ResultTooLarge, StaleReader, TooManyRows
from analytics_pipeline.store import JoinView, Store, create_store, open_store
from analytics_pipeline.store.reader import SqlSession
from analytics_pipeline_tests.store.scenario import DAY0, facts, publish, tree

ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c WHERE a.range + b.range = c.range"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three facts on two days, and a join view."""
    yield from published(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """As above, for tests that change nothing."""
    yield from published(tmp_path_factory.mktemp("shared"))


def published(folder: Path) -> Iterator[Store]:
    store = create_store(folder / "store")
    rows = {"d0": facts(1, 2, label="Grüße, 世界 'quoted'"), "d1": facts(3)}
    publish(store, {"facts": rows, "notes": rows}, views=[JoinView("joined", "facts", "notes", "id", "note", "inner")])
    yield store
    store.close()


WRITES = [
    "COPY (SELECT 1) TO '{store}/tables/facts/evil.parquet'",
    "COPY facts TO '{outside}/evil.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{outside}/evil.csv') SELECT 1",
    "WITH x AS (COPY (SELECT 1) TO '{store}/evil.csv') FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{outside}/evil.csv') SELECT 1)",
    "WITH x AS (INSERT INTO _store_info VALUES (9, now(), '') RETURNING version) FROM x",
    "WITH x AS (UPDATE _store_info SET version = 9 RETURNING version) FROM x",
    "WITH x AS (DELETE FROM _store_info RETURNING version) FROM x",
    "INSERT INTO _store_info VALUES (9, now(), '')",
    "UPDATE _store_info SET version = 9",
    "DELETE FROM _store_info",
    "CREATE TABLE evil (a INT)",
    "CREATE TEMP TABLE evil AS SELECT 1",
    "CREATE MACRO evil() AS 1",
    "DROP VIEW facts",
    "ALTER VIEW facts RENAME TO evil",
    "ATTACH '{outside}/evil.duckdb'",
    "ATTACH ':memory:' AS evil",
    "DETACH store",
    "EXPORT DATABASE '{outside}/evil'",
    "IMPORT DATABASE '{outside}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '900GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SET VARIABLE evil = 1",
    "USE memory",
    "PRAGMA enable_profiling",
    "PRAGMA version",
    "CALL duckdb_settings()",
    "CALL enable_logging()",
    "CHECKPOINT store",
    "VACUUM",
    "BEGIN",
    "PREPARE evil AS SELECT 1",
    "EXECUTE evil",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{outside}/evil.csv'",
    "PIVOT facts ON label USING count(*)",
    "SELECT write_log('evil')",
    "SELECT Write_Log('evil')",
    "SELECT nextval('evil')",
    "SELECT * FROM enable_logging(storage='file', storage_path='{outside}')",
    "SELECT * FROM enable_profiling()",
    "SELECT * FROM checkpoint()",
    "",
    ";",
    "-- nothing",
]
READS = [
    "FROM read_csv('/etc/passwd')",
    "SELECT * FROM Read_CSV_Auto('/etc/passwd')",
    "SELECT content FROM read_text('/etc/passwd')",
    "SELECT content FROM system.main.read_text('/etc/passwd')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "SELECT id FROM facts WHERE EXISTS (FROM read_text('/etc/passwd'))",
    "SELECT id FROM facts ORDER BY (SELECT count(*) FROM read_blob('/etc/passwd'))",
    "SELECT 1 UNION ALL SELECT 2 FROM read_blob('/etc/passwd')",
    "WITH x AS MATERIALIZED (FROM read_text('/etc/passwd')) FROM x",
    "WITH RECURSIVE x(a) AS (SELECT 1 UNION SELECT 2 FROM read_text('/etc/passwd')) FROM x",
    "SELECT * FROM facts, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
    "DESCRIBE FROM read_text('/etc/passwd')",
    "SUMMARIZE FROM read_csv('/etc/passwd')",
    "SELECT * FROM (DESCRIBE FROM read_text('/etc/passwd'))",
    "FROM read_json('{outside}/secret.json')",
    "FROM read_json_objects('{outside}/secret.json')",
    "FROM read_ndjson_auto('{outside}/secret.json')",
    "FROM read_parquet('{file}')",
    "FROM parquet_scan('{file}')",
    "FROM read_blob('{file}')",
    "FROM parquet_metadata('{file}')",
    "FROM parquet_schema('{file}')",
    "FROM parquet_kv_metadata('{file}')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM read_duckdb('{store}/catalog.duckdb')",
    "FROM '/etc/passwd'",
    'FROM "/etc/passwd"',
    "FROM '{file}'",
    "DESCRIBE '{file}'",
    "SUMMARIZE '{file}'",
    "FROM 'secret.csv'",
    "FROM 'secret.json'",
    "FROM 'x.parquet'",
    "DESCRIBE 'secret.csv'",
    "FROM 'https://example.org/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "FROM 'file:secret.csv'",
    "FROM read_csv('https://example.org/x.csv')",
    "FROM glob('/etc/*')",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM query_table('facts')",
    "FROM query_table(['facts'])",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT getenv('HOME')",
    "SELECT current_setting('allowed_paths')",
    "SELECT CURRENT_SETTING('temp_directory')",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM duckdb_databases()",
    "FROM duckdb_logs()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_extensions()",
    "FROM which_secret('x', 's3')",
    "FROM pragma_user_agent()",
    "FROM pragma_storage_info('facts')",
    "FROM seq_scan('facts')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM pandas_scan(1)",
    "FROM python_map_function(1)",
    "FROM a_frame_of_the_caller",
    "FROM test_all_types()",
    "SELECT json_serialize_plan('FROM read_text(''/etc/passwd'')')",
    "FROM pg_settings",
    "DESCRIBE pg_settings",
    "FROM duckdb_logs",
    "FROM pragma_database_list",
    "SELECT list_transform(['HOME'], lambda x: getenv(x))",
    "SELECT 'allowed_paths'.current_setting()",
    "SELECT 1\0; FROM read_text('/etc/passwd')",
    "SELECT '\ud800'",
]


@pytest.mark.parametrize("attack", WRITES + READS)
def test_query_that_is_more_than_a_select_over_the_store_is_refused(
    shared: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    """People and services pass on queries they did not write: one must not reach a file, a setting or the network."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_text('{"secret": 1}')
    (outside / "secret.csv").write_text("secret\n1\n")
    monkeypatch.chdir(outside)
    a_frame_of_the_caller = pl.DataFrame({"secret": [1]})
    shared.query("SELECT 1")
    before = tree(tmp_path), tree(shared.root)
    file = next((shared.layout.tables / "facts").glob("*.parquet"))
    with pytest.raises((QueryRefused, QueryFailed)):
        shared.query(
            attack.replace("{store}", str(shared.root)).replace("{outside}", str(outside)).replace("{file}", str(file))
        )
    assert (tree(tmp_path), tree(shared.root)) == before
    assert not a_frame_of_the_caller.is_empty()


@pytest.mark.parametrize(
    "attack", [sql for sql in WRITES + READS if "{outside}" in sql or "/etc" in sql or "'{" in sql]
)
def test_session_alone_reaches_no_foreign_file(shared: Store, tmp_path: Path, attack: str) -> None:
    """The second fence: what a new DuckDB syntax may hide from the syntax check still meets a sealed session."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_text('{"secret": 1}')
    before = tree(tmp_path), tree(shared.root)
    session = SqlSession(shared.layout, shared.manifest())
    own = next((shared.layout.tables / "facts").glob("*.parquet"))
    sql = attack.replace("{store}", str(shared.root)).replace("{outside}", str(outside)).replace("{file}", str(own))
    try:
        answer = str(session._sql._instance.connection.execute(sql).fetchall())
    except Exception as error:  # noqa: BLE001 — any refusal will do
        answer = str(error)
    session.close()
    assert "root:" not in answer
    assert "secret" not in answer.replace("secret.json", "").replace("secret.csv", "")
    assert (tree(tmp_path), tree(shared.root)) == before


@pytest.mark.parametrize(
    ("sql", "params", "rows"),
    [
        ("SELECT id FROM facts ORDER BY id", None, [(1,), (2,), (3,)]),
        ("FROM facts SELECT count(*)", None, [(3,)]),
        ("SELECT id FROM facts WHERE false", None, []),
        ("SELECT label FROM facts WHERE id = ?", [1], [("Grüße, 世界 'quoted'",)]),
        ("SELECT id FROM facts WHERE label = $label AND id < $most", {"label": "x", "most": 9}, [(3,)]),
        ("SELECT id FROM facts WHERE label LIKE 'Grüße%' ORDER BY ALL;", None, [(1,), (2,)]),
        (
            "SELECT ?::TIMESTAMPTZ, ?::DATE, ?::DECIMAL(9, 2)",
            [DAY0, date(2024, 1, 2), Decimal("1.50")],
            [(DAY0, date(2024, 1, 2), Decimal("1.50"))],
        ),
        ("WITH x AS (SELECT max(id) AS m FROM facts) SELECT m FROM x", None, [(3,)]),
        (
            "WITH RECURSIVE x(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM x WHERE a < 3) FROM x",
            None,
            [(1,), (2,), (3,)],
        ),
        ("SELECT f.id, n.id FROM facts f ASOF JOIN notes n ON f.id >= n.id WHERE f.id = 3", None, [(3, 3)]),
        ("SELECT note_label FROM joined WHERE id = 3", None, [("x",)]),
        ("SELECT unnest([1, 2])", None, [(1,), (2,)]),
        ("SELECT sum(range) FROM range(4)", None, [(6,)]),
        ("SELECT id FROM store.facts WHERE id = 3", None, [(3,)]),
        ("SELECT table_name FROM information_schema.tables WHERE table_name = 'facts'", None, [("facts",)]),
        ("SELECT 'a; b' -- a comment; not a statement", None, [("a; b",)]),
        ("SELECT NULL", None, [(None,)]),
    ],
)
def test_select_answers(store: Store, sql: str, params: object, rows: list[tuple[object, ...]]) -> None:
    """The ordinary dialect must not fall to the fences."""
    assert store.query(sql, params).rows() == rows  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sql", ["DESCRIBE facts", "SUMMARIZE facts", "SHOW TABLES", "DESCRIBE SELECT 1", "FROM (DESCRIBE facts)"]
)
def test_tables_can_be_explored(store: Store, sql: str) -> None:
    """A person at the prompt first asks what there is."""
    assert not store.query(sql).is_empty()


def test_empty_answer_keeps_its_columns(store: Store) -> None:
    """A notebook plots by column name, also on a day without rows."""
    assert store.query("SELECT id, label FROM facts WHERE false").schema == {"id": pl.Int64, "label": pl.String}


def test_columns_of_one_name_are_numbered(store: Store) -> None:
    """`SELECT *` over a join repeats names, which a data frame cannot."""
    assert store.query("SELECT 1 AS x, 2 AS x, 3 AS x_1, 4 AS x").row(0, named=True) == {
        "x": 1, "x_2": 2, "x_1": 3, "x_3": 4}  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    ["SELECT INTERVAL 1 DAY", "SELECT [INTERVAL 1 DAY]", "SELECT {'a': INTERVAL 1 DAY}", "SELECT union_value(a := 1)"],
)
def test_type_without_a_place_in_a_data_frame_is_named(store: Store, sql: str) -> None:
    """Otherwise the caller would meet a panic of the data frame library."""
    with pytest.raises(QueryFailed, match="cast it to VARCHAR"):
        store.query(sql)


@pytest.mark.parametrize(
    "sql", ["SELEC 1", "SELECT nope FROM facts", "SELECT 1/", "SELECT 'a'::INT", "SELECT error('x')", "FROM nope"]
)
def test_failing_query_is_explained_in_duckdbs_words(store: Store, sql: str) -> None:
    """One class to catch, whatever went wrong in it."""
    with pytest.raises(QueryFailed, match="Error"):
        store.query(sql)


@pytest.mark.parametrize("params", [[1], {"a": 1}, [1, 2, 3], {"x": 1, "y": 2}])
def test_wrong_parameters_are_explained(store: Store, params: object) -> None:
    """A service that passes on parameters must not answer with a stack trace."""
    with pytest.raises(QueryFailed):
        store.query("SELECT $x, $z", params)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        "SELECT sleep_ms(3600000)",
        "WITH RECURSIVE x(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM x) SELECT count(*) FROM x",
    ],
)
def test_query_of_an_hour_ends_at_its_limit(store: Store, sql: str) -> None:
    """One forgotten join must not keep a service's processors for itself."""
    with pytest.raises(QueryTimedOut, match=r"after 0\.3 s"):
        store.query(sql, timeout=0.3)
    assert store.query("SELECT 1").item() == 1


def test_limit_that_passes_before_the_query_begins_still_ends_it(store: Store) -> None:
    """DuckDB forgets an interrupt that comes too early: it has to be repeated."""
    with pytest.raises(QueryTimedOut):
        store.query(ENDLESS, timeout=0)


def test_interrupt_never_hits_another_query(store: Store) -> None:
    """Threads of one service share the session: the limit of one request is none of the others."""
    stop = threading.Event()

    def until_stopped(query: Callable[[], None]) -> int:
        runs = 0
        while not stop.is_set():
            query()
            runs += 1
        return runs

    def time_out() -> None:
        with pytest.raises(QueryTimedOut):
            store.query(ENDLESS, timeout=0.02)

    def answer() -> None:
        assert store.query("SELECT count(*) % 3, count(DISTINCT label) FROM facts").row(0) == (0, 2)

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(until_stopped, query) for query in (time_out, answer) for _ in range(4)]
        for number in range(15):
            publish(store, {"facts": {f"d{number + 2}": facts(1, 2, 3, label="Grüße, 世界 'quoted'")}})
        stop.set()
        assert all(future.result() > 0 for future in futures)


def test_query_that_needs_too_much_memory_fails_by_name(tmp_path: Path) -> None:
    """It must fail alone, not take the process with it."""
    store = Store(create_store(tmp_path / "store").layout, memory_limit="100MB")
    with pytest.raises(QueryFailed, match="Out of Memory"):
        store.query("SELECT list(range) FROM range(1000000000)")
    store.close()


def test_answer_that_would_fill_the_memory_is_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's memory limit does not count the rows that leave it."""
    monkeypatch.setattr("analytics_pipeline.store.sandbox.MAX_RESULT_BYTES", 50_000_000)
    with pytest.raises(ResultTooLarge, match="48 MiB"):
        store.query("SELECT * FROM range(100000000000)")


def test_reader_of_a_swept_version_is_told_to_reopen(tmp_path: Path) -> None:
    """A query that outlives the grace period must say so, not report a missing file."""
    store = create_store(tmp_path / "store")
    publish(store, {"facts": {"d0": facts(1)}})
    session = SqlSession(store.layout, store.manifest())
    publish(store, {"facts": {"d0": facts(2)}})
    assert session.query("SELECT id FROM facts", None, 9).rows() == [(1,)]
    open_store(store.root, grace=timedelta(0)).sweep()
    with pytest.raises(StaleReader, match="Reopen"):
        session.query("SELECT id FROM facts", None, 9)
    session.close()
    assert store.query("SELECT id FROM facts").rows() == [(2,)]


def test_query_that_runs_during_commits_finishes_on_its_own_version(store: Store) -> None:
    """Long reports must not break because a sync ends meanwhile."""
    answers: list[pl.DataFrame] = []
    running = threading.Event()

    def report() -> None:
        with store._newest_session() as session:
            running.set()
            rows = session.query("SELECT count(*), count(sleep_ms(300)) FROM facts", None, 60)
            answers.append(rows)

    thread = threading.Thread(target=report)
    thread.start()
    assert running.wait(60)
    for _ in range(3):
        publish(store, {"facts": {"d0": facts(1), "d1": []}})
        assert store.query("SELECT count(*) FROM facts").item() == 1
        store.sweep()
    thread.join()
    assert answers[0].row(0)[0] == 3


def test_types_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Each Arrow type that a source may give keeps its values through Parquet, the view and the data frame."""
    moment = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    values: dict[str, tuple[pa.DataType, object]] = {
        "b": (pa.bool_(), True), "i8": (pa.int8(), -1), "i16": (pa.int16(), -2), "i32": (pa.int32(), -3),
        "i64": (pa.int64(), 2**62), "u8": (pa.uint8(), 255), "u16": (pa.uint16(), 2**16 - 1),
        "u32": (pa.uint32(), 2**32 - 1), "u64": (pa.uint64(), 2**64 - 1), "f32": (pa.float32(), 0.5),
        "f64": (pa.float64(), float("inf")), "s": (pa.string(), "ä\x00b"), "ls": (pa.large_string(), ""),
        "sv": (pa.string_view(), "view"), "y": (pa.binary(), b"\x00\xff"), "d": (pa.date32(), date(1, 1, 1)),
        "t": (pa.time64("us"), moment.time()), "ts": (pa.timestamp("us"), moment.replace(tzinfo=None)),
        "tz": (pa.timestamp("us", "Europe/Berlin"), moment), "dec": (pa.decimal128(38, 5), Decimal("-1.00001")),
        "l": (pa.list_(pa.string()), ["a", None]), "ll": (pa.large_list(pa.list_(pa.int64())), [[1], []]),
    }  # fmt: skip
    schema = pa.schema([(name, type_) for name, (type_, _) in values.items()])
    row = {name: value for name, (_, value) in values.items()}
    store = create_store(tmp_path / "store")
    publish(store, {"kinds": {"p": [row, dict.fromkeys(row)]}}, schema=schema)
    assert store.query("SELECT * FROM kinds").rows(named=True) == [row, dict.fromkeys(row)]
    described = dict(store.query("SELECT column_name, column_type FROM (DESCRIBE kinds)").rows())
    assert described == {column.name: column.type for column in store.manifest().tables["kinds"].columns}
    store.close()


@pytest.mark.parametrize(
    "sql", ["DELETE FROM facts", "SELECT nope", "SELECT * FROM read_csv('/etc/passwd')", "SELECT ("]
)
def test_a_query_that_cannot_be_answered_is_a_value_error(shared: Store, sql: str) -> None:
    """Whoever comes from checkmaite catches that."""
    with pytest.raises(ValueError, match=r".") as failed:
        shared.query(sql)
    assert isinstance(failed.value, QueryFailed | QueryRefused)


@pytest.mark.parametrize("error", [QueryTimedOut, ResultTooLarge, TooManyRows])
def test_a_query_beyond_a_limit_is_a_value_error(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)


FORKED = """
import os, sys, tempfile, pathlib
from analytics_pipeline.store import open_store
store = open_store(pathlib.Path(sys.argv[1]))
store.query("SELECT 1")
if os.fork() == 0:
    sys.exit()
os.wait()
print(len(list(pathlib.Path(tempfile.gettempdir()).glob(f"analytics-query-{os.getpid()}-*"))))
"""


def test_a_fork_that_ends_leaves_the_folder_of_its_parent(store: Store) -> None:
    """What a query spilled is in there."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(store.root)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "1\n"
