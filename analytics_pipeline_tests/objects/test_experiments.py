"""Experiments with their objects: persist, reload, replace, delete, and what is left when any of it is stopped."""

from __future__ import annotations

import copy
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analytics_pipeline.errors import (
    ExperimentExists,
    ExperimentNotFound,
    ObjectDamaged,
    ObjectNotFound,
    ObjectTypeUnexpected,
    ObjectUnsupported,
    PrefixRefused,
    RunNotInExperiment,
)
from analytics_pipeline.objects import (
    DataStore,
    DataStoreIO,
    Experiment,
    create_experiment,
    load_experiment,
    open_base,
    sweep,
    tmpdir_ctx,
    using_base,
)
from analytics_pipeline.objects.tree import DEEPEST


def experiment_of(version: int) -> Experiment:
    experiment = create_experiment()
    fill(experiment, version)
    return experiment


def fill(experiment: Experiment, version: int) -> None:
    with experiment.run() as run:
        run.fields.version = version
        for name in "abc":
            run.fields[name] = DataStore(numbers=np.full(1000, version), version=version)


def versions_of(experiment: Experiment) -> set[int]:
    """Of its first run, all objects read; one number where the version is whole."""
    fields = experiment.runs.first().fields
    return {fields.version, *(int(value) for name in "abc" for value in fields[name].numbers)}


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_reloaded_experiment_is_the_one_that_was_persisted(base: None) -> None:
    experiment = experiment_of(1)
    fill(experiment, 2)
    experiment.persist()
    loaded = load_experiment(experiment.id_experiment)
    assert [run.id_run for run in loaded.runs] == [run.id_run for run in experiment.runs]
    assert [list(run.fields) for run in loaded.runs] == [["version", "a", "b", "c"]] * 2
    assert isinstance(loaded.runs[1].fields.a, DataStore)
    assert loaded.runs.by_id(experiment.runs[1].id_run).fields.c["version"] == 2


def test_a_persisted_experiment_is_replaced_only_where_asked(root: Path, base: None) -> None:
    experiment = experiment_of(1)
    experiment.persist()
    before = files(root)
    with pytest.raises(ExperimentExists, match='if_exists="replace"'):
        experiment.persist()
    assert files(root) == before
    experiment.runs = type(experiment.runs)(experiment.id_experiment)
    fill(experiment, 2)
    experiment.persist(if_exists="replace")
    assert len(files(root)) == len(before)
    assert len(files(root) & before) == 1, "only the index keeps its name"
    experiment.reload()
    assert versions_of(experiment) == {2}


def test_deleting_an_experiment_deletes_its_objects_and_no_others(root: Path, base: None) -> None:
    mine = DataStoreIO.write(b"mine", "self_managed")
    other, experiment = experiment_of(1), experiment_of(2)
    other.persist()
    experiment.persist()
    assert experiment.delete() == 3
    with pytest.raises(ExperimentNotFound):
        experiment.reload()
    other.reload()
    assert versions_of(other) == {1}
    assert mine.read() == b"mine"
    assert len(files(root)) == 5


def test_what_cannot_be_stored_leaves_the_former_version(root: Path, base: None) -> None:
    experiment = experiment_of(1)
    experiment.persist()
    before = files(root)
    experiment.runs.first().fields.b.bad = [0, {"x": object()}]
    with pytest.raises(ObjectUnsupported, match=r"^runs\[0\]\.fields\.b\.bad\[1\]\.x is a builtins.object"):
        experiment.persist(if_exists="replace")
    assert files(root) == before


def test_fields_as_deep_as_an_object_may_be_are_stored_in_an_experiment(base: None) -> None:
    deep: object = 1
    for _ in range(DEEPEST):
        deep = (deep,)
    experiment = experiment_of(1)
    experiment.runs.first().fields["$"] = deep
    experiment.persist()
    experiment.reload()
    assert experiment.runs.first().fields["$"] == deep


def test_what_is_too_deep_for_the_interpreter_is_refused_before_anything_is_written(root: Path, base: None) -> None:
    deep: object = 1
    for _ in range(DEEPEST):
        deep = (deep,)
    experiment = experiment_of(1)
    experiment.runs.first().fields.deep = deep

    def below(levels: int) -> None:
        below(levels - 1) if levels else experiment.persist()

    with pytest.raises(ObjectUnsupported, match=r"recursion limit .*Nothing was written"):
        below(sys.getrecursionlimit() - 200)
    assert not root.exists()


