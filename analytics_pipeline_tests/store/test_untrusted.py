"""Untrusted queries run in processes of their own: each ends at its limit, and nothing of it reaches this process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from analytics_pipeline.capabilities.backends.duckdb import DuckDBBackend
from analytics_pipeline.capabilities.backends.protocol import query_within
from analytics_pipeline.errors import (
    QueryCrashed,
    QueryFailed,
    QueryOutOfMemory,
    QueryRefused,
    QueryTimedOut,
    ResultTooLarge,
    TooManyRows,
)
from analytics_pipeline.store import Store, create_store, untrusted
from analytics_pipeline.store.__main__ import main
from analytics_pipeline_tests.store.scenario import facts, publish
from analytics_pipeline_tests.thinning import thinned

LIMIT = 0.3
GRACE = 5.0
"""Seconds for a busy machine; without a process to kill, most of the bombs take minutes."""
GROWTH = 200 << 20

LONG = "repeat('ab', 200000)"
BOMBS = [
    "SELECT length(repeat('x', 4000000000))",
    "SELECT length(repeat(repeat('x', 100000), 100000))",
    "SELECT length(lpad('x', 2000000000, 'y'))",
    "SELECT length(rpad('x', 2000000000, 'yz'))",
    "SELECT length(printf('%2000000000d', 1))",
    "SELECT length(format('{:>2000000000}', 1))",
    "SELECT length(bar(1, 0, 1, 1000000000))",
    f"SELECT levenshtein({LONG}, reverse({LONG}))",
    f"SELECT damerau_levenshtein({LONG}, reverse({LONG}))",
    f"SELECT jaro_similarity({LONG}, reverse({LONG}) || 'c') FROM range(100000)",
    "SELECT regexp_matches(repeat('a', 10000000), '(a|a)*(a|aa)*b') FROM range(1000)",
    "SELECT length(regexp_replace(repeat('a', 20000000), 'a', repeat('b', 1000), 'g'))",
    "SELECT len(regexp_extract_all(repeat('a', 300000000), 'a'))",
    "SELECT len(string_split(repeat('a,', 500000000), ','))",
    "SELECT length(replace(repeat('a', 100000000), 'a', repeat('b', 1000)))",
    "SELECT length(translate(repeat('a', 2000000000), 'a', 'b'))",
    "SELECT len(range(10000000000))",
    "SELECT len(generate_series(1, 10000000000))",
    "SELECT list_sum(list_transform(range(100000), lambda x: list_sum(range(x * 1000))))",
    "SELECT list_reduce(range(300000000), lambda a, b: a + b)",
    "SELECT list_aggregate(list_transform(range(100000000), lambda x: x::VARCHAR), 'string_agg', repeat(',', 1000))",
    "SELECT len(list_sort(list_transform(range(200000000), lambda x: hash(x))))",
    "SELECT len(list_distinct(range(500000000)))",
    "SELECT len(flatten(list_transform(range(100000), lambda x: range(100000))))",
    "SELECT len(list_resize([1], 2000000000, 1))",
    "SELECT len(list(range)) FROM range(100000000000)",
    "SELECT length(string_agg(repeat('x', 1000), ',')) FROM range(100000000)",
    "SELECT histogram(range) FROM range(10000000000)",
    "SELECT map_from_entries(list((range, range))) FROM range(1000000000)",
    "SELECT json_array_length(json_group_array(repeat('x', 10000))) FROM range(10000000)",
    "SELECT json_valid(repeat('[', 1000000000))",
    "SELECT length(json_pretty(repeat('[', 1000) || repeat('[],', 100000000) || '1' || repeat(']', 1000)))",
    "SELECT pow(2::HUGEINT, 100)::VARCHAR, factorial(range % 33) FROM range(1000000000000) ORDER BY 2",
    "SELECT count(DISTINCT md5(repeat('x', 100000) || range)) FROM range(1000000000)",
    "SELECT count(*) FROM range(100000000) a JOIN range(100000000) b ON a.range % 10 = b.range % 10",
    "SELECT a.range, b.range FROM range(1000000000) a, range(1000000000) b ORDER BY hash(a.range + b.range)",
    "WITH RECURSIVE x(a) AS (SELECT 'x' UNION ALL SELECT a || a FROM x) SELECT count(*) FROM x",
    "WITH RECURSIVE x(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM x) SELECT count(*) FROM x",
    "SELECT quantile_cont(range, 0.5) FROM range(100000000000)",
    "SELECT sleep_ms(3600000)",
    "SELECT * FROM range(100000000000)",
    "SELECT repeat('x', 10000000) FROM range(10000000)",
    "SELECT " + "(" * 50_000 + "1" + ")" * 50_000,
    "SELECT " + "-" + "- " * 30_000 + "1",
    "SELECT " + "+".join(["1"] * 100_000),
    "SELECT " + "[" * 20_000 + "]" * 20_000,
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = create_store(tmp_path_factory.mktemp("untrusted") / "store")
    publish(store, {"facts": {"d0": facts(1, 2), "d1": facts(3)}})
    store.query("SELECT 1", untrusted=True)
    yield store
    store.close()


def own_memory() -> int:
    """Of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("bomb", thinned(BOMBS, 3))
