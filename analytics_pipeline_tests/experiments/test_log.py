"""Logging, as a training script sees it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
from collections import OrderedDict, UserList, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from analytics_pipeline.errors import ConfigKeyRefused, LakehouseUnusable, LoggedValueRefused, NameRefused
from analytics_pipeline.experiments import (
    MetricsBuffer,
    leaderboard,
    log_artifact,
    log_config,
    log_dataset,
    log_metrics,
    log_run,
    metric_trend,
)
from analytics_pipeline.experiments.rows import Clock
from analytics_pipeline.objects import DataStore
from analytics_pipeline.objects.mapping import AttributeMapping
from analytics_pipeline_tests.experiments.scenario import rows

HEAVY = ("polars", "pyarrow", "duckdb", "dagster", "pydantic", "numpy")


def files(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.parquet"))


def test_importing_it_brings_in_nothing_that_takes_time() -> None:
    """A training script that logs nothing must not pay for Polars, Arrow, DuckDB or Dagster."""
    code = f"import sys, analytics_pipeline.experiments; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_logging_brings_no_dagster(root: Path) -> None:
    code = (
        "import sys, analytics_pipeline.experiments as e; e.log_run('r', {'lr': 1}, root=sys.argv[1]); "
        "e.leaderboard(root=sys.argv[1]); print('dagster' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "False"


def test_a_call_appends_one_file_to_each_table_and_changes_none(root: Path) -> None:
    log_run("r", {"lr": 0.1}, root=root)
    before = {path: path.read_bytes() for path in files(root)}
    log_metrics("r", 1, {"val_f1": 0.5, "val_loss": 0.4}, root=root)

    assert [path.parent.name for path in before] == ["configs", "runs"]
    assert len(files(root)) == 3
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_run_logged_three_times_is_one_row_with_its_latest_status(root: Path) -> None:
    for status in ("running", "done", "done"):
        log_run("r", {"lr": 0.1}, status, root=root)

    assert rows(root / "analytics.duckdb", "SELECT run_id, status FROM runs") == [("r", "done")]
    assert leaderboard(root=root).rows() == [("r", "done", 0.1, None, None, None)]


def test_a_value_logged_again_counts_instead_of_the_former_one(root: Path) -> None:
    log_metrics("r", 1, {"val_f1": 0.9}, root=root)
    log_metrics("r", 1, {"val_f1": 0.5}, root=root)

    assert metric_trend("r", root=root).rows() == [(1, "val_f1", 0.5)]


def test_a_config_is_kept_where_the_last_call_gave_none(root: Path) -> None:
    log_run("r", {"lr": 0.1}, root=root)
    log_run("r", {}, "done", root=root)

    assert leaderboard(root=root).rows() == [("r", "done", 0.1, None, None, None)]


def test_a_status_alone_hides_nothing_that_was_logged_of_the_run(root: Path) -> None:
    log_run("r", {"lr": 0.1, "name": ""}, experiment_id="sweep", fields={"n": 1}, root=root)
    log_run("other", {"dropout": 0.5}, root=root)
    log_run("r", {}, "done", root=root)
    sql = "SELECT run_id, status, experiment_id, fields, lr, name, dropout FROM runs ORDER BY run_id DESC"
    other = ("other", "running", None, None, None, None, 0.5)

    assert rows(root / "analytics.duckdb", sql) == [("r", "done", "sweep", '{"n": 1}', 0.1, "", None), other]
    log_run("r", {}, "archived", fields={"n": 2}, root=root)
    assert rows(root / "analytics.duckdb", sql) == [("r", "archived", "sweep", '{"n": 2}', 0.1, "", None), other]
    log_run("r", {"dropout": 0.2}, "again", experiment_id="second", root=root)
    assert rows(root / "analytics.duckdb", sql)[0] == ("r", "again", "second", '{"n": 2}', None, None, 0.2)
    newest = "SELECT logged_at = (SELECT max(logged_at) FROM experiments_raw.runs) FROM runs WHERE run_id = 'r'"
    assert rows(root / "analytics.duckdb", newest) == [(True,)]


def test_a_name_that_is_empty_is_a_value_of_a_config(root: Path) -> None:
    log_run("r", {"name": "first"}, root=root)
    log_run("r", {"name": ""}, root=root)

    assert rows(root / "analytics.duckdb", "SELECT name FROM runs") == [("",)]


def test_a_config_logged_anew_replaces_the_former_one_as_a_whole(root: Path) -> None:
    log_config("r", {"lr": 0.1, "dropout": 0.5}, root=root)
    log_config("r", {"lr": 0.2}, root=root)

    assert rows(root / "analytics.duckdb", "SELECT run_id, lr, dropout FROM configs") == [("r", 0.2, None)]


def test_integers_stay_integers_when_rows_have_different_keys(root: Path) -> None:
    log_run("a", {"hidden_dim": 64}, root=root)
    log_run("b", {"layers": 3}, root=root)

    found = rows(root / "analytics.duckdb", "SELECT hidden_dim, layers, typeof(hidden_dim) FROM configs ORDER BY 1")
    assert found == [(64, None, "BIGINT"), (None, 3, "BIGINT")]


def test_scalars_of_numpy_enums_and_paths_are_what_they_stand_for(root: Path) -> None:
    class Optimizer(StrEnum):
        ADAM = "adam"

    config = {
        "lr": np.float32(0.5),
        "layers": np.int64(3),
        "fast": np.bool_(1),
        "opt": Optimizer.ADAM,
        "at": Path("x"),
    }
    log_config("r", config, root=root)

    assert rows(root / "analytics.duckdb", 'SELECT lr, layers, fast, opt, "at" FROM configs') == [
        (0.5, 3, True, "adam", "x")
    ]


def test_what_is_no_scalar_is_json_in_configs_and_not_in_runs(root: Path) -> None:
    log_run("r", {"betas": (0.9, 0.99), "net": {"layers": {3, 1}}, "lr": 1}, root=root)
    found = rows(root / "analytics.duckdb", "SELECT betas, net FROM configs")[0]

    assert [json.loads(text) for text in found] == [[0.9, 0.99], {"layers": [1, 3]}]
    described = rows(root / "analytics.duckdb", "DESCRIBE runs")
    assert [row[0] for row in described] == ["run_id", "status", "logged_at", "experiment_id", "fields", "lr"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10"), "0.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (timedelta(seconds=90), "0:01:30"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_what_json_does_not_know_is_a_text_without_quotes_of_json(root: Path, value: object, text: str) -> None:
    log_run("r", {"k": value, "parts": [value]}, fields={"k": value}, root=root)

    for view in ("runs", "configs"):
        assert rows(root / "analytics.duckdb", f"SELECT k FROM {view}") == [(text,)]
    (parts, fields) = rows(
        root / "analytics.duckdb", "SELECT c.parts, r.fields FROM configs c JOIN runs r USING (run_id)"
    )[0]
    assert (json.loads(parts), json.loads(fields)) == ([text], {"k": text})


def test_json_is_strict_and_has_null_for_nan_and_infinity(root: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    odd = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}], "d": np.array([np.nan, 2]), "e": np.float64("nan")}
    log_run("r", {"odd": odd}, fields=odd, root=root)
    texts = rows(root / "analytics.duckdb", "SELECT c.odd, r.fields FROM configs c JOIN runs r USING (run_id)")[0]

    for text in texts:
        found = json.loads(text, parse_constant=refuse)
        assert found == {"a": None, "b": [None, {"c": [None, 1.5]}], "d": [None, 2.0], "e": None}


MISSING = [
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    np.ma.masked,
    pa.scalar(None, pa.int64()),
    np.array(pd.NA, dtype=object),
]


@pytest.mark.parametrize("missing", MISSING, ids=lambda one: type(one).__name__)
def test_a_missing_value_of_another_package_is_null_as_none_is(root: Path, missing: object) -> None:
    """As text it would turn the whole column into text; `masked` was 0."""
    log_run("a", {"lr": 0.1, "n": 3, "at": "x"}, fields={"k": 1}, root=root)
    log_run("b", {"lr": missing, "n": missing, "parts": [missing, 1]}, fields={"k": missing}, root=root)

    columns = "c.lr, c.n, parts, fields, typeof(c.lr), typeof(r.n)"
    sql = f"SELECT {columns} FROM configs c JOIN runs r USING (run_id) WHERE run_id = 'b'"
    assert rows(root / "analytics.duckdb", sql) == [(None, None, "[null, 1]", '{"k": null}', "DOUBLE", "BIGINT")]


@pytest.mark.parametrize("missing", MISSING, ids=lambda one: type(one).__name__)
def test_a_missing_value_is_no_metric_as_none_is_none(root: Path, missing: Any) -> None:
    with pytest.raises(LoggedValueRefused, match="must be a number"):
        log_metrics("r", 1, {"val_f1": 0.5, "loss": missing}, root=root)

    assert not files(root)


def test_nan_is_a_number_and_not_missing(root: Path) -> None:
    log_run("r", {"lr": math.nan, "momentum": np.float32("nan")}, root=root)

    assert rows(root / "analytics.duckdb", "SELECT isnan(lr), isnan(momentum) FROM configs") == [(True, True)]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (UserList(["a", "b"]), ["a", "b"]),
        (deque([1, None]), [1, None]),
        (range(2), [0, 1]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({3, 1}, [1, 3]),
        (OrderedDict(a=1).keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["2026-01-02", "NaT"], "M8[D]"), ["2026-01-02", None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series(pd.to_datetime(["2026-01-02", None])), ["2026-01-02T00:00:00", None]),
        (pl.Series([1, None]), [1, None]),
        (pa.array([1, None]), [1, None]),
        (pa.chunked_array([[1], [None]]), [1, None]),
        (pa.scalar([1, None]), [1, None]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_every_sequence_is_a_list_of_json(root: Path, value: object, told: list[object]) -> None:
    log_run("r", {"k": value, "net": {"layers": value}}, fields={"k": value}, root=root)
    texts = rows(root / "analytics.duckdb", "SELECT k, net, fields FROM configs JOIN runs USING (run_id)")[0]

    assert [json.loads(text) for text in texts] == [told, {"layers": told}, {"k": told}]


@pytest.mark.parametrize(("value", "stored"), [(pa.scalar(3), 3), (pa.scalar("x"), "x"), (pa.scalar(0.5), 0.5)])
def test_a_scalar_of_arrow_is_what_it_stands_for(root: Path, value: object, stored: object) -> None:
    log_config("r", {"k": value}, root=root)

    assert rows(root / "analytics.duckdb", "SELECT k FROM configs") == [(stored,)]


@pytest.mark.parametrize("path", [None, pd.NA, 3, b"x"])
def test_what_is_no_path_is_refused_and_not_its_text(root: Path, path: Any) -> None:
    with pytest.raises(LoggedValueRefused, match="path"):
        log_dataset("d", "train", 1, path, root=root)
    with pytest.raises(LoggedValueRefused, match="path"):
        log_artifact("r", path, "model", 1, root=root)

    assert not files(root)


@pytest.mark.parametrize("config", [None, ["lr"], "lr"])
def test_a_config_that_is_no_mapping_is_refused_by_name(root: Path, config: Any) -> None:
    with pytest.raises(LoggedValueRefused, match=r"config is .*must be a mapping"):
        log_run("r", config, root=root)
    with pytest.raises(LoggedValueRefused, match=r"metrics is .*must be a mapping"):
        log_metrics("r", 1, config, root=root)

    assert not files(root)


@pytest.mark.parametrize("fields", ["abc", [("a", 1)], 3, DataStore(a=1)])
def test_fields_that_are_no_mapping_are_refused_by_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: Any
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    with pytest.raises(LoggedValueRefused, match=r"fields is .*must be a mapping"):
        log_run("r", {}, fields=fields, root=root)

    assert not files(root)
    assert not (tmp_path / "home").exists()


def test_every_mapping_is_one_as_a_dictionary_is(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once stood there as its `repr`, and its DataStores were stored nowhere."""
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    inner = MappingProxyType({"item": 1, "dtype": [2.0, math.nan]})
    log_run("r", {"opt": inner}, fields=AttributeMapping(n=inner, deep=[AttributeMapping(s=DataStore(x=3))]), root=root)
    ((fields, opt),) = rows(root / "analytics.duckdb", "SELECT fields, opt FROM runs JOIN configs USING (run_id)")
    told = json.loads(fields)

    assert json.loads(opt) == told["n"] == {"item": 1, "dtype": [2.0, None]}
    assert DataStore.from_url(told["deep"][0]["s"]).x == 3