def test_a_persist_that_the_disk_refuses_leaves_the_former_version(root: Path, base: None) -> None:
    """A real refusal: the process may write no file larger than some bytes."""
    experiment = experiment_of(1)
    experiment.persist()
    before = files(root)
    code = f"""
import resource, signal, sys
import numpy as np
from analytics_pipeline.errors import ObjectUnwritable
from analytics_pipeline.objects import DataStore, load_experiment, using_base
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with using_base({str(root)!r}):
    experiment = load_experiment({experiment.id_experiment!r})
    experiment.runs.first().fields.d = DataStore(large=np.zeros(100_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        experiment.persist(if_exists="replace")
    except ObjectUnwritable:
        sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
    assert files(root) == before
    experiment.reload()
    assert versions_of(experiment) == {1}


KILLED = """
import sys
import numpy as np
from analytics_pipeline.objects import DataStore, Durability, create_experiment, using_base
root, id_experiment = sys.argv[1:]
with using_base(root, durability=Durability.CACHE):
    for version in range(2, 1_000_000):
        experiment = create_experiment(id_experiment)
        with experiment.run() as run:
            run.fields.version = version
            for name in "abc":
                run.fields[name] = DataStore(numbers=np.full(1000, version), version=version)
        experiment.persist(if_exists="replace")
        try:
            print(version, flush=True)
        except BrokenPipeError:
            sys.exit()