def test_a_bomb_ends_at_its_limit_and_takes_nothing_of_this_process(store: Store, bomb: str) -> None:
    """DuckDB's own limits let most of these run on for minutes, up to gigabytes."""
    store.query("SELECT 1", untrusted=True)  # the next process has started
    before, began = own_memory(), time.monotonic()

    try:
        rows = store.query(bomb, timeout=LIMIT, untrusted=True)
    except (QueryFailed, QueryTimedOut, ResultTooLarge, QueryRefused):
        pass
    else:
        pytest.fail(f"it is no bomb: {str(rows)[:200]}")

    assert time.monotonic() - began < LIMIT + GRACE
    assert own_memory() - before < GROWTH
    assert store.query("SELECT count(*) FROM facts", untrusted=True).item() == 3


def test_a_query_that_cannot_be_interrupted_is_killed(store: Store) -> None:
    with pytest.raises(QueryTimedOut, match=r"after 0\.3 s"):
        store.query("SELECT length(lpad('x', 2000000000, 'y'))", timeout=LIMIT, untrusted=True)


def test_too_much_memory_is_named(store: Store) -> None:
    """It is held by the process's limit, which counts what DuckDB's own does not."""
    with pytest.raises(QueryOutOfMemory, match="1,024 MiB"):
        store.query("SELECT length(repeat('x', 4000000000))", untrusted=True)


def test_too_large_a_result_is_named(store: Store) -> None:
    with pytest.raises(ResultTooLarge, match="64 MiB"):
        store.query("SELECT * FROM range(100000000)", untrusted=True)


def test_a_process_that_ends_is_named(store: Store) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            store.query("SELECT sleep_ms(60000)", untrusted=True)
        except QueryFailed as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    child = running_child()
    os.kill(child._process.pid, signal.SIGKILL)
    thread.join()

    assert isinstance(failures[0], QueryCrashed)
    assert "signal 9" in str(failures[0])


def running_child() -> untrusted._Child:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in untrusted._pool._busy.copy():
            if child.sandbox is not None:
                return child
        time.sleep(0.01)
    raise AssertionError("no query runs")