@pytest.mark.parametrize(
    "nested", [lambda one: one, lambda one: {"a": one}, lambda one: [MappingProxyType({"a": one})]]
)
def test_an_object_in_a_config_is_refused_by_name(root: Path, nested: Callable[[object], object]) -> None:
    for call in (log_config, log_run):
        with pytest.raises(LoggedValueRefused, match=r"config result is .*belongs? among the fields"):
            call("r", {"lr": 1, "result": nested(DataStore(a=1))}, root=root)

    assert not files(root)


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for call in (
        lambda: log_run("r", {"lr": 1}, root=tmp_path / "file"),
        lambda: log_metrics("r", 1, {"a": 1}, root=tmp_path / "file"),
        lambda: leaderboard(root=tmp_path / "file"),
    ):
        with pytest.raises(LakehouseUnusable, match=re.escape(str(tmp_path / "file"))):
            call()


def test_more_about_a_run_is_kept_with_it(root: Path) -> None:
    log_run("r", {}, experiment_id="sweep", fields={"confusion": "file:///x", "n": 3}, root=root)
    experiment, fields = rows(root / "analytics.duckdb", "SELECT experiment_id, fields FROM runs")[0]

    assert experiment == "sweep"
    assert json.loads(fields) == {"confusion": "file:///x", "n": 3}


