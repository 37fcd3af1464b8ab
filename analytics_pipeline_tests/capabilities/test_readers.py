"""The folder is plain Parquet: other tools read it and write to it, people copy it and delete from it."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.errors import AppendedFilesLost, AppendedFileUnreadable, AppendFailed, QueryFailed
from analytics_pipeline_tests.capabilities.nobody import as_nobody
from analytics_pipeline_tests.capabilities.processes import Progress, write_and_compact
from analytics_pipeline_tests.capabilities.scenario import WiderRecord, example, files_below, run, uids
from analytics_pipeline_tests.store.processes import start
from analytics_pipeline_tests.thinning import thinned

SUMMARY = "SELECT run_uid, score, notes, augmented FROM example ORDER BY ALL"
COLUMNS = ["run_uid", "score", "notes", "augmented"]
Rows = list[tuple[object, ...]]
Reader = Callable[[Path], Rows]


def by_duckdb(root: Path) -> Rows:
    """With the glob of the published examples."""
    files = f"{root}/*/*.parquet"
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM read_parquet('{files}', union_by_name = true) "
        "WHERE capability_table IS NULL ORDER BY ALL"
    )
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def by_polars(root: Path) -> Rows:
    """With its own glob."""
    frames = [pl.read_parquet(path) for path in sorted((root / "example").glob("*.parquet"))]
    return sorted(pl.concat(frames, how="diagonal_relaxed").select(COLUMNS).rows(), key=str)


def by_pandas(root: Path) -> Rows:
    """File by file."""
    frame = pd.concat([pd.read_parquet(path) for path in (root / "example").glob("*.parquet")])
    rows = frame[COLUMNS].astype(object).where(frame[COLUMNS].notna(), None)
    return sorted((tuple(row) for row in rows.to_numpy().tolist()), key=str)


def by_pyarrow(root: Path) -> Rows:
    """As a dataset."""
    paths = list((root / "example").glob("*.parquet"))
    schema = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
    table = ds.dataset([str(path) for path in paths], schema=schema).to_table(columns=COLUMNS)
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=str)


def by_the_store(root: Path) -> Rows:
    """With an object of its own, as another program has one."""
    return ParquetBackend(root).query_sql(SUMMARY).rows()


READERS = (by_duckdb, by_polars, by_pandas, by_pyarrow)


def assert_all_agree(backend: ParquetBackend, *, rows: int) -> None:
    """Every tool sees what query_sql sees."""
    expected = sorted(backend.query_sql(SUMMARY).rows(), key=str)
    assert len(expected) == rows
    for read in READERS:
        assert sorted(read(backend.path), key=str) == expected, read.__name__


def foreign_file(root: Path, name: str, uid: str, table: str = "example") -> Path:
    """Rows of another program, written by Polars."""
    path = root / table / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"run_uid": [uid], "dataset_id": ["theirs"], "score": [0.25]}).write_parquet(path)
    return path


@pytest.fixture
def filled(backend: ParquetBackend) -> ParquetBackend:
    """Five runs in four files of two versions."""
    store = AnalyticsStore(backend)
    store.write([run("a"), run("b", notes="x")])
    store.write([run("c")])
    store.backend.write([WiderRecord(run_uid="d", dataset_id="d", score=1, sample_count=1, augmented=True)])
    store.write([run("e")])
    return backend


def test_all_tools_agree_before_and_after_compaction(filled: ParquetBackend) -> None:
    """A copy is never seen twice; what came after it is seen once."""
    assert_all_agree(filled, rows=5)
    filled.tables.compact()
    assert_all_agree(filled, rows=5)
    AnalyticsStore(filled).write([run("f"), run("a")])
    assert_all_agree(filled, rows=6)
    filled.tables.compact()
    filled.tables.sweep(grace=timedelta(0))
    assert_all_agree(filled, rows=6)
    assert filled.list_tables() == ["example", "runs"]


@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_the_store], ids=lambda read: read.__name__)
def test_while_another_process_compacts_each_run_is_seen_once(filled: ParquetBackend, read: Reader) -> None:
    """Neither twice, in a file and its copy, nor not at all: all that was written, nothing that was not begun."""
    progress = Progress()
    process = start(write_and_compact, filled.path, progress)
    readings = 0
    try:
        while progress.compacted.value < 12 or readings < 12:
            assert process.is_alive()
            least = 5 + progress.written.value
            seen = [row[0] for row in read(filled.path)]
            most = 5 + progress.begun.value
            assert len(seen) == len(set(seen))
            assert least <= len(seen) <= most
            readings += 1
    finally:
        progress.enough.set()
        process.join(60)
    assert process.exitcode == 0
    assert_all_agree(filled, rows=5 + progress.written.value)


def test_a_foreign_file_is_seen_at_once_whatever_its_name(filled: ParquetBackend) -> None:
    """Also one with a name older than all that was compacted; its runs are known from then on."""
    filled.tables.compact()
    names = (
        "1000000000000_0badcafe.parquet",
        "theirs.parquet",
        "9999999999999_0badcafe.parquet",
        "part-0.zstd.parquet",
    )
    for number, name in enumerate(names):
        foreign_file(filled.path, name, f"foreign-{number}")
        assert f"foreign-{number}" in uids(filled)
        AnalyticsStore(filled).write([run(f"foreign-{number}")])
    assert_all_agree(filled, rows=9)
    filled.tables.compact()
    assert_all_agree(filled, rows=9)


def test_foreign_files_that_come_right_after_a_write_are_seen_too(filled: ParquetBackend) -> None:
    """A folder's time has steps of milliseconds on many systems: two changes in one step must be two."""
    for number in range(30):
        AnalyticsStore(filled).write([run(f"own-{number}")])
        foreign_file(filled.path, f"{number}.parquet", f"foreign-{number}")
        AnalyticsStore(filled).write([run(f"foreign-{number}")])
    assert len(uids(filled)) == len(set(uids(filled))) == 5 + 60