"""


def test_a_killed_persist_leaves_one_whole_version_and_no_orphan(root: Path, base: None) -> None:
    """SIGKILL at any moment, ten times: what was acknowledged is there, or what came after it."""
    experiment = experiment_of(1)
    experiment.persist()
    for seed in range(10):
        command = [sys.executable, "-c", KILLED, str(root), experiment.id_experiment]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(random.Random(seed).random() / 50)  # noqa: S311 - where the kill strikes
            process.send_signal(signal.SIGKILL)
            acknowledged = int([first, *process.stdout.read().splitlines()][-1] or 0)
        experiment.reload()
        (version,) = versions_of(experiment)
        assert version >= acknowledged > 1
        sweep()
        assert len(files(root)) == 4, files(root)
        experiment.reload()
        assert versions_of(experiment) == {version}


def test_persist_and_sweep_wait_for_who_is_writing_the_experiment(root: Path) -> None:
    """Two at once would both find no former version, and a sweeper would take objects that no index names yet."""
    place = open_base(root)
    experiment = create_experiment(base=place)
    fill(experiment, 1)
    waiting = [threading.Thread(target=experiment.persist), threading.Thread(target=sweep, args=(place,))]
    with place.exclusive(experiment.id_experiment):
        objects = place.entries(experiment.id_experiment)
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join(0.3)
            assert thread.is_alive()
        assert place.entries(experiment.id_experiment) == objects == []
    for thread in waiting:
        thread.join()
    experiment.reload()


def test_a_persisted_experiment_is_what_persist_gives(base: None) -> None:
    experiment = experiment_of(1)

    assert experiment.persist() is experiment
    assert experiment.persist(if_exists="replace") is experiment


def test_a_data_store_in_a_container_is_an_object_of_its_own(root: Path, base: None) -> None:
    experiment = create_experiment()
    with experiment.run() as run:
        run.fields.folds = [DataStore(a=np.full(3, fold)) for fold in range(2)]
        run.fields.named = {"deep": ({"x": DataStore(b=1, inner=DataStore(c=2))},)}
    assert len(files(root)) == 0
    experiment.persist()
    assert len(files(root)) == 4  # three and the index; what is in a DataStore lies with it

    fields = load_experiment(experiment.id_experiment).runs.first().fields
    assert [type(fold) for fold in fields.folds] == [DataStore] * 2
    assert [fold.a.tolist() for fold in fields.folds] == [[0] * 3, [1] * 3]
    assert fields.named["deep"][0]["x"] == DataStore(b=1, inner=DataStore(c=2))
    assert type(fields.named["deep"][0]["x"].inner) is DataStore

    before = files(root)
    experiment.persist(if_exists="replace")
    sweep()
    assert len(files(root)) == 4
    assert len(files(root) & before) == 1  # the index
    assert experiment.delete() == 3
    assert not files(root)


def test_a_data_store_in_an_object_comes_back_as_one(base: None) -> None:
    stored = DataStoreIO.serialize_write([DataStore(a=1), {"x": DataStore({"$": 2})}], "mine").read_deserialize()

    assert stored == [DataStore(a=1), {"x": DataStore({"$": 2})}]
    assert type(stored[1]["x"]) is DataStore


def test_the_sweeper_spares_what_a_living_process_writes(root: Path, base: None) -> None:
    """It waits for the persist that is under way."""
    experiment = experiment_of(1)
    experiment.persist()
    command = [sys.executable, "-c", KILLED, str(root), experiment.id_experiment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline()
            sweep()
            experiment.reload()
            assert len(versions_of(experiment)) == 1
        process.kill()


def test_a_damaged_index_is_told_and_not_replaced(root: Path, base: None) -> None:
    experiment = experiment_of(1)
    experiment.persist()
    index = root / experiment.id_experiment / "index"
    index.write_bytes(index.read_bytes()[:-1])
    for act in (experiment.reload, lambda: experiment.persist(if_exists="replace")):
        with pytest.raises(ObjectDamaged, match=experiment.id_experiment):
            act()
    assert len(files(root)) == 4


def test_an_object_that_is_gone_is_named(root: Path, base: None) -> None:
    url = DataStore(a=1).to_url()
    assert DataStore.from_url(url).a == 1
    assert DataStoreIO.delete("datastores") == 1
    with pytest.raises(ObjectNotFound, match=url):
        DataStore.from_url(url)
    assert DataStoreIO.delete("datastores") == 0


def test_an_object_of_another_type_than_expected_is_refused(base: None) -> None:
    stored = DataStoreIO.serialize_write([1], "a")
    assert stored.read_deserialize(list) == [1]
    with pytest.raises(ObjectTypeUnexpected, match=r"a list, not a dict"):
        stored.read_deserialize(dict)
    with pytest.raises(ObjectTypeUnexpected, match=r"a list, not a dict"):
        DataStore.from_url(stored.url)
    with pytest.raises(TypeError, match="use serialize_write"):
        DataStoreIO.write([1], "a")  # type: ignore[arg-type] # what users do


def test_altered_objects_are_damage(root: Path, base: None) -> None:
    stored = DataStoreIO.write(b"11111", "a")
    path = root / stored.url.removeprefix("file:///")
    path.write_bytes(path.read_bytes().replace(b"11111", b"11112"))
    for act in (stored.read, stored.read_deserialize, stored.facts):
        with pytest.raises(ObjectDamaged, match=stored.url):
            act()


def test_names_are_values_or_attribute_errors() -> None:
    store = DataStore(a=1)
    store.b = 2
    assert (list(store), store["b"], store.a) == (["a", "b"], 2, 1)
    del store.a
    with pytest.raises(AttributeError, match="has no 'a'"):
        store.a  # noqa: B018
    with pytest.raises(AttributeError, match="has no 'a'"):
        del store.a
    with pytest.raises(AttributeError, match=r"write \['items'\] instead"):
        store.items = 1  # type: ignore[method-assign,assignment] # what users do
    with pytest.raises(TypeError, match="has names as keys, not 1"):
        store[1] = 2  # type: ignore[index] # what users do


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))],  # noqa: S301 - of this test
    ids=["copy", "deep", "pickle"],
)
def test_a_copy_has_the_values_and_goes_its_own_way(copied: Callable[[DataStore], DataStore]) -> None:
    store = DataStore(a=[1])
    twin = copied(store)
    twin.b = 2
    assert (type(twin), dict(twin), dict(store)) == (DataStore, {"a": [1], "b": 2}, {"a": [1]})
    assert (twin.a is store.a) == (copied is copy.copy)


def test_a_mapping_that_holds_itself_is_copied() -> None:
    store = DataStore()
    store.self = store
    twin = copy.deepcopy(store)
    assert twin.self is twin
    assert twin is not store


def test_an_experiment_without_runs_says_so(base: None) -> None:
    experiment = create_experiment()
    with pytest.raises(RunNotInExperiment, match=r"with experiment\.run\(\)"):
        experiment.runs.first()
    experiment.persist()
    experiment.reload()
    assert len(experiment.runs) == 0
    with pytest.raises(PrefixRefused, match="no id of an experiment"):
        create_experiment("self_managed")


def test_the_scratch_folder_is_gone_with_its_objects() -> None:
    with tmpdir_ctx() as folder:
        DataStore(a=1).to_url()
        assert len(files(Path(folder))) == 1
    assert not Path(folder).exists()


@pytest.mark.parametrize("if_exists", ["Fail", "", "overwrite", None])
def test_a_slip_in_if_exists_replaces_nothing(if_exists: str, tmp_path: Path) -> None:
    with using_base(str(tmp_path)):
        experiment = create_experiment()
        experiment.persist()
        before = sorted(tmp_path.rglob("*"))

        with pytest.raises(ValueError, match="if_exists is 'fail' or 'replace', not"):
            experiment.persist(if_exists=if_exists)  # type: ignore[arg-type]

        assert sorted(tmp_path.rglob("*")) == before
