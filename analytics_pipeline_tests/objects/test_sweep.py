"""The sweeper takes what is nobody's, goes on over what it cannot look into, and says what that was."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.components.maintenance import sweep_objects
from analytics_pipeline.objects import DataStoreIO, sweep
from analytics_pipeline_tests.objects.test_experiments import experiment_of, versions_of

ORPHAN = "0" * 32


def test_a_first_persist_that_never_ended_is_removed(root: Path, base: None) -> None:
    kept = DataStoreIO.write(b"mine", "self_managed")
    experiment = experiment_of(1)
    experiment.persist()
    (root / experiment.id_experiment / "index").unlink()
    (root / ".staging" / "torn").write_bytes(b"half")
    swept = sweep()
    assert (len(swept.removed), swept.unfinished, swept.left) == (3, 1, {})
    assert {path.name for path in root.iterdir()} == {"self_managed", ".staging"}
    assert kept.read() == b"mine"


def break_index(folder: Path, tmp_path: Path) -> None:
    (folder / "index").write_bytes(b"x" * 200)


def link_index(folder: Path, tmp_path: Path) -> None:
    (folder / "index").rename(tmp_path / "elsewhere")
    (folder / "index").symlink_to(tmp_path / "elsewhere")


def link_folder(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")


@pytest.mark.parametrize("spoil", [break_index, link_index, link_folder])
def test_an_experiment_that_cannot_be_read_is_named_and_the_others_are_swept(
    spoil: object, root: Path, base: None, tmp_path: Path
) -> None:
    assert callable(spoil)
    experiments = [experiment_of(version) for version in range(3)]
    for experiment in experiments:
        experiment.persist()
        (root / experiment.id_experiment / ORPHAN).write_bytes(b"of nobody")
    spoil(root / experiments[1].id_experiment, tmp_path)
    swept = sweep()
    assert list(swept.left) == [experiments[1].id_experiment]
    assert "Nothing" in swept.left[experiments[1].id_experiment]
    assert sorted(swept.removed) == sorted(f"file:///{experiments[at].id_experiment}/{ORPHAN}" for at in (0, 2))
    assert (root / experiments[1].id_experiment / ORPHAN).exists()
    experiments[2].reload()
    assert versions_of(experiments[2]) == {2}


def test_links_and_pipes_among_unfinished_files_go_and_lead_nowhere(root: Path, base: None, tmp_path: Path) -> None:
    DataStoreIO.write(b"x", "mine")
    bystander = tmp_path / "bystander"
    bystander.write_text("kept")
    (root / ".staging" / "link").symlink_to(bystander)
    (root / ".staging" / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(root / ".staging" / "pipe")
    assert sweep().unfinished == 3
    assert bystander.read_text() == "kept"
    assert list((root / ".staging").iterdir()) == []


def test_staging_that_is_a_link_is_named_and_the_rest_is_swept(root: Path, base: None, tmp_path: Path) -> None:
    experiment = experiment_of(1)
    experiment.persist()
    (root / experiment.id_experiment / ORPHAN).write_bytes(b"of nobody")
    (root / ".staging").rmdir()
    (root / ".staging").symlink_to(tmp_path)
    swept = sweep()
    assert "link" in swept.left["unfinished files"]
    assert len(swept.removed) == 1


def test_the_nightly_maintenance_sweeps_and_tells_what_it_did(root: Path, base: None) -> None:
    experiment, broken = experiment_of(1), experiment_of(2)
    for one in (experiment, broken):
        one.persist()
    (root / experiment.id_experiment / ORPHAN).write_bytes(b"of nobody")
    (root / ".staging" / "torn").write_bytes(b"half")
    (root / broken.id_experiment / "index").write_bytes(b"")
    with dg.build_op_context() as context:
        sweep_objects(context)
        told = context.get_output_metadata("result")
    assert told is not None
    url = f"file:///{experiment.id_experiment}/{ORPHAN}"
    assert (told["removed"], told["urls"], told["unfinished"]) == (1, [url], 1)
    assert list(told["left"]) == [broken.id_experiment]