def test_a_folder_of_a_new_table_by_another_program_is_a_table(filled: ParquetBackend) -> None:
    """Any Parquet of flat rows; one without run_uid has nothing to know its rows by."""
    folder = filled.path / "theirs"
    folder.mkdir()
    pl.DataFrame({"x": [1, 2]}).write_parquet(folder / "a.parquet")
    assert filled.list_tables() == ["example", "runs", "theirs"]
    assert filled.query_sql("SELECT sum(x) FROM theirs").item() == 3
    (filled.path / "No Table").mkdir()
    (filled.path / "No Table" / "a.parquet").write_bytes(b"")
    (folder / "notes.txt").write_text("not Parquet")
    assert filled.query_sql("SELECT sum(x) FROM theirs").item() == 3


@pytest.mark.parametrize("compacted", [True, False])
def test_a_lost_file_is_named_by_every_query_until_its_runs_are_written_again(
    filled: ParquetBackend, *, compacted: bool
) -> None:
    """Rows that vanish without a word are a wrong mean in somebody's report."""
    if compacted:
        filled.tables.compact()
    gone = Path(filled.get_run_uri("c"))
    gone.unlink()
    for backend in (filled, ParquetBackend(filled.path)):
        for sql in ("SELECT count(*) FROM example", "SELECT 1 FROM example WHERE run_uid = 'a'"):
            with pytest.raises(QueryFailed, match=gone.name):
                backend.query_sql(sql)
        with pytest.raises(AppendedFilesLost, match=gone.name):
            backend.get_run_uri("c")
        with pytest.raises(AppendedFilesLost, match=gone.name):
            backend.scan_table("example")
        assert backend.query_sql("SELECT count(DISTINCT run_uid) FROM runs").item() == 4, "other tables go on"
    AnalyticsStore(filled).write([run("c"), run("a")])
    assert uids(filled) == ["a", "b", "c", "d", "e"]
    assert_all_agree(filled, rows=5)


