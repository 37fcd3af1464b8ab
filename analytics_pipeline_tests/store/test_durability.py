"""What a power cut may not take: each file is forced to the disk before a name makes it visible."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.store import Change, Store
from analytics_pipeline_tests.store.scenario import change_of, facts, publish


@dataclass(frozen=True)
class Call:
    """A call that the operating system got: `fsync` of a path, or a name given by `link`, `rename` or `replace`."""

    what: str
    path: Path
    source: Path | None = None


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The calls that are made from now on, in their order; each is carried out."""
    made: list[Call] = []
    fsync: Callable[[int], None] = os.fsync

    def noted_fsync(descriptor: int) -> None:
        made.append(Call("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def noted(name: str, carry_out: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, target: Any, **options: Any) -> None:
            made.append(Call(name, Path(target), Path(source)))
            carry_out(source, target, **options)

        return call

    monkeypatch.setattr(os, "fsync", noted_fsync)
    for name in ("link", "rename", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    return made


def position(calls: Sequence[Call], what: str, path: Path) -> int:
    """Where the one call stands that does this to a path."""
    [at] = [number for number, call in enumerate(calls) if (call.what, call.path) == (what, path)]
    return at


def test_a_manifest_is_on_the_disk_before_its_name_is_linked(store: Store, calls: list[Call]) -> None:
    """Otherwise a power cut leaves a version whose manifest is empty."""
    publish(store, {"facts": {"d0": facts(1)}})
    linked = position(calls, "link", store.layout.manifest_of(1))
    draft = calls[linked].source
    assert draft is not None
    assert position(calls, "fsync", draft) < linked < position(calls, "fsync", store.layout.manifests)


def test_data_files_and_their_names_are_on_the_disk_before_the_manifest_names_them(
    store: Store, calls: list[Call]
) -> None:
    """Otherwise a power cut leaves a version that lists files that are not there."""
    publish(store, {"facts": {"d0": facts(1)}, "others": {"d0": facts(1)}})
    linked = position(calls, "link", store.layout.manifest_of(1))
    for file in store.manifest().live_files:
        target = store.root / file.path
        moved = position(calls, "rename", target)
        staged = calls[moved].source
        assert staged is not None
        assert position(calls, "fsync", staged) < moved
        assert moved < position(calls, "fsync", target.parent) < linked
    assert position(calls, "fsync", store.layout.tables) < linked


def test_a_note_and_what_it_names_are_on_the_disk_before_it_replaces_the_former(
    store: Store, calls: list[Call]
) -> None:
    """Otherwise a power cut leaves an empty note, and hours of reading begin again."""
    with store.resumable_stage("long") as stage:
        change_of(stage, "facts", {"d0": facts(1)})
        calls.clear()
        stage.write_note("all of d0")
        note, draft = stage.folder / ".note", stage.folder / ".note.new"
    assert calls == [
        Call("fsync", stage.folder),
        Call("fsync", draft),
        Call("replace", note, draft),
        Call("fsync", stage.folder),
    ]


def test_a_failed_commit_gives_its_files_back_to_their_stage(store: Store) -> None:
    """They go with the stage, or are committed again; in a table's folder they would stay for ever."""
    publish(store, {"facts": {"d0": facts(1)}})
    with store.stage("broken") as stage:
        change = Change([change_of(stage, "facts", {"d1": facts(2), "d2": facts(3)})])
        staged = set(stage.folder.glob("*.parquet"))
        os.truncate(min(staged), 10)
        before = set(store.layout.tables.rglob("*.parquet"))
        with pytest.raises(Exception, match="has 10 bytes"):
            store.commit(stage, change)
        assert set(store.layout.tables.rglob("*.parquet")) == before
        assert set(stage.folder.glob("*.parquet")) == staged
