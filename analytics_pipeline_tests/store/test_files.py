"""The writer of data files: row groups of a good size, in memory that does not grow with the data."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import NameRefused, UnsupportedColumnType
from analytics_pipeline.store import DataFile, PartitionedWriter, Store
from analytics_pipeline.store.files import ROW_GROUP_ROWS
from analytics_pipeline_tests.store.scenario import FACTS, facts, publish, schema_of

WIDE = schema_of(id=pa.int64(), text=pa.string())
MIB = 2**20


def batch(rows: int, width: int = 10) -> pa.RecordBatch:
    """Rows of about the given width."""
    return pa.RecordBatch.from_arrays([pa.array(range(rows)), pa.array(["x" * width] * rows)], schema=WIDE)


def row_groups(path: Path) -> list[int]:
    """Rows of each row group."""
    with pq.ParquetFile(path) as file:
        return [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]


def test_row_group_is_cut_when_it_is_full(tmp_path: Path) -> None:
    """DuckDB reads row groups in parallel and skips them: thousands of small ones would cost both."""
    writer = PartitionedWriter(tmp_path, "facts", WIDE)
    for _ in range(30):
        writer.write("d0", batch(10_000))
    files = writer.close()["d0"]
    assert row_groups(tmp_path / files[0].path.rsplit("/")[-1]) == [130_000, 130_000, 40_000]
    assert files[0].rows == 300_000


def test_large_batch_is_cut_into_row_groups(tmp_path: Path) -> None:
    """A source that gives a million rows at once must not make one row group of them."""
    writer = PartitionedWriter(tmp_path, "facts", WIDE)
    writer.write("d0", batch(1_000_000))
    (file,) = writer.close()["d0"]
    groups = row_groups(tmp_path / Path(file.path).name)
    assert len(groups) == 8
    assert all(0.8 * ROW_GROUP_ROWS < rows < 1.2 * ROW_GROUP_ROWS for rows in groups)


def test_rows_are_flushed_when_the_byte_budget_is_used_up(tmp_path: Path) -> None:
    """Wide rows would otherwise take any amount of memory before a row group is full."""
    writer = PartitionedWriter(tmp_path, "facts", WIDE, buffer_bytes=4 * MIB)
    for number in range(16):
        writer.write(f"p{number % 2}", batch(100, width=10_000))
        assert writer._buffered <= 4 * MIB
    files = writer.close()
    assert {key: sum(file.rows for file in of_key) for key, of_key in files.items()} == {"p0": 800, "p1": 800}
    assert all(len(row_groups(tmp_path / Path(of_key[0].path).name)) > 1 for of_key in files.values())


def test_slice_of_a_large_batch_does_not_keep_it_in_memory(tmp_path: Path) -> None:
    """One late row of each batch would otherwise hold all batches of a sync in memory."""
    writer = PartitionedWriter(tmp_path, "facts", WIDE)
    for _ in range(50):
        writer.write("rare", batch(10_000, width=100).slice(17, 1))
    held = sum(kept.get_total_buffer_size() for kept in writer._buffers["rare"].batches)
    assert held < MIB
    (file,) = writer.close()["rare"]
    assert pq.read_table(tmp_path / Path(file.path).name)["id"].to_pylist() == [17] * 50


def test_source_in_no_order_still_fills_its_row_groups(tmp_path: Path) -> None:
    """Where every batch has rows of every day, row groups as small as batches would make each query slow."""
    writer = PartitionedWriter(tmp_path, "facts", WIDE)
    for number in range(2_000):
        writer.write(f"d{number % 100}", batch(50))
    files = writer.close()
    assert {key: row_groups(tmp_path / Path(of_key[0].path).name) for key, of_key in files.items()} == {
        f"d{day}": [1_000] for day in range(100)
    }


def test_partition_that_gets_no_more_rows_is_written_while_others_arrive(tmp_path: Path) -> None:
    """A source in order of time must not hold back its whole past."""
    writer = PartitionedWriter(tmp_path, "facts", WIDE)
    for number in range(400):
        writer.write(f"d{number // 4}", batch(50))
        assert len(writer._buffers) <= 10
    assert all(files[0].rows == 200 for files in writer.close().values())


def test_thousand_partitions_need_a_bounded_number_of_open_files(tmp_path: Path) -> None:
    """A first sync of three years writes a thousand days at once; systems allow 1,024 open files."""
    writer = PartitionedWriter(tmp_path, "facts", FACTS, buffer_bytes=1)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for number in range(1_000):
        writer.write(f"d{number}", pa.RecordBatch.from_pylist(facts(number), schema=FACTS))
        assert len(writer._open) <= 128
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 140
    files = writer.close()
    assert len(files) == 1_000
    assert len(list(tmp_path.iterdir())) == 1_000


def test_partition_whose_file_was_closed_goes_on_in_a_second_one(tmp_path: Path) -> None:
    """Rows that come back to an early partition must neither be lost nor replace the earlier ones."""
    writer = PartitionedWriter(tmp_path, "facts", FACTS, buffer_bytes=1)
    for key in ["first", *(f"d{number}" for number in range(200)), "first"]:
        writer.write(key, pa.RecordBatch.from_pylist(facts(7), schema=FACTS))
    assert [file.rows for file in writer.close()["first"]] == [1, 1]


def test_two_writers_of_one_partition_add_up(store: Store) -> None:
    """Two batches of one day read in parallel go into one partition."""
    with store.stage("two") as stage:
        files: list[DataFile] = []
        for number in (1, 2):
            writer = stage.writer("facts", FACTS)
            writer.write("d0", pa.RecordBatch.from_pylist(facts(number), schema=FACTS))
            files.extend(writer.close()["d0"])
    assert len({file.path for file in files}) == 2


@pytest.mark.parametrize(
    "key", ["2024-01-01T00:00:00+00:00", "a/b", "..", "", "x" * 300, "世界", "a\x00b\n", "'\"; DROP"]
)
def test_partition_key_of_any_characters_keeps_its_rows(store: Store, key: str) -> None:
    """Keys come from data: a model name, a path, a time."""
    publish(store, {"facts": {key: facts(1)}})
    assert store.query("SELECT id FROM facts").rows() == [(1,)]
    assert list(store.manifest().tables["facts"].partitions) == [key]
    assert store.query("SELECT partition_key FROM _store_partitions").rows() == [(key,)]


def test_empty_batch_makes_no_file(tmp_path: Path) -> None:
    """A day without rows is a partition without files."""
    writer = PartitionedWriter(tmp_path, "facts", FACTS)
    writer.write("d0", batch(0))
    assert writer.close() == {}
    assert not list(tmp_path.iterdir())


def test_batch_of_another_schema_is_refused_before_it_is_written(tmp_path: Path) -> None:
    """A mixed file could not be read back."""
    writer = PartitionedWriter(tmp_path, "facts", FACTS)
    with pytest.raises(pa.ArrowInvalid):
        writer.write("d0", batch(200_000))
    writer.abandon()


def test_abandoned_writer_lets_go_of_its_files(tmp_path: Path) -> None:
    """A failed sync must not keep files open in a process that goes on."""
    writer = PartitionedWriter(tmp_path, "facts", FACTS, buffer_bytes=1)
    writer.write("d0", pa.RecordBatch.from_pylist(facts(1), schema=FACTS))
    writer.abandon()
    writer.abandon()
    assert not writer._open


@pytest.mark.parametrize(
    "type_",
    [
        pa.null(), pa.float16(), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()), pa.duration("us"),
        pa.timestamp("ns"), pa.timestamp("ms", "UTC"), pa.decimal256(50, 2), pa.date64(), pa.time32("s"),
        pa.dictionary(pa.int32(), pa.string()), pa.month_day_nano_interval(), pa.list_(pa.null()),
    ],
)  # fmt: skip
def test_type_without_a_place_in_the_store_is_refused_by_name(tmp_path: Path, type_: pa.DataType) -> None:
    """Better at the first batch than as another type in everybody's queries."""
    with pytest.raises(UnsupportedColumnType, match="Column odd has Arrow type"):
        PartitionedWriter(tmp_path, "facts", pa.schema([("odd", type_)]))


@pytest.mark.parametrize(
    "name", ["", "Facts", "1st", "_store_info", "a-b", "a.b", "x" * 64, "täble", 'a"b', "a b", "a\n"]
)
def test_table_name_that_needs_quoting_is_refused(tmp_path: Path, name: str) -> None:
    """Everybody types these names at a prompt, and folders are named by them."""
    with pytest.raises(NameRefused):
        PartitionedWriter(tmp_path, name, FACTS)


@pytest.mark.parametrize("names", [["a", "A"], ["a", "a"], [""]])
def test_columns_that_sql_cannot_tell_apart_are_refused(tmp_path: Path, names: list[str]) -> None:
    """DuckDB compares names without case: one of two would be unreachable."""
    with pytest.raises(NameRefused):
        PartitionedWriter(tmp_path, "facts", pa.schema([(name, pa.int64()) for name in names]))
