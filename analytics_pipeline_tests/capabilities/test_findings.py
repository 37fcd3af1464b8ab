# ruff: noqa: N802 — each rule has the number of its finding
"""What was found in the peer and must not happen here: one rule for each finding."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, ParquetBackend
from analytics_pipeline.errors import (
    AppendedFileUnreadable,
    NameRefused,
    QueryRefused,
    RecordTableRefused,
)
from analytics_pipeline.store.append.recovery import Unreadable
from analytics_pipeline_tests.capabilities.scenario import (
    BACKENDS,
    SHARED,
    WiderRecord,
    example,
    files_below,
    run,
    uids,
)
from analytics_pipeline_tests.capabilities.strangers import Stranger
from analytics_pipeline_tests.capabilities.test_contract import write_once
from analytics_pipeline_tests.store.processes import context


def test_C1_a_run_of_an_older_schema_is_known_after_a_column_was_added(store: AnalyticsStore) -> None:
    """There, one added column made every write of the table a duplicate from then on."""
    store.write([run("a")])
    store.backend.write([WiderRecord(run_uid="b", dataset_id="d", score=1, sample_count=1, augmented=True)])
    for _ in range(3):
        store.write([run("a"), run("b")])
        store.backend.write([WiderRecord(run_uid="a", dataset_id="d", score=1, sample_count=1)])
    assert uids(store) == ["a", "b"]


def test_C2_a_torn_foreign_file_is_named_and_nothing_is_changed(backend: ParquetBackend) -> None:
    """There, it broke every query of its table and let every duplicate in."""
    store = AnalyticsStore(backend)
    store.write([run("a")])
    torn = backend.path / "example" / "1700000000000_0badcafe.parquet"
    torn.write_bytes(next((backend.path / "example").glob("*.parquet")).read_bytes()[:-100])
    before = files_below(backend.path)
    asked: list[Callable[[], object]] = [
        lambda: uids(store),
        lambda: store.write([run("b")]),
        lambda: store.write([run("a")]),
        lambda: store.describe_table("example"),
        backend.tables.compact,
    ]
    for ask in asked:
        with pytest.raises(AppendedFileUnreadable, match="1700000000000_0badcafe") as refused:
            ask()
        assert refused.value.path == str(torn)
    assert files_below(backend.path) == before


def test_C2_a_torn_foreign_file_is_skipped_only_by_those_who_ask_for_it(backend: ParquetBackend) -> None:
    """And the store goes on as if it were not there; once it is gone, for everybody."""
    AnalyticsStore(backend).write([run("a")])
    torn = backend.path / "example" / "torn.parquet"
    torn.write_bytes(b"PAR1 no more")
    tolerant = AnalyticsStore(ParquetBackend(backend.path, unreadable=Unreadable.SKIP))
    tolerant.write([run("a"), run("b")])
    assert uids(tolerant) == ["a", "b"]
    with pytest.raises(AppendedFileUnreadable, match=r"torn\.parquet"):
        uids(backend)
    torn.unlink()
    assert uids(backend) == ["a", "b"]


@pytest.mark.parametrize("kind", SHARED)
def test_C4_of_eight_processes_that_write_one_run_exactly_one_wins(kind: str, tmp_path: Path) -> None:
    """There, four of them left three rows."""
    barrier = context().Barrier(8)
    processes = [context().Process(target=write_once, args=(kind, tmp_path, barrier)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    store = AnalyticsStore(BACKENDS[kind](tmp_path))
    assert uids(store) == ["a", "a"]
    assert store.query_sql("SELECT count(*) FROM runs").item() == 3


def test_C5_a_write_that_finds_only_half_of_a_run_adds_the_other_half(store: AnalyticsStore) -> None:
    """There, payload and `runs` were two writes; a run without its rows of runs was never found by a JOIN again."""
    store.backend.write([example("a")])
    store.write([run("a"), run("b")])
    joined = "SELECT DISTINCT e.run_uid FROM example e JOIN runs r ON e.run_uid = r.run_uid ORDER BY 1"
    assert store.query_sql(joined).rows() == [("a",), ("b",)]
    assert uids(store) == ["a", "b"]


def test_C6_a_hundred_leading_nulls_say_nothing_about_a_type(store: AnalyticsStore) -> None:
    """There, the schema was guessed from the first hundred rows."""
    rows = [WiderRecord(run_uid="a", dataset_id="d", score=1, sample_count=1) for _ in range(150)]
    last = WiderRecord(run_uid="a", dataset_id="d", score=1, sample_count=1, notes="late", augmented=True)
    store.backend.write([*rows, last])
    assert store.query_sql("SELECT count(*), count(notes), max(notes), bool_or(augmented) FROM example").rows() == [
        (151, 1, "late", True)
    ]
    assert store.describe_table("example")["augmented"] == "Boolean"


def test_C6_strangers_whose_first_hundred_values_are_missing_are_stored_too(store: AnalyticsStore) -> None:
    """Of a class that declares nothing, all values count, not the first hundred."""
    rows = [Stranger("example", run_uid="a", late=None) for _ in range(150)]
    store.backend.write([*rows, Stranger("example", run_uid="a", late=1.5)])
    assert store.describe_table("example")["late"] == "Float64"


def test_C8_no_table_lies_outside_of_the_store(store: AnalyticsStore, tmp_path: Path) -> None:
    """There, `table_name="../x"` did."""
    with pytest.raises(RecordTableRefused):
        type("Outside", (BaseRecord,), {"__annotations__": {"x": int}}, table_name="../outside")
    with pytest.raises(NameRefused):
        store.backend.write([Stranger("../outside", run_uid="a", x=1)])
    assert not list(tmp_path.rglob("outside*"))


def test_C8_no_query_reads_a_file_of_the_host(store: AnalyticsStore, tmp_path: Path) -> None:
    """There, `read_csv('/etc/passwd')` answered."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    store.write([run("a")])
    for sql in (f"SELECT * FROM read_csv('{secret}')", f"SELECT * FROM '{secret}'", f"FROM read_text('{secret}')"):
        with pytest.raises(QueryRefused):
            store.query_sql(sql)