def test_a_lost_file_that_is_put_back_is_read_again(filled: ParquetBackend, tmp_path: Path) -> None:
    """From a backup: what it holds is compared with what was written."""
    gone = Path(filled.get_run_uri("c"))
    whole = gone.read_bytes()
    gone.unlink()
    with pytest.raises(QueryFailed, match=gone.name):
        uids(filled)
    gone.write_bytes(whole[:-40] + b"x" + whole[-39:])
    with pytest.raises(AppendedFileUnreadable, match=gone.name):
        uids(filled)
    gone.write_bytes(whole)
    assert uids(filled) == ["a", "b", "c", "d", "e"]


def test_a_file_deleted_on_purpose_is_gone_with_its_runs_once_that_is_said(filled: ParquetBackend) -> None:
    """Also from a compacted copy; its runs can be written again."""
    filled.tables.compact()
    gone = Path(filled.get_run_uri("c"))
    gone.unlink()
    assert filled.tables.forget("example") == [gone.name]
    assert uids(filled) == ["a", "b", "d", "e"]
    assert_all_agree(filled, rows=4)
    AnalyticsStore(filled).write([run("c"), run("a")])
    assert_all_agree(filled, rows=5)
    filled.tables.compact()
    assert_all_agree(filled, rows=5)


def test_of_a_run_in_two_foreign_files_one_may_be_deleted(filled: ParquetBackend) -> None:
    """The run is still there, and still known."""
    first = foreign_file(filled.path, "1.parquet", "twice")
    foreign_file(filled.path, "2.parquet", "twice")
    assert uids(filled).count("twice") == 2
    first.unlink()
    filled.tables.forget("example")
    AnalyticsStore(filled).write([run("twice")])
    assert uids(filled).count("twice") == 1


def remove(index: Path) -> None:
    """With its log, as a person would."""
    for path in index.parent.glob(".index.sqlite*"):
        path.unlink()


def remove_the_log(index: Path) -> None:
    """Half of it."""
    index.with_name(".index.sqlite-wal").unlink(missing_ok=True)
    index.with_name(".index.sqlite-shm").unlink(missing_ok=True)


def overwrite(index: Path) -> None:
    """Something else altogether."""
    remove(index)
    index.write_bytes(b"no database at all" * 1000)


def empty(index: Path) -> None:
    """A file of no length."""
    remove(index)
    index.touch()


