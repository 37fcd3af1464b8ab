"""What names the objects of somebody else never gets them removed: copied experiments, names that look like others."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.errors import ExperimentCopied, ExperimentNotFound, ObjectRefused
from analytics_pipeline.experiments import log_run
from analytics_pipeline.io_managers.objects import object_path
from analytics_pipeline.objects import DataStore, create_experiment, load_experiment, open_base, sweep
from analytics_pipeline.objects.names import digest, plain_name, run_prefix
from analytics_pipeline.objects.serialization import encode
from analytics_pipeline_tests.experiments.scenario import rows
from analytics_pipeline_tests.objects.test_experiments import experiment_of, files, versions_of

ORPHAN = "0" * 32


def test_a_copied_folder_is_no_experiment_and_never_costs_the_original_its_objects(root: Path, base: None) -> None:
    original = experiment_of(1)
    original.persist()
    id_copy = str(uuid.uuid4())
    shutil.copytree(root / original.id_experiment, root / id_copy)
    (root / id_copy / ORPHAN).write_bytes(b"of nobody")
    copy = create_experiment(id_copy)
    for act in (copy.reload, copy.persist, lambda: copy.persist(if_exists="replace"), lambda: load_experiment(id_copy)):
        with pytest.raises(ExperimentCopied, match=f"experiment {id_copy} names 'file:///{original.id_experiment}/"):
            act()
    swept = sweep()
    assert (list(swept.left), swept.removed) == ([id_copy], [])
    assert len(files(root)) == 9
    original.reload()
    assert versions_of(original) == {1}
    assert copy.delete() == 4
    with pytest.raises(ExperimentNotFound):
        copy.reload()
    original.reload()
    assert versions_of(original) == {1}


@pytest.mark.parametrize(
    "run",
    [
        None,
        {"id_run": "r"},
        {"id_run": 1, "fields": {}},
        {"id_run": "r", "fields": {"a": 1}},
        {"id_run": "r", "fields": {"a": {}}},
        {"id_run": "r", "fields": {"a": {"value": 1, "url": "file:///a"}}},
    ],
)
def test_an_index_of_another_kind_is_refused_and_does_not_stop_the_sweeper(run: object, base: None) -> None:
    odd, sound = create_experiment(), experiment_of(1)
    sound.persist()
    open_base().write(f"{odd.id_experiment}/index", encode({"version": 1, "runs": [run]}))
    for act in (odd.reload, lambda: odd.persist(if_exists="replace")):
        with pytest.raises(ObjectRefused, match="of another kind"):
            act()
    assert list(sweep().left) == [odd.id_experiment]


def test_a_run_whose_name_is_the_digest_of_another_has_a_place_of_its_own(
    root: Path, base: None, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    names = ["Run A", digest("Run A"), plain_name("Run A")]
    for name in names:
        log_run(name, {}, fields={"a": DataStore(of=name)}, root=lake)
    urls = dict(rows(lake / "analytics.duckdb", "SELECT run_id, fields FROM runs"))
    assert [DataStore.from_url(json.loads(urls[name])["a"]).of for name in names] == names


def test_texts_have_names_of_their_own_that_no_object_has() -> None:
    texts = ["a", "A", "_", "__", "", ORPHAN, "x" * 101]
    for _ in range(3):
        texts += [name for text in texts for name in (digest(text), plain_name(text)) if name not in texts]
    names = {plain_name(text) for text in texts}
    assert len(names) == len(set(texts))
    assert not names & {digest(text) for text in texts}
    assert run_prefix("lake", None, "r") != run_prefix("lake", "_", "r")


@pytest.mark.parametrize("partition", [None, "monday"])
def test_no_object_of_an_asset_lies_where_objects_of_another_are(partition: str | None) -> None:
    """A path cannot be a file and a folder."""
    place = object_path(dg.AssetKey(["a"]), partition)
    name = place.rpartition("/")[2]
    for part in (name, "" if partition is None else f"partition:{partition}"):
        assert not object_path(dg.AssetKey(["a", part]), None).startswith(f"{place}/")
    long = ["x" * 90] * 5
    assert object_path(dg.AssetKey(long), None) != object_path(dg.AssetKey(["/".join(long)]), None)