def test_an_object_among_the_fields_is_stored_by_itself_and_its_url_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    result = DataStore()
    result.matrix = np.eye(3)
    log_run("r", {}, fields={"result": result, "n": 3, "parts": [{"first": result}]}, root=root)
    fields = json.loads(rows(root / "analytics.duckdb", "SELECT fields FROM runs")[0][0])

    assert fields["n"] == 3
    assert np.array_equal(DataStore.from_url(fields["result"]).matrix, np.eye(3))
    assert np.array_equal(DataStore.from_url(fields["parts"][0]["first"]).matrix, np.eye(3))


def test_no_object_is_stored_with_a_run_that_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(LoggedValueRefused):
        log_run("r", {}, fields={"result": DataStore(), "circle": circle}, root=root)

    assert not (tmp_path / "home").exists()


def test_a_number_that_python_does_not_have_is_its_text(root: Path) -> None:
    third = np.longdouble(1) / 3
    log_run("r", {"k": third}, fields={"k": [third]}, root=root)
    ((fields, k),) = rows(root / "analytics.duckdb", "SELECT fields, configs.k FROM runs JOIN configs USING (run_id)")

    assert np.longdouble(k) == np.longdouble(json.loads(fields)["k"][0]) == third


def test_datasets_and_artifacts_count_as_logged_last(root: Path) -> None:
    log_dataset("d", "digits", 1797, "data/digits", root=root)
    log_dataset("d", "digits", 1800, "data/digits", root=root)
    log_artifact("r", "model.npz", "model", 10, root=root)
    log_artifact("r", "model.npz", "model", 12, root=root)

    database = root / "analytics.duckdb"
    assert rows(database, "SELECT * EXCLUDE (logged_at) FROM datasets") == [("d", "digits", 1800, "data/digits")]
    assert rows(database, "SELECT * EXCLUDE (logged_at) FROM artifacts") == [("r", "model.npz", "model", 12)]