def transferred() -> int:
    """Bytes that this process has read and written, by whatever library."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]) + int(lines["wchar"])


def with_files(root: Path, count: int) -> AnalyticsStore:
    """A store with that many files in each table."""
    backend = ParquetBackend(root, compact_after=10**6)
    store = AnalyticsStore(backend)
    store.write([run("first")])
    for table in ("example", "runs"):
        folder = root / table
        rows = pq.read_table(next(folder.glob("*.parquet")))
        where = rows.column_names.index("run_uid")
        for number in range(count):
            uid = pa.array([f"run-{number:06d}"] * rows.num_rows)
            pq.write_table(rows.set_column(where, "run_uid", uid), folder / f"{10**12 + number}_{number:08x}.parquet")
    backend.tables.compact()
    store.write([run("second")])
    return store


def bytes_of_a_write(store: AnalyticsStore, uid: str) -> int:
    """How much is read and written to store one run with its rows of runs; the least of a few, as logs are long."""
    found = []
    for number in range(5):
        before = transferred()
        store.write([run(f"{uid}-{number}")])
        found.append(transferred() - before)
    return min(found)


def test_C9_a_write_costs_the_same_however_many_files_there_are(tmp_path: Path) -> None:
    """There, each one opened all files. Counted in bytes that are moved, not in time."""
    few, many = with_files(tmp_path / "few", 10), with_files(tmp_path / "many", 800)
    assert bytes_of_a_write(many, "new") < 2 * bytes_of_a_write(few, "new")  # the index is a tree: a page more a level
    assert many.query_sql("SELECT count(*) FROM example").item() == 807


def steps_of_a_write(store: AnalyticsStore, uid: str) -> int:
    """How many hundreds of instructions SQLite takes to store one run; a scan of a table takes some for each row."""
    assert isinstance(store.backend, ParquetBackend)
    counted: list[None] = []
    connection = store.backend.tables._access._file._kept()
    connection.set_progress_handler(lambda: counted.append(None), 100)
    store.write([run(uid)])
    connection.set_progress_handler(None, 0)
    return len(counted)


def test_C9_the_index_is_never_scanned(tmp_path: Path) -> None:
    """Neither by a write, nor by a duplicate of one."""
    few, many = with_files(tmp_path / "few", 10), with_files(tmp_path / "many", 800)
    for uid in ("new", "new"):
        assert steps_of_a_write(many, uid) <= 1.2 * steps_of_a_write(few, uid) + 2


def test_C9_a_query_opens_few_files_however_many_there_are(tmp_path: Path) -> None:
    """There, it opened all of them."""
    backend = ParquetBackend(tmp_path / "store", compact_after=8)
    store = AnalyticsStore(backend)
    opened = []
    for number in range(80):
        store.write([run(f"run-{number}")])
        opened += [len(files.copies) + len(files.tail) for files in backend.tables.snapshot().values()]
    assert max(opened) <= 8 + 6  # the tail, and copies that each are twice as large as the one after it
    assert len(files_below(backend.path)) == 160
    assert len(uids(store)) == 80


def test_C9_a_duplicate_write_writes_no_file(backend: ParquetBackend) -> None:
    """A store that is written again and again does not grow."""
    store = AnalyticsStore(backend)
    store.write([run("a"), run("b")])
    before = files_below(backend.path)
    for _ in range(5):
        store.write([run("b"), run("a")])
    assert files_below(backend.path) == before
    assert len(before) == 2


def test_C10_numbers_that_are_none_are_null(store: AnalyticsStore) -> None:
    """There, one infinite ratio made every average infinite."""
    store.backend.write(
        [example(uid, score=score) for uid, score in zip("abcd", (1.0, float("inf"), float("nan"), 3.0), strict=True)]
    )
    assert store.query_sql("SELECT avg(score), max(score), count(score), count(*) FROM example").rows() == [
        (2.0, 3.0, 2, 4)
    ]


def test_the_folder_of_a_table_holds_parquet_files_of_the_promised_names_alone(backend: ParquetBackend) -> None:
    """`{root}/{table}/{milliseconds}_{8 hex}.parquet`, one a table and call; nothing else that a reader would find."""
    store = AnalyticsStore(ParquetBackend(backend.path, compact_after=4))
    began = int(datetime.now(UTC).timestamp() * 1000)
    for number in range(10):
        store.write([run(f"run-{number}"), run(f"more-{number}")])
    backend.tables.compact()
    names = files_below(backend.path)
    assert len(names) == 20
    assert sorted(name.name for name in backend.path.iterdir() if not name.name.startswith(".")) == ["example", "runs"]
    for path in (backend.path / "example").iterdir():
        stamp, _, rest = path.stem.partition("_")
        assert len(stamp) == 13
        assert began <= int(stamp) <= began + 600_000
        assert len(bytes.fromhex(rest)) == 4
        assert path.suffix == ".parquet"


def test_all_columns_of_a_file_are_flat_and_nullable(backend: ParquetBackend) -> None:
    """So that any version of a record can be read beside any other, by any tool."""
    AnalyticsStore(backend).write([run("a")])
    for name in files_below(backend.path):
        schema = pq.read_schema(backend.path / name)
        assert all(field.nullable and field.type.num_fields == 0 for field in schema)


def test_a_folder_that_the_peer_wrote_is_read_as_it_is(tmp_path: Path) -> None:
    """Files of Polars, with duplicates of the peer's own, and columns that hold nothing at all."""
    root = tmp_path / "theirs"
    rows = {"run_uid": ["a"], "created_at": [datetime.now(UTC)], "dataset_id": ["d"], "score": [1.0], "notes": [None]}
    for number in range(3):
        (root / "example").mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame(rows).with_columns(sample_count=pl.lit(5, pl.Int64))
        frame.write_parquet(root / "example" / f"170000000000{number}_a1b2c3d{number}.parquet")
    store = AnalyticsStore(ParquetBackend(root))
    assert uids(store) == ["a"] * 3
    store.backend.write([example("a"), example("b", notes="new")])
    assert uids(store) == ["a", "a", "a", "b"]
    shutil.rmtree(root / "example")
    assert len(ParquetBackend(root).tables.forget("example")) == 4
    assert store.list_tables() == []
