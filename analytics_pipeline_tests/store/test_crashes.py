"""A process may die between any two changes to the disk; the store is then the old or the new version, whole."""

from __future__ import annotations

import signal
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from analytics_pipeline.store import Change, Store, create_store, open_store
from analytics_pipeline.store.verify import verify_store
from analytics_pipeline_tests.store.processes import die_at, pair_of, published_version, start
from analytics_pipeline_tests.store.scenario import change_of, files_listed, files_on_disk, publish

_FEWEST_STEPS = 12
STRIDE = 4
AT = pytest.mark.parametrize(
    "offset", [0, *(pytest.param(offset, marks=pytest.mark.slow) for offset in range(1, STRIDE))]
)
"""Every fourth step in each build, the others in the slow suite."""


def dies(step: int, action: str, root: Path, argument: int) -> bool:
    """Whether the action was killed before its step of that number; False where it has fewer steps."""
    process = start(die_at, step, action, root, argument)
    process.join(60)
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


def assert_pair_is(store: Store, *versions: int) -> None:
    """Both tables hold one and the same version, one of those given."""
    assert published_version(store, 1) in versions
    assert store.query("SELECT count(*) FROM (SELECT * FROM dataset EXCEPT SELECT * FROM results)").item() == 0
    assert store.query("SELECT count(DISTINCT label) FROM dataset").item() == 1


def assert_nothing_is_left_behind(store: Store) -> None:
    """After a sweep every file is listed, and neither drafts nor unclaimed catalogs lie about."""
    store.sweep()
    assert files_on_disk(store) == files_listed(store)
    assert not list(store.layout.staging.iterdir())
    assert max(int(path.stem) for path in store.layout.catalogs.iterdir()) == store.manifest().version
    assert store.layout.catalog.resolve() == store.layout.catalog_of(store.manifest().version)


@AT
def test_kill_at_any_step_of_a_commit_leaves_the_old_or_the_new_version(tmp_path: Path, offset: int) -> None:
    """Otherwise a power cut or an out-of-memory kill during a sync would need a person to repair the store."""
    root = tmp_path / "store"
    publish(create_store(root), pair_of(1, 0))
    version = 0
    for step in count(offset, STRIDE):
        version += 1
        died = dies(step, "commit", root, version)
        store = open_store(root, grace=timedelta(0))
        assert_pair_is(store, version - 1, version) if died else assert_pair_is(store, version)
        version += 1
        with store.stage("next") as stage:
            store.commit(stage, Change([change_of(stage, name, parts) for name, parts in pair_of(1, version).items()]))
        assert_pair_is(store, version)
        assert_nothing_is_left_behind(store)
        assert list(verify_store(store).damages) == []
        assert_pair_is(open_store(root), version)
        store.close()
        if not died:
            break
    assert step > _FEWEST_STEPS


@AT
def test_kill_at_any_step_of_a_sweep_loses_nothing_and_the_next_sweep_finishes(tmp_path: Path, offset: int) -> None:
    """A sweep deletes files: one that dies must never have deleted a file that a version still lists."""
    root = tmp_path / "store"
    publish(create_store(root), pair_of(1, 0))
    for step in count(offset, STRIDE):
        store = open_store(root, grace=timedelta(0))
        publish(store, pair_of(1, step + 1))  # retires the files before
        (store.layout.tables / "dataset" / "unlisted.parquet").write_bytes(b"of a dead commit")
        (store.layout.staging / "dead-sync").mkdir()
        (store.layout.staging / "dead-sync" / "leaving.parquet").write_bytes(b"of a dead sync")
        died = dies(step, "sweep", root, 0)
        assert_pair_is(store, step + 1)
        assert_pair_is(open_store(root), step + 1)
        assert_nothing_is_left_behind(open_store(root, grace=timedelta(0)))
        store.close()
        if not died:
            break
    assert step > _FEWEST_STEPS


def test_kill_at_any_step_of_creation_lets_the_next_creation_finish(tmp_path: Path) -> None:
    """A first start that was killed must not leave a folder that is neither empty nor a store."""
    for step in count():
        root = tmp_path / f"store-{step}"
        died = dies(step, "create", root, 0)
        store = create_store(root)
        publish(store, pair_of(1, 1))
        assert_pair_is(store, 1)
        store.close()
        if not died:
            break
    assert step > _FEWEST_STEPS
