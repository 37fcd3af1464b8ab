"""A sandboxed query sees the tables and nothing of the machine: no path, user, environment or setting."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.errors import QueryFailed, QueryRefused
from analytics_pipeline.store import Store, create_store
from analytics_pipeline.store.query_check import checked_select
from analytics_pipeline.store.sandbox import remove_leavings
from analytics_pipeline.store.sql_functions import (
    SYSTEM_RELATIONS,
    TABLE_FUNCTIONS,
    is_allowed_function,
    is_allowed_relation,
)
from analytics_pipeline_tests.store.scenario import facts, publish

HOME = "some-folder-of-this-machine"

SHOWS = ["{name}", '"{name}"', "'{name}'", "main.{name}"]
OF_THE_MACHINE = [
    *(f"SHOW {name}" for name in ("threads", "temp_directory", "allowed_paths", "HOME_DIRECTORY", "TimeZone", "facts")),
    "FROM (SHOW memory_limit)",
    "SHOW VARIABLES",
    "FROM duckdb_views()",
    "FROM duckdb_views",
    "SELECT sql FROM sqlite_master",
    'SELECT sql FROM "sqlite_master"',
    "FROM system.main.SQLITE_SCHEMA",
    "FROM pg_views",
    "FROM pg_catalog.pg_views",
    "FROM system.pg_catalog.pg_database",
    "FROM information_schema.views",
    "FROM store.information_schema.views",
    "SELECT pg_get_viewdef(1)",
    "SELECT pg_catalog.pg_get_viewdef(view_oid) FROM (SELECT 1 AS view_oid)",
    "SELECT current_query()",
    "SELECT version()",
    "SELECT get_block_size('store')",
    "SELECT stats(id) FROM facts",
    "FROM store._store_info",
    "FROM store.main._store_info",
    "FROM main._STORE_INFO",
    "SELECT root FROM _store_info",
    "SUMMARIZE store._store_info",
    "FROM pragma_database_list()",
    "FROM parquet_file_metadata('x')",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = create_store(tmp_path_factory.mktemp(HOME) / "store")
    publish(store, {"facts": {"d0": facts(1, 2), "d1": facts(3)}})
    yield store
    store.close()


def shows_the_machine(text: str, store: Store) -> bool:
    names = {HOME, str(store.root), getpass.getuser(), socket.gethostname(), str(Path.home())} - {"root", "/", "duckdb"}
    return any(name in text for name in names)


@pytest.mark.parametrize("sql", OF_THE_MACHINE)
def test_what_shows_the_machine_is_refused(store: Store, sql: str) -> None:
    with pytest.raises((QueryRefused, QueryFailed)) as caught:
        store.query(sql)

    assert not shows_the_machine(str(caught.value), store)


@pytest.mark.parametrize("form", SHOWS)
def test_no_setting_of_this_duckdb_can_be_shown(form: str) -> None:
    """DuckDB 2.0 answers SHOW with the setting of a name, where no table has it."""
    with duckdb.connect() as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM duckdb_settings()").fetchall()]
        for name in names:
            try:
                checked = checked_select(connection, f"SHOW {form.format(name=name)}")
                answer = connection.execute(checked).fetchall()
            except (QueryRefused, QueryFailed, duckdb.CatalogException):
                continue  # DuckDB 1.5 looks for a table
            pytest.fail(f"SHOW {name} gave {answer}")


def test_no_setting_can_be_read_by_a_function_of_this_duckdb() -> None:
    for name in ("current_setting", "getenv", "getvariable", "set_config", "version", "write_log", "nextval"):
        assert not is_allowed_function(name)
        assert not is_allowed_function(name.upper())
    for name in (
        "sum",
        "list_transform",
        "strftime",
        "row_number",
        "json_extract",
        "split_part",
        "now",
        "regexp_matches",
    ):
        assert is_allowed_function(name)


def test_every_table_function_of_this_duckdb_is_refused_but_those_that_are_listed() -> None:
    """A new one is refused until somebody has looked at it."""
    with duckdb.connect() as connection:
        sql = """SELECT DISTINCT function_name FROM duckdb_functions()
            WHERE function_type IN ('table', 'table_macro', 'pragma')"""
        names = [name for (name,) in connection.execute(sql).fetchall()]
        assert len(names) > 100
        for name in names:
            if name not in TABLE_FUNCTIONS:
                with pytest.raises((QueryRefused, QueryFailed)):
                    checked_select(connection, f'FROM "{name}"()')
            for statement in (f"PRAGMA {name}", f"CALL {name}()"):
                with pytest.raises((QueryRefused, QueryFailed)):
                    checked_select(connection, statement)


def test_every_system_view_of_this_duckdb_is_refused_but_those_that_are_listed() -> None:
    with duckdb.connect() as connection:
        views = connection.execute("SELECT schema_name, view_name FROM duckdb_views() WHERE internal").fetchall()
    allowed = {
        view if schema == "main" else f"{schema}.{view}" for schema, view in views if is_allowed_relation(schema, view)
    }

    assert allowed == SYSTEM_RELATIONS
    for schema, view in views:
        if schema != "information_schema":  # its views need their schema's name
            assert is_allowed_relation("", view.upper()) == (view in SYSTEM_RELATIONS)


@pytest.mark.parametrize(
    "sql",
    [
        *(f"FROM {relation}" for relation in sorted(SYSTEM_RELATIONS)),
        *(f"FROM {function}()" for function in ("duckdb_columns", "duckdb_tables")),
        *(
            "SHOW TABLES",
            "SHOW ALL TABLES",
            "SHOW DATABASES",
            "SHOW SCHEMAS",
            "SHOW",
            "DESCRIBE",
            "SHOW TABLES FROM store",
        ),
        *("DESCRIBE facts", "SUMMARIZE facts", "DESCRIBE _store_info", "FROM _store_info", "SUMMARIZE _store_info"),
        *(
            "FROM _store_metadata",
            "FROM _store_partitions",
            "SELECT current_user, current_database(), current_schema()",
        ),
        "SELECT current_schemas(true), inet_server_addr(), pg_postmaster_start_time(), now()",
    ],
)
def test_what_is_allowed_shows_nothing_of_the_machine(store: Store, sql: str) -> None:
    rows = store.query(sql).rows()

    assert not shows_the_machine(str(rows), store)


def test_no_scalar_function_without_arguments_shows_the_machine(store: Store) -> None:
    """Walks all of this DuckDB's functions."""
    with duckdb.connect() as connection:
        sql = """SELECT DISTINCT function_name FROM duckdb_functions()
            WHERE function_type IN ('scalar', 'macro') AND len(parameters) = 0"""
        names = [name for (name,) in connection.execute(sql).fetchall()]
    for name in names:
        try:
            answer = str(store.query(f'SELECT "{name}"()').rows())
        except (QueryRefused, QueryFailed) as error:
            answer = str(error)
        assert not shows_the_machine(answer, store), name


def test_a_failing_query_shows_no_path(tmp_path: Path) -> None:
    """DuckDB names the file that it cannot read."""
    store = create_store(tmp_path / HOME / "store")
    publish(store, {"facts": {"d0": facts(1)}})
    store.query("SELECT 1")
    file = next((store.layout.tables / "facts").glob("*.parquet"))
    size = file.stat().st_size
    file.chmod(0o600)
    file.write_bytes(b"x" * size)

    for untrusted in (False, True):
        with pytest.raises(QueryFailed) as caught:
            store.query("SELECT * FROM facts", untrusted=untrusted)
        assert file.name in str(caught.value)
        assert HOME not in str(caught.value)
    store.close()


def test_the_stores_version_can_be_read_without_its_path(store: Store) -> None:
    assert store.query("SELECT * FROM _store_info").columns == ["version", "committed_at"]


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_stay() -> None:
    """What another process spills is its own; what a killed one has left fills the disk."""
    kinds = {os.getpid(): True, 1: True, 4_194_305: False, 10**30: False}
    folders = {Path(tempfile.mkdtemp(prefix=f"analytics-query-{process}-")): stays for process, stays in kinds.items()}

    remove_leavings()

    assert {folder: folder.is_dir() for folder in folders} == folders
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
