"""Object stores: what a single writer and its readers can rely on, in fsspec's own store in memory."""

from __future__ import annotations

import gc
import traceback
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, AnalyticsStoreConfig, ParquetBackend, build_store
from analytics_pipeline.capabilities.backends.object_store import ObjectFiles
from analytics_pipeline.capabilities.provenance import Provenance
from analytics_pipeline.capabilities.rows import tables_of
from analytics_pipeline.capabilities.runs import run_records
from analytics_pipeline.errors import AppendedFileUnreadable, ColumnTypeChanged, ObjectStoreFailed, StoreConfigInvalid
from analytics_pipeline_tests.capabilities.scenario import Run, example, run, uids

SECRET = "wJalrXUtnFEMI-very-secret"
NOWHERE = {
    "key": "AKIA-also-secret",
    "secret": SECRET,
    "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"},
    "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1},
}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An empty prefix of the test's own."""
    return f"memory:/{tmp_path}/capabilities"


def objects(uri: str) -> dict[str, bytes]:
    """All objects below a prefix, by their path there."""
    files, root = fsspec.core.url_to_fs(uri)
    return {path.removeprefix(f"{root}/"): files.cat_file(path) for path in files.find(root)}


def files_of(backend: ParquetBackend) -> ObjectFiles:
    """What a backend keeps its objects in."""
    assert isinstance(backend._files, ObjectFiles)
    return backend._files


def payload(*names: str) -> pa.Table:
    """The rows of some runs, as they are stored."""
    return tables_of([example(name) for name in names])["example"]


def test_each_run_is_one_object_that_a_glob_finds(uri: str) -> None:
    AnalyticsStore(ParquetBackend(uri)).write([run("a", rows=2), run("b")])
    assert sorted(path.partition("/")[0] for path in objects(uri)) == ["example", "example", "runs", "runs"]
    files, root = fsspec.core.url_to_fs(uri)
    found = [pl.read_parquet(files.cat_file(path)) for path in files.glob(f"{root}/example/*.parquet")]
    assert sorted(frame["run_uid"].to_list() for frame in found) == [["a", "a"], ["b"]]


def test_a_receipt_and_the_store_name_the_object(uri: str) -> None:
    store = AnalyticsStore(ParquetBackend(uri))
    receipt = store.write_with_receipt([run("a"), run("b")])
    found = receipt.resolve_run_uri("a")
    assert found is not None
    assert found == store.get_run_uri("a") != store.get_run_uri("b")
    with fsspec.open(found) as file:
        assert pl.read_parquet(file)["run_uid"].to_list() == ["a"]


def test_a_run_that_somebody_else_creates_meanwhile_stays_theirs(uri: str) -> None:
    """Between looking and writing: the store itself decides."""
    mine, theirs = files_of(ParquetBackend(uri)), files_of(ParquetBackend(uri))
    assert mine._create("example", payload("a")) is not None
    before = objects(uri)
    assert theirs._create("example", payload("a")) is None
    assert objects(uri) == before


def test_a_writer_that_died_before_the_results_left_nothing_that_counts(uri: str) -> None:
    """Rows of `runs` come first; the next write of the run adds what is missing, and nothing twice."""
    backend = ParquetBackend(uri)
    backend.write(list(run_records(run("a"), "example", Provenance())))
    store = AnalyticsStore(backend)
    assert uids(store) == []
    store.write([run("a"), run("b")])
    assert uids(store) == ["a", "b"]
    assert store.query_sql("SELECT count(*) FROM runs").item() == 6


def test_other_objects_below_the_prefix_are_no_tables(uri: str) -> None:
    files, root = fsspec.core.url_to_fs(uri)
    for path in ("notes", "README.md", "Archive/old.parquet", "example/_SUCCESS", "example/.hidden.parquet"):
        files.pipe_file(f"{root}/{path}", b"not ours")
    store = AnalyticsStore(ParquetBackend(uri))
    assert store.list_tables() == []
    store.write([run("a")])
    assert store.list_tables() == ["example", "runs"]
    assert uids(store) == ["a"]


def test_a_changed_type_is_refused_before_anything_is_written(uri: str) -> None:
    store = AnalyticsStore(ParquetBackend(uri))
    store.write([run("a")])
    before = objects(uri)
    changed = tables_of([example("b")])["example"].set_column(0, "run_uid", pa.array([1]))
    with pytest.raises(ColumnTypeChanged, match="run_uid"):
        list(files_of(ParquetBackend(uri)).append({"runs": tables_of_runs("b"), "example": changed}))
    assert objects(uri) == before


def tables_of_runs(name: str) -> pa.Table:
    """The rows of `runs` of a run."""
    return tables_of(list(run_records(run(name), "example", Provenance())))["runs"]


