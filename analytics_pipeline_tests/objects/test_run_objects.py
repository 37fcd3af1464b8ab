"""Objects among the fields of a logged run: where they lie, and that none is left over."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.errors import AppendFailed, LoggedValueRefused, NameRefused, ObjectUnsupported
from analytics_pipeline.experiments import log_config, log_run
from analytics_pipeline.objects import DataStore, create_experiment, sweep, using_base
from analytics_pipeline_tests.experiments.scenario import rows

ID = "d65df69e-1175-44a5-be2f-2232765703b8"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def objects(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def fields_of(run_id: str, lake: Path) -> Any:
    sql = f"SELECT fields FROM runs WHERE run_id = '{run_id}'"
    return json.loads(rows(lake / "analytics.duckdb", sql)[0][0])


def test_objects_of_a_logged_run_lie_under_its_experiment_and_go_with_it(root: Path, base: None, lake: Path) -> None:
    log_run("run 1", {}, experiment_id=ID, fields={"a": DataStore(x=1)}, root=lake)
    log_run("run-2", {}, experiment_id=ID, fields={"a": [DataStore(x=2)], "b": DataStore(x=3)}, root=lake)
    fields = fields_of("run-2", lake)
    assert fields["b"].startswith(f"file:///{ID}/runs/run-2/")
    assert [DataStore.from_url(url).x for url in (fields["a"][0], fields["b"])] == [2, 3]
    assert len(objects(root)) == 3
    assert create_experiment(ID).delete() == 3
    assert objects(root) == []


def test_a_run_without_an_experiment_has_a_place_of_its_own_in_each_lakehouse(
    root: Path, base: None, lake: Path, tmp_path: Path
) -> None:
    for value, (folder, experiment_id) in enumerate([(lake, None), (tmp_path / "other", None)]):
        log_run("r", {}, experiment_id=experiment_id, fields={"a": DataStore(x=value)}, root=folder)
    assert len(objects(root)) == 2
    assert DataStore.from_url(fields_of("r", lake)["a"]).x == 0
    assert DataStore.from_url(fields_of("r", tmp_path / "other")["a"]).x == 1


@pytest.mark.parametrize("experiment_id", [None, ID, "any text/.."])
def test_a_run_that_is_logged_again_has_its_new_objects_alone(
    experiment_id: str | None, root: Path, base: None, lake: Path
) -> None:
    for value in range(5):
        log_run("r/../x", {}, experiment_id=experiment_id, fields={"a": DataStore(x=value), "v": value}, root=lake)
        log_run("other", {}, experiment_id=experiment_id, fields={"a": DataStore(x=-1)}, root=lake)
    assert len(objects(root)) == 2
    fields = fields_of("r/../x", lake)
    assert DataStore.from_url(fields["a"]).x == fields["v"] == 4
    assert DataStore.from_url(fields_of("other", lake)["a"]).x == -1


def test_a_run_that_is_refused_keeps_its_former_objects_and_leaves_no_new_ones(
    root: Path, base: None, lake: Path
) -> None:
    log_run("r", {"LR": 1}, fields={"a": DataStore(x=1)}, root=lake)
    before = objects(root)
    with pytest.raises(LoggedValueRefused):
        log_run("r", {}, fields={"a": DataStore(x=2), "half": "\ud800"}, root=lake)
    with pytest.raises(ObjectUnsupported):
        log_run("r", {}, fields={"a": DataStore(x=2), "b": DataStore(x=object())}, root=lake)
    with pytest.raises(NameRefused, match="configs has LR"):
        log_run("r", {"lr": 1}, fields={"a": DataStore(x=2)}, root=lake)
    assert objects(root) == before
    assert DataStore.from_url(fields_of("r", lake)["a"]).x == 1


def test_what_a_row_may_name_stays_where_the_disk_failed_and_goes_with_the_next_row(
    root: Path, base: None, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose write failed late may still come into sight: its objects must be there then."""
    log_run("r", {}, fields={"a": DataStore(x=1)}, root=lake)
    with monkeypatch.context() as patch:
        patch.setattr("analytics_pipeline.store.append.recovery.fsync_path", fail)
        with pytest.raises(AppendFailed):
            log_run("r", {}, fields={"a": DataStore(x=2)}, root=lake)
    assert len(objects(root)) == 2
    log_config("r", {"lr": 1}, root=lake)
    assert DataStore.from_url(fields_of("r", lake)["a"]).x == 2
    log_run("r", {}, fields={"a": DataStore(x=3)}, root=lake)
    assert len(objects(root)) == 1


def fail(_: object) -> None:
    raise OSError("the disk is full")


def test_persisting_and_sweeping_an_experiment_spares_the_objects_of_logged_runs(
    root: Path, base: None, lake: Path
) -> None:
    experiment = create_experiment(ID)
    with experiment.run() as run:
        run.fields.a = DataStore(x=0)
    log_run("r", {}, experiment_id=ID, fields={"a": DataStore(x=1)}, root=lake)
    experiment.persist()
    experiment.persist(if_exists="replace")
    assert sweep().removed == []
    assert DataStore.from_url(fields_of("r", lake)["a"]).x == 1
    assert experiment.delete() == 2


def log_often(root: Path, lake: Path, number: int) -> None:
    with using_base(root):
        for value in range(20):
            log_run("r", {}, fields={"a": DataStore(x=[number, value]), "v": [number, value]}, root=lake)


def test_of_two_processes_that_log_one_run_the_row_that_counts_has_its_object(
    root: Path, base: None, lake: Path
) -> None:
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=log_often, args=(root, lake, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    fields = fields_of("r", lake)
    assert DataStore.from_url(fields["a"]).x == fields["v"]
    assert len(objects(root)) == 1
