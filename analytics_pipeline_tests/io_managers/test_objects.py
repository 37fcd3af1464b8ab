"""The IO manager of the object store: rich results in, the loaded objects to the assets below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from analytics_pipeline.definitions import defs
from analytics_pipeline.errors import (
    NotOfAnAsset,
    ObjectNotFound,
    ObjectUnsupported,
    PartitionRangeBackwards,
    PartitionsNotReturned,
)
from analytics_pipeline.io_managers.objects import ObjectStoreIOManager
from analytics_pipeline.objects import DataStoreIO

DAYS = dg.StaticPartitionsDefinition(["monday/1", "tuesday 2"])


def make(root: Path, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    manager = ObjectStoreIOManager(url=str(root))
    return dg.materialize(assets, resources={"io_manager": manager}, **options)


def asset_that_returns(value: object, **options: Any) -> dg.AssetsDefinition:
    def above() -> Any:
        return value

    made: dg.AssetsDefinition = dg.asset(**options)(above)
    return made


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@dg.asset
def below(above: Any) -> Any:
    return above


def test_an_asset_below_gets_the_object_as_it_was(root: Path) -> None:
    result = make(root, asset_that_returns({"matrix": np.eye(3), "labels": ("a", "b")}), below)
    found = result.output_for_node("below")
    assert found["labels"] == ("a", "b")
    assert np.array_equal(found["matrix"], np.eye(3))


def test_a_range_that_runs_backwards_is_an_error_that_names_both_ends(root: Path) -> None:
    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-09")
    asset = asset_that_returns({}, partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    with pytest.raises(PartitionRangeBackwards, match=r"above: .* 2026-01-03\.\.\.2026-01-01 ends before it starts"):
        make(root, asset, tags=dict(zip(names, ("2026-01-03", "2026-01-01"), strict=True)))
    assert files(root) == []


def test_the_metadata_lead_to_the_object(root: Path) -> None:
    (event,) = make(root, asset_that_returns(np.eye(3))).asset_materializations_for_node("above")
    shown = {name: value.value for name, value in event.metadata.items()}
    stored = DataStoreIO(str(shown["url"]), root)
    facts = stored.facts()
    assert shown == {
        "url": stored.url,
        "size": facts.size,
        "checksum": facts.checksum,
        "type": "numpy.ndarray",
    }


def test_a_new_materialization_replaces_the_object(root: Path) -> None:
    make(root, asset_that_returns([1]))
    result = make(root, asset_that_returns([2]), below)
    assert result.output_for_node("below") == [2]
    assert len(files(root)) == 2


def test_each_partition_has_its_object_whatever_its_key(root: Path) -> None:
    above = asset_that_returns([1], partitions_def=DAYS)
    make(root, above, partition_key="monday/1")
    make(root, asset_that_returns([2], partitions_def=DAYS), partition_key="tuesday 2")
    both = make(root, above, below, selection=[below])
    assert both.output_for_node("below") == {"monday/1": [1], "tuesday 2": [2]}


def test_what_cannot_be_stored_fails_the_asset_and_leaves_the_former_object(root: Path) -> None:
    make(root, asset_that_returns([1]))
    with pytest.raises(ObjectUnsupported, match=r"^\$\[0\] is a builtins.object"):
        make(root, asset_that_returns([object()]))
    assert len(files(root)) == 1


def test_an_object_that_was_never_made_is_named(root: Path) -> None:
    above = asset_that_returns([1])
    with pytest.raises(ObjectNotFound, match="assets/above"):
        make(root, above, below, selection=[below])


def test_several_partitions_at_once_need_a_mapping(root: Path) -> None:
    policy = dg.BackfillPolicy.single_run()
    tags = {"dagster/asset_partition_range_start": "monday/1", "dagster/asset_partition_range_end": "tuesday 2"}
    with pytest.raises(PartitionsNotReturned, match=r"monday/1, tuesday 2"):
        make(root, asset_that_returns([1], partitions_def=DAYS, backfill_policy=policy), tags=tags)
    given = {"monday/1": [1], "tuesday 2": [2]}
    make(root, asset_that_returns(given, partitions_def=DAYS, backfill_policy=policy), tags=tags)
    assert len(files(root)) == 2


@dg.op(out=dg.Out(io_manager_key="io_manager"))
def returns() -> int:
    return 1


@dg.op
def takes(value: int) -> int:
    return value


@dg.job
def of_no_asset() -> None:
    takes(returns())


def test_an_output_of_an_op_is_refused_by_name(root: Path) -> None:
    with pytest.raises(NotOfAnAsset, match=r"The output 'result' of returns belongs to no asset.*return it from an"):
        of_no_asset.execute_in_process(resources={"io_manager": ObjectStoreIOManager(url=str(root))})
    assert not root.exists()


@pytest.mark.parametrize("key", [["x" * 100] * 9, ["x" * 99] * 8, ["A", "a"], ["x" * 5000]])
def test_an_asset_may_have_any_key(key: list[str], root: Path) -> None:
    @dg.asset(ins={"above": dg.AssetIn(key=key)})
    def last(above: Any) -> Any:
        return above

    def first() -> list[int]:
        return [1]

    assert make(root, dg.asset(key=key)(first), last).output_for_node("last") == [1]


def test_the_code_location_has_it() -> None:
    assert isinstance((defs.resources or {})["object_store"], ObjectStoreIOManager)
