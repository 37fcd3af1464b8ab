"""The DuckDB file: what else may be in it or done to it, and who may only read it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, DuckDBBackend
from analytics_pipeline.errors import (
    AnalyticsError,
    AppendFailed,
    DatabaseHeld,
    DatabaseUnreadable,
    RunNotFound,
)
from analytics_pipeline_tests.capabilities.nobody import as_nobody
from analytics_pipeline_tests.capabilities.scenario import example, run, uids
from analytics_pipeline_tests.capabilities.strangers import Stranger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one run."""
    path = tmp_path / "capabilities.duckdb"
    AnalyticsStore(DuckDBBackend(path)).write([run("a")])
    return path


def calls(path: Path) -> list[Callable[[], object]]:
    """All that a user can ask for."""
    store = AnalyticsStore(DuckDBBackend(path))
    return [
        lambda: store.write([run("b")]),
        store.list_tables,
        lambda: store.describe_table("example"),
        lambda: store.get_run_uri("a"),
        lambda: store.query_sql("SELECT 1"),
        lambda: store.backend.scan_table("example"),
    ]


def assert_all_refused(path: Path, error: type[AnalyticsError]) -> None:
    """By name, with the path."""
    for call in calls(path):
        with pytest.raises(error) as refused:
            call()
        assert str(path) in str(refused.value)


def overwritten(path: Path) -> None:
    """Another program's file."""
    path.write_bytes(b"x" * 5000)


def torn(path: Path) -> None:
    """Its first pages, as a copy that was broken off."""
    path.write_bytes(path.read_bytes()[:20_000])


def flipped(path: Path) -> None:
    """A header that a disk has changed."""
    content = bytearray(path.read_bytes())
    content[4096:12288] = os.urandom(8192)
    path.write_bytes(content)


def emptied(path: Path) -> None:
    """Nothing left of it."""
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [overwritten, torn, flipped, emptied])
def test_a_damaged_file_is_named(path: Path, harm: Callable[[Path], None]) -> None:
    """An error of DuckDB's own tells nobody what to do."""
    harm(path)
    assert_all_refused(path, DatabaseUnreadable)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    """A configuration that meant Parquet."""
    assert_all_refused(tmp_path, DatabaseUnreadable)


def test_a_place_in_no_folder_is_named(path: Path) -> None:
    """A path that goes on behind a file."""
    with pytest.raises(AppendFailed, match=r"capabilities\.duckdb/more"):
        DuckDBBackend(path / "more.duckdb").write([example("a")])


HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The file, open in another process for the length of a `with` block."""
    holder = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.stdin.close()


def test_a_file_that_another_program_has_open_is_named_and_goes_on_when_it_is_closed(path: Path) -> None:
    """Somebody looks at it in the DuckDB shell."""
    with held(path):
        assert_all_refused(path, DatabaseHeld)
    AnalyticsStore(DuckDBBackend(path)).write([run("b")])
    assert uids(DuckDBBackend(path)) == ["a", "b"]


def test_a_connection_of_this_process_is_named_by_readers(path: Path) -> None:
    """A notebook that forgot to close it."""
    with duckdb.connect(path), pytest.raises(DatabaseHeld, match=r"capabilities\.duckdb"):
        DuckDBBackend(path).list_tables()


@pytest.mark.parametrize("table", ["fresh_rows", "taken", "given_rows", "identities", "own", "main", "capabilities"])
def test_no_name_of_a_table_gets_in_the_way(path: Path, table: str) -> None:
    """What the backend calls its own things is nobody's business."""
    backend = DuckDBBackend(path)
    for uid in ("a", "b", "a"):
        backend.write([Stranger(table, run_uid=uid, value=1)])
    assert backend.query_sql(f"SELECT run_uid, value FROM {table} ORDER BY 1").rows() == [("a", 1), ("b", 1)]
    assert backend.get_run_uri("b") == str(path)


def test_tables_of_other_programs_are_described_and_in_nobodys_way(path: Path) -> None:
    """An analyst keeps notes in the same file."""
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE a_note AS SELECT {'text': 'x', 'stars': [1]} AS note, INTERVAL 1 DAY AS every")
        connection.execute("CREATE TABLE a_number AS SELECT 7 AS run_uid")
    store = AnalyticsStore(DuckDBBackend(path))
    assert store.describe_table("a_note") == {
        "note": "Struct({'text': String, 'stars': List(Int32)})",
        "every": "INTERVAL",
    }
    assert store.get_run_uri("a") == str(path)
    with pytest.raises(RunNotFound, match="nobody"):
        store.get_run_uri("nobody")


AS_NOBODY = """
import sys
from analytics_pipeline.capabilities import AnalyticsStore, DuckDBBackend
from analytics_pipeline.errors import StoreUnwritable
from analytics_pipeline_tests.capabilities.scenario import run, uids
store = AnalyticsStore(DuckDBBackend(sys.argv[1]))
print(store.list_tables(), uids(store), store.get_run_uri("a") == sys.argv[1])
try:
    store.write([run("x")])
except StoreUnwritable:
    print("refused")
"""


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("lock", ["kept", "unreadable", "gone"])
def test_a_user_who_may_only_read_asks_and_is_told_that_he_cannot_write(path: Path, tmp_path: Path, lock: str) -> None:
    """An analyst on the same machine; also where the lock's file was not copied along."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    path.chmod(0o644)
    lock_file = path.with_name(f".{path.name}.lock")
    lock_file.chmod(0o600 if lock == "unreadable" else 0o644)
    if lock == "gone":
        lock_file.unlink()
    process = as_nobody(AS_NOBODY, path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["['example', 'runs'] ['a'] True", "refused"]