def damage_pages(index: Path) -> None:
    """The header is right, the rest is not."""
    with sqlite3.connect(index) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(index.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    remove(index)
    index.write_bytes(content)


def from_a_later_version(index: Path) -> None:
    """As a newer program would leave it."""
    connection = sqlite3.connect(index)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()


def a_link_to_nothing(index: Path) -> None:
    """What no program would expect."""
    remove(index)
    index.symlink_to(index.with_name("nowhere"))


HARMS = (remove, remove_the_log, overwrite, empty, damage_pages, from_a_later_version, a_link_to_nothing)


@pytest.mark.parametrize(("first", "harm"), thinned(itertools.product(["query", "write"], HARMS), 2))
def test_a_lost_or_damaged_index_is_made_anew(filled: ParquetBackend, harm: Callable[[Path], None], first: str) -> None:
    """From the Parquet files alone; whoever still had it open goes on."""
    filled.tables.compact()
    AnalyticsStore(filled).write([run("f")])
    harm(filled.path / ".index.sqlite")
    for backend in (filled, ParquetBackend(filled.path)):
        if first == "query":
            assert uids(backend) == ["a", "b", "c", "d", "e", "f"]
        AnalyticsStore(backend).write([run("c"), run("f")])
        assert_all_agree(backend, rows=6)
    assert filled.query_sql("SELECT count(*) FROM runs").item() == 15
    filled.tables.compact()
    filled.tables.sweep(grace=timedelta(0))
    assert_all_agree(filled, rows=6)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_copied_folder_is_a_store_of_its_own(filled: ParquetBackend, tmp_path: Path, *, compacted: bool) -> None:
    """`cp -r`, also while its index is open and has a log, and with compacted copies in it."""
    if compacted:
        filled.tables.compact()
        AnalyticsStore(filled).write([run("f")])
    target = tmp_path / "elsewhere # ? %20" / "copy"
    target.parent.mkdir()
    subprocess.run(["cp", "-r", filled.path, target], check=True)
    copy = ParquetBackend(target)
    AnalyticsStore(copy).write([run("a"), run("of the copy")])
    assert "of the copy" in uids(copy)
    assert "of the copy" not in uids(filled)
    assert_all_agree(copy, rows=6 + compacted)
    shutil.rmtree(filled.path)
    assert_all_agree(ParquetBackend(target), rows=6 + compacted)


def test_a_moved_folder_goes_on(filled: ParquetBackend, tmp_path: Path) -> None:
    """Nothing in it names its place."""
    filled.tables.compact()
    moved = ParquetBackend(filled.path.rename(tmp_path / "moved"))
    AnalyticsStore(moved).write([run("a"), run("f")])
    assert_all_agree(moved, rows=6)


READ = """
import sys
from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline_tests.capabilities.scenario import run, uids
backend = ParquetBackend(sys.argv[1])
AnalyticsStore(backend).write([run("f")])
print(uids(backend))
"""


def test_pipes_and_folders_of_such_names_are_no_files_of_a_table(filled: ParquetBackend) -> None:
    """Who opens a pipe waits for ever."""
    os.mkfifo(filled.path / "example" / "9000000000000_0badcafe.parquet")
    (filled.path / "example" / "folder.parquet").mkdir()
    reader = [sys.executable, "-c", READ, str(filled.path)]
    process = subprocess.run(reader, check=True, capture_output=True, text=True, timeout=60)
    assert process.stdout.strip() == str(list("abcdef"))


AS_NOBODY = """
import sys
from pathlib import Path
from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.errors import StoreUnwritable
from analytics_pipeline_tests.capabilities.scenario import run, uids
backend = ParquetBackend(sys.argv[1])
print(uids(backend), Path(backend.get_run_uri("c")).name, backend.query_sql("SELECT count(*) FROM runs").item())
try:
    AnalyticsStore(backend).write([run("x")])
except StoreUnwritable as error:
    print("refused")
print(uids(backend))
"""


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("index", ["current", "behind", "none"])
def test_a_user_who_may_only_read_sees_everything_and_is_told_that_he_cannot_write(
    filled: ParquetBackend, index: str
) -> None:
    """An analyst on the same machine."""
    expected = ["a", "b", "c", "d", "e"]
    if index == "behind":
        foreign_file(filled.path, "theirs.parquet", "f")
        expected.append("f")
    if index == "none":
        remove(filled.path / ".index.sqlite")
    subprocess.run(["chmod", "-R", "go+rX", filled.path], check=True)
    for folder in filled.path.parents:
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    name = Path(filled.get_run_uri("c")).name if index == "current" else None
    if index == "none":
        remove(filled.path / ".index.sqlite")
    process = as_nobody(AS_NOBODY, filled.path)
    assert process.returncode == 0, process.stderr
    first, refused, last = process.stdout.splitlines()
    assert first.startswith(str(expected))
    assert first.endswith(" 12")
    assert name is None or name in first
    assert refused == "refused"
    assert last == str(expected)
    assert not any(path.stat().st_uid == 65534 for path in filled.path.rglob("*"))


def test_a_clock_that_was_set_back_leaves_names_in_order(
    filled: ParquetBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published views tell new files from compacted ones by their names."""
    monkeypatch.setattr("time.time_ns", lambda: 10**18)
    AnalyticsStore(filled).write([run("f")])
    AnalyticsStore(filled).write([run("g")])
    monkeypatch.undo()
    names = sorted(name for name in files_below(filled.path) if name.startswith("example"))
    assert [Path(filled.get_run_uri(uid)).name for uid in "acefg"] == [
        Path(name).name for number, name in enumerate(names) if number != 2
    ]


def test_an_unwritable_root_is_named() -> None:
    """Not even root makes a folder in /proc."""
    with pytest.raises(AppendFailed, match="/proc/nothing: the rows were not stored"):
        ParquetBackend("/proc/nothing").write([example("a")])
    assert ParquetBackend("/proc/nothing").list_tables() == []
