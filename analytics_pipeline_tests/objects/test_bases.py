"""Where objects are kept: folders and object stores, and what can be neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analytics_pipeline.errors import (
    ExperimentExists,
    ObjectNotFound,
    ObjectsBaseRefused,
    ObjectUnwritable,
    PrefixRefused,
)
from analytics_pipeline.io_managers.objects import ObjectStoreIOManager
from analytics_pipeline.objects import DataStoreIO, open_base, sweep, using_base
from analytics_pipeline_tests.objects.test_experiments import experiment_of, versions_of


def test_a_base_in_memory_does_all_that_a_folder_does() -> None:
    with using_base("memory://tests-of-objects"):
        experiment = experiment_of(1)
        experiment.persist()
        with pytest.raises(ExperimentExists):
            experiment.persist()
        experiment.persist(if_exists="replace")
        experiment.reload()
        assert versions_of(experiment) == {1}
        stored = DataStoreIO.serialize_write(np.zeros(2**20), "large")
        assert stored.url.startswith("memory://tests-of-objects/large/")
        assert stored.read_deserialize().shape == (2**20,)
        with pytest.raises(PrefixRefused):
            DataStoreIO.delete("../tests-of-objects")
        assert sweep().removed == []
        assert experiment.delete() == 3
        assert DataStoreIO.delete("large") == 1
        with pytest.raises(ObjectNotFound):
            stored.read()


def test_a_read_only_base_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Set ANALYTICS_OBJECTS_URL"):
        open_base(tmp_path / "file")
    with pytest.raises(ObjectUnwritable, match="took no object"):
        DataStoreIO.write(b"x", "a", base="/proc/objects")


@pytest.mark.parametrize(
    "folder", ["", ".", "objects", "../objects", "file:objects", Path("objects"), "~nobody-here/x"]
)
def test_no_base_depends_on_the_working_directory(
    folder: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ObjectsBaseRefused, match="Set ANALYTICS_OBJECTS_URL"):
        open_base(folder)
    if folder:
        with pytest.raises(ObjectsBaseRefused):
            ObjectStoreIOManager(url=str(folder)).base()
        monkeypatch.setenv("ANALYTICS_OBJECTS_URL", str(folder))
        with pytest.raises(ObjectsBaseRefused):
            DataStoreIO.write(b"x", "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_begin_with_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(open_base("~/objects")) == str(tmp_path / "objects")