@pytest.mark.parametrize(
    ("sql", "params", "rows"),
    [
        ("SELECT id FROM facts ORDER BY id", None, [(1,), (2,), (3,)]),
        ("SELECT id, label FROM facts WHERE false", None, []),
        (
            "SELECT ?::TIMESTAMPTZ, ?::DECIMAL(9, 2), ?",
            [datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.50"), b"\0"],
            None,
        ),
        ("SELECT $x || '世界'", {"x": "Grüße, "}, [("Grüße, 世界",)]),
        ("SELECT 1 AS x, 2 AS x", None, [(1, 2)]),
        ("SELECT {'a': [1, NULL]}, MAP {'k': 1}, uuid() IS NOT NULL", None, None),
    ],
)
def test_rows_are_those_of_a_query_in_this_process(store: Store, sql: str, params: object, rows: object) -> None:
    found = store.query(sql, params, untrusted=True)  # type: ignore[arg-type]

    assert found.equals(store.query(sql, params))  # type: ignore[arg-type]
    if rows is not None:
        assert found.rows() == rows


@pytest.mark.parametrize(
    "sql", ["SELECT nope FROM facts", "FROM read_text('/etc/passwd')", "DROP VIEW facts", "SELEC 1"]
)
def test_failures_are_those_of_a_query_in_this_process(store: Store, sql: str) -> None:
    messages = []
    for is_untrusted in (False, True):
        with pytest.raises((QueryFailed, QueryRefused)) as caught:
            store.query(sql, untrusted=is_untrusted)
        messages.append((type(caught.value), str(caught.value)))

    assert messages[0] == messages[1]


def test_limits_of_rows_and_parameters_that_cannot_be_sent(store: Store) -> None:
    with store._newest_session() as session, pytest.raises(TooManyRows, match="more than 2 rows"):
        session._sql.query("SELECT id FROM facts", max_rows=2, untrusted=True)
    with pytest.raises(QueryFailed, match="cannot be sent"):
        store.query("SELECT ?", [lambda: 1], untrusted=True)  # type: ignore[list-item]
    with pytest.raises(QueryRefused, match="a timeout of"):
        store.query("SELECT 1", timeout=-1, untrusted=True)


def test_one_process_runs_one_query_after_the_other(store: Store) -> None:
    """Starting one for each query would cost a second."""
    store.query("SELECT 1", untrusted=True)
    before = {child._process.pid for child in untrusted._pool._idle}

    for _ in range(5):
        store.query("SELECT count(*) FROM facts", untrusted=True)

    assert {child._process.pid for child in untrusted._pool._idle} == before


def test_a_query_sees_one_published_version(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store")
    for number in range(1, 4):
        publish(store, {"facts": {"d0": facts(*range(number))}})
        assert store.query("SELECT count(*) FROM facts", untrusted=True).item() == number
    with store.reading() as reading:
        publish(store, {"facts": {"d0": facts(9)}})
        assert reading.query("SELECT count(*) FROM facts", untrusted=True).item() == 3
    assert store.query("SELECT id FROM facts", untrusted=True).item() == 9
    store.close()


def test_at_most_a_few_run_at_once_and_waiting_counts_as_time(store: Store) -> None:
    def ask(_number: int) -> type[BaseException] | None:
        try:
            store.query("SELECT sleep_ms(60000)", timeout=0.5, untrusted=True)
        except QueryTimedOut as error:
            return type(error)
        return None

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [QueryTimedOut] * 8
    assert len(untrusted._pool._idle) <= 2
    assert not untrusted._pool._busy


def test_a_process_has_no_environment_nor_files_of_this_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_DB_URL", "postgresql://bob:hunter2@db")
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)  # noqa: FBT003
    untrusted._pool.end()
    store.query("SELECT 1", untrusted=True)
    child = untrusted._pool._idle[0]._process.pid

    assert b"hunter2" not in Path(f"/proc/{child}/environ").read_bytes()
    targets = [str(link.readlink()) for link in Path(f"/proc/{child}/fd").iterdir()]
    os.close(secret)
    opened = [
        target for target in targets if not target.startswith(("pipe:", str(store.root), "/dev/null", "anon_inode"))
    ]
    assert opened == []


def test_processes_end_with_their_parent(store: Store) -> None:
    code = f"""
import os, signal
from pathlib import Path
from analytics_pipeline.store import open_store, untrusted
store = open_store(Path({str(store.root)!r}))
store.query("SELECT 1", untrusted=True)
print(untrusted._pool._idle[0]._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    child = int(done.stdout)

    until = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_fork_has_processes_of_its_own(store: Store) -> None:
    """Otherwise the answers of two processes would mix in one pipe."""
    store.query("SELECT 1", untrusted=True)
    before = {child._process.pid for child in untrusted._pool._idle}
    code = """
import os, sys
from pathlib import Path
from analytics_pipeline.store import untrusted
untrusted.prestart()
mine = untrusted._pool._idle[0]
child = os.fork()
if child == 0:
    os._exit(len(untrusted._pool._idle) or (mine._lifeline != -1))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or mine._process.poll() is not None)
"""
    assert before
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_own_database_is_not_held_by_the_process(tmp_path: Path) -> None:
    """A reader's lock would keep writers of other processes out."""
    import duckdb  # noqa: PLC0415

    path = tmp_path / "own.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE things AS SELECT 1 AS x")
    backend = DuckDBBackend(path)

    assert backend.query_sql("SELECT x FROM things", untrusted=True).item() == 1
    with duckdb.connect(path) as connection:
        connection.execute("INSERT INTO things VALUES (2)")
    assert backend.query_sql("SELECT sum(x) FROM things", untrusted=True).item() == 3


def test_a_backend_without_such_a_process_refuses_untrusted_queries() -> None:
    """It must not run them in this one without a word."""

    class Custom:
        def query_sql(self, _sql: str) -> None:
            raise AssertionError

    with pytest.raises(QueryRefused, match="untrusted"):
        query_within(Custom(), "SELECT 1", {"untrusted": True})  # type: ignore[arg-type]


def test_the_prompt_runs_untrusted_queries(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(store.root.parent))

    assert main(["sql", "--untrusted", "--timeout", "0.3", "-c", "SELECT length(lpad('x', 2000000000, 'y'))"]) == 1
    assert "after 0.3 s" in capsys.readouterr().err
    assert main(["sql", "--untrusted", "-c", "SELECT count(*) FROM facts"]) == 0
