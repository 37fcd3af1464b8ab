"""The home of a code location, and the door to its published store for users' own assets."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from analytics_pipeline.errors import SourceUrlMissing, StoreNotFound
from analytics_pipeline.resources import AnalyticsResource, PublishedStoreResource
from analytics_pipeline.settings import SOURCE_URL_VARIABLES
from analytics_pipeline.store import Store, create_store
from analytics_pipeline.sync.spec import Half
from analytics_pipeline_tests.components.scenario import spec
from analytics_pipeline_tests.store.scenario import facts, publish
from analytics_pipeline_tests.workplace import REPOSITORY, Workplace

WRITES = [
    "INSERT INTO facts VALUES (9, 'x')",
    "DELETE FROM facts",
    "CREATE TABLE mine (a int)",
    "CREATE VIEW mine AS SELECT 1",
    "DROP VIEW facts",
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with three rows in the home of the environment."""
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path))
    store = create_store(tmp_path / "store")
    publish(store, {"facts": {"d0": facts(1, 2, 3)}})
    return store


def ids(connection: duckdb.DuckDBPyConnection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM facts ORDER BY id").fetchall()]


def test_tables_go_by_their_plain_names(store: Store) -> None:
    with PublishedStoreResource().get_connection() as connection:
        assert ids(connection) == [1, 2, 3]


@pytest.mark.parametrize("statement", WRITES)
def test_nothing_can_be_written(store: Store, statement: str) -> None:
    with (
        PublishedStoreResource().get_connection() as connection,
        pytest.raises(duckdb.Error, match=r"read-only|not a table|Can only|Cannot|Catalog Error"),
    ):
        connection.execute(statement)
    assert store.query("SELECT count(*) FROM facts").item() == 3


def test_an_open_connection_keeps_its_version_and_a_new_one_sees_the_next(store: Store) -> None:
    resource = PublishedStoreResource()
    with resource.get_connection() as before:
        assert ids(before) == [1, 2, 3]
        publish(store, {"facts": {"d1": facts(4)}})

        with resource.get_connection() as after:
            assert ids(after) == [1, 2, 3, 4]
        assert ids(before) == [1, 2, 3]


def test_several_connections_read_one_version_at_once(store: Store) -> None:
    resource = PublishedStoreResource()
    with resource.get_connection() as one, resource.get_connection() as other:
        assert ids(one) == ids(other) == [1, 2, 3]


def test_a_reader_does_not_hold_up_a_commit(store: Store) -> None:
    with PublishedStoreResource().get_connection():
        assert publish(store, {"facts": {"d1": facts(4)}}).version == 2


def test_a_copied_store_reads_its_own_files(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store.root, copy, symlinks=True)
    shutil.rmtree(store.root)

    with PublishedStoreResource(database=str(copy / "catalog.duckdb")).get_connection() as connection:
        assert ids(connection) == [1, 2, 3]


def test_settings_of_duckdb_can_be_given(store: Store) -> None:
    with PublishedStoreResource(connection_config={"threads": 1}).get_connection() as connection:
        assert connection.execute("SELECT current_setting('threads')").fetchone() == (1,)


def test_before_the_first_sync_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path))

    with pytest.raises(StoreNotFound, match=str(tmp_path)), PublishedStoreResource().get_connection():
        pass


def test_the_example_asset_ranks_the_models_of_a_synced_store(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workplace.execute("monitoring_refresh_job").returncode == 0
    monkeypatch.setenv("ANALYTICS_HOME", str(workplace.home))
    spec_ = importlib.util.spec_from_file_location("own_asset", REPOSITORY / "examples" / "own_asset.py")
    assert spec_ is not None
    assert spec_.loader is not None
    example = importlib.util.module_from_spec(spec_)
    spec_.loader.exec_module(example)

    result = dg.materialize([example.model_leaderboard], resources={"published": PublishedStoreResource()})

    [event] = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert int(str(metadata["dagster/row_count"].value)) > 1
    assert f"| {metadata['best_model'].value} |" in str(metadata["leaderboard"].value)


def test_a_dataset_without_a_source_is_named_with_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ORDERS_DB_URL", *SOURCE_URL_VARIABLES):
        monkeypatch.delenv(variable, raising=False)

    with pytest.raises(SourceUrlMissing, match="orders: the environment variable ORDERS_DB_URL is not set"):
        AnalyticsResource(home_path=str(tmp_path / "home")).sync_job(spec(), print)
    assert not (tmp_path / "home").exists()


def test_the_home_is_found_anew_by_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code location lives for weeks; the environment of its runs decides."""
    resource = AnalyticsResource()
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "one"))
    assert resource.home().path == tmp_path / "one"
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "other"))
    assert resource.home().path == tmp_path / "other"


def test_a_tick_asks_without_making_or_starting_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come before anybody has run anything, and every 30 seconds for years."""
    for variable in SOURCE_URL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    resource, sampled = AnalyticsResource(home_path=str(tmp_path / "home")), spec(url=SOURCE_URL_VARIABLES[0])

    assert resource.gate_job(sampled) is None
    assert resource.holds_nothing_of(sampled)
    assert resource.status(sampled).last_verified is None
    assert not (tmp_path / "home").exists()


def test_a_sample_that_does_not_run_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in SOURCE_URL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    resource, sampled = AnalyticsResource(home_path=str(tmp_path)), spec(url=SOURCE_URL_VARIABLES[0])
    publish(create_store(tmp_path / "store"), {sampled.table(Half.DATASET): {"d0": facts(1)}})

    assert resource.gate_job(sampled) is None
    assert not resource.holds_nothing_of(sampled)

    monkeypatch.setenv(SOURCE_URL_VARIABLES[0], "postgresql://h/d")
    assert resource.gate_job(sampled) is not None