def test_nan_and_infinity_are_values(root: Path) -> None:
    log_metrics("r", 1, {"a": math.nan, "b": math.inf, "c": 10**400}, root=root)

    values = metric_trend("r", root=root)["value"].to_list()
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, math.inf]


@pytest.mark.parametrize("key", ["run_id", "status", "logged_at", "Run_ID", "fields", "experiment_id", "", 3])
def test_a_key_that_is_a_column_of_the_table_is_refused_by_name(root: Path, key: str) -> None:
    with pytest.raises(ConfigKeyRefused, match=repr(key)):
        log_run("r", {"lr": 1, key: 2}, root=root)

    assert not files(root)


def test_keys_that_sql_cannot_tell_apart_are_refused(root: Path) -> None:
    with pytest.raises(ConfigKeyRefused, match="'LR'"):
        log_run("r", {"lr": 1, "LR": 2}, root=root)
    log_run("r", {"lr": 1}, root=root)
    with pytest.raises(NameRefused, match="LR"):
        log_run("s", {"LR": 1}, root=root)


@pytest.mark.parametrize(
    ("run_id", "epoch", "value"),
    [
        ("", 1, 0.5),
        (None, 1, 0.5),
        ("r", 1.5, 0.5),
        ("r", True, 0.5),
        ("r", 1, "0.5"),
        ("r", 1, None),
        ("\ud800", 1, 0.5),
    ],
)
def test_what_cannot_be_a_metric_is_refused_and_nothing_logged(
    root: Path, run_id: str, epoch: int, value: float
) -> None:
    with pytest.raises(LoggedValueRefused, match="Nothing was logged"):
        log_metrics(run_id, epoch, {"val_f1": value}, root=root)

    assert not files(root)


def test_no_metrics_are_no_file(root: Path) -> None:
    log_metrics("r", 1, {}, root=root)

    assert not files(root)


def test_moments_go_up_within_a_process_whatever_the_clock_does() -> None:
    clock, taken = Clock(), list[int]()

    def take() -> None:
        taken.extend(clock.take(1) for _ in range(1000))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(taken)) == 4000
    assert clock.take(10) + 10 <= clock.take(1)


def test_a_relative_root_stays_where_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with MetricsBuffer("r", root="lake") as log:
        log(1, {"a": 1.0})
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

    assert rows(tmp_path / "lake" / "analytics.duckdb", "SELECT run_id, epoch, value FROM metrics") == [("r", 1, 1.0)]


def test_without_a_root_it_is_the_one_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))
    log_run("r", {})

    assert leaderboard()["run_id"].to_list() == ["r"]
    assert (tmp_path / "home" / "store" / "experiments" / "analytics.duckdb").exists()