def test_a_later_event_is_an_object_more_in_runs_alone(uri: str) -> None:
    store = AnalyticsStore(ParquetBackend(uri))
    for event in ("one", "one", None, "two"):
        store.write([run("a")], provenance={"run_event_id": event} if event else None)
    assert sorted(path.partition("/")[0] for path in objects(uri)) == ["example", "runs", "runs"]
    assert store.query_sql("SELECT DISTINCT run_event_id FROM runs ORDER BY 1")["run_event_id"].to_list() == [
        "one",
        "two",
    ]


def test_objects_of_another_program_are_read_and_their_runs_are_known(uri: str) -> None:
    files, root = fsspec.core.url_to_fs(uri)
    foreign = f"{root}/example/1700000000000_0123abcd.parquet"
    with files.open(foreign, "wb") as file:
        pl.DataFrame(payload("a", "b")).write_parquet(file)
    store = AnalyticsStore(ParquetBackend(uri))
    store.write([run("a"), run("b"), run("c")])
    assert uids(store) == ["a", "b", "c"]
    assert store.get_run_uri("b") == f"{uri}/example/1700000000000_0123abcd.parquet"


def test_a_damaged_object_is_named(uri: str) -> None:
    files, root = fsspec.core.url_to_fs(uri)
    files.pipe_file(f"{root}/example/1700000000000_0123abcd.parquet", b"no Parquet")
    with pytest.raises(AppendedFileUnreadable, match="1700000000000_0123abcd"):
        AnalyticsStore(ParquetBackend(uri)).list_tables()


def test_objects_that_were_removed_are_gone_for_readers(uri: str) -> None:
    store = AnalyticsStore(ParquetBackend(uri))
    store.write([run("a"), run("b")])
    assert uids(store) == ["a", "b"]
    files, _ = fsspec.core.url_to_fs(uri)
    files.rm_file(fsspec.core.url_to_fs(store.get_run_uri("a"))[1])
    assert uids(store) == ["b"]
    store.write([run("a")])
    assert uids(store) == ["a", "b"]


def test_many_objects_are_compacted_in_the_mirror(uri: str) -> None:
    store = AnalyticsStore(ParquetBackend(uri))
    store.write([run(f"run-{number:04}") for number in range(600)])
    assert len(uids(store)) == 600
    backend = store.backend
    assert isinstance(backend, ParquetBackend)
    assert len(backend.tables.files("example").copies) == 1
    assert len(objects(uri)) == 1_200


def test_a_mirror_goes_with_its_backend(uri: str) -> None:
    backend = ParquetBackend(uri)
    AnalyticsStore(backend).write([run("a")])
    folder = backend.path
    assert folder.is_dir()
    del backend
    gc.collect()
    assert not folder.exists()


def test_a_kept_mirror_is_fetched_once(uri: str, tmp_path: Path) -> None:
    AnalyticsStore(ParquetBackend(uri)).write([run("a")])
    first = ParquetBackend(uri, cache=tmp_path / "cache").path
    fetched = {path: path.stat().st_ino for path in first.rglob("*.parquet")}
    AnalyticsStore(ParquetBackend(uri)).write([run("b")])
    second = ParquetBackend(uri, cache=tmp_path / "cache").path
    assert first == second
    assert {path: path.stat().st_ino for path in second.rglob("*.parquet") if path in fetched} == fetched
    assert len(list(second.rglob("*.parquet"))) == 2 * len(fetched)


def test_secrets_are_in_no_repr_and_in_no_error() -> None:
    backend = ParquetBackend("s3://bucket/runs", NOWHERE)
    config = AnalyticsStoreConfig(uri="s3://bucket/runs", storage_options=NOWHERE)
    with pytest.raises(ObjectStoreFailed, match="s3://bucket/runs") as caught:
        backend.write([example("a")])
    for text in (*traceback.format_exception(caught.value), repr(backend), repr(files_of(backend)), repr(config)):
        assert SECRET not in text
        assert "AKIA" not in text


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/runs", "az://container/runs?sig=secret"])
def test_a_uri_with_credentials_is_refused_without_repeating_it(uri: str) -> None:
    for make in (ParquetBackend, lambda uri: build_store({"uri": uri})):
        with pytest.raises(StoreConfigInvalid, match="storage_options") as caught:
            make(uri)
        assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_an_unknown_protocol_is_refused_with_what_to_install() -> None:
    with pytest.raises(StoreConfigInvalid, match=r"analytics_pipeline\[objects\]"):
        ParquetBackend("tape://drive/runs")


def test_a_duckdb_file_is_in_no_object_store() -> None:
    with pytest.raises(StoreConfigInvalid, match="local disk"):
        build_store({"backend": "duckdb", "uri": "s3://bucket/capabilities.duckdb"})


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    store = build_store({"uri": (tmp_path / "with space").as_uri()})
    store.write([Run("a", [example("a")])])
    assert Path(store.get_run_uri("a")).parent == tmp_path / "with space" / "example"
