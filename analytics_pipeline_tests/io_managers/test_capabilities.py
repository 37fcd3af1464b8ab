"""The IO manager of the capability store: what assets may return, what those below get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, ParquetBackend
from analytics_pipeline.errors import AssetInputRefused, AssetOutputRefused, StoreConfigInvalid
from analytics_pipeline.io_managers.capabilities import CapabilityStoreIOManager
from analytics_pipeline.settings import HOME_VARIABLE
from analytics_pipeline.store import open_store


class ScoreRecord(BaseRecord, table_name="score"):
    dataset_id: str
    value: float


class NoteRecord(BaseRecord, table_name="note"):
    text: str


@dataclass
class ScoreRun:
    """A run as a capability leaves it."""

    run_uid: str
    value: float = 0.5
    capability_id: str = "tests.Score"
    dataset_metadata: Sequence[Mapping[str, Any]] = ({"id": "digits"},)
    model_metadata: Sequence[Mapping[str, Any]] = ()
    metric_metadata: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def extract(self) -> list[ScoreRecord]:
        return [ScoreRecord(run_uid=self.run_uid, dataset_id="digits", value=self.value)]


DAYS = dg.StaticPartitionsDefinition(["monday", "tuesday", "wednesday"])


class Workplace:
    """Assets over a store in a folder."""

    def __init__(self, root: Path) -> None:
        self.store = AnalyticsStore(ParquetBackend(root))
        self.manager = CapabilityStoreIOManager(uri=str(root))
        self.instance = dg.DagsterInstance.ephemeral()

    def make(self, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(assets, resources={"io_manager": self.manager}, instance=self.instance, **options)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.store.query_sql(sql).rows()


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "store")


def asset_that_returns(value: object, **options: Any) -> dg.AssetsDefinition:
    def above() -> Any:
        return value

    made: dg.AssetsDefinition = dg.asset(**options)(above)
    return made


def metadata_of(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    (event,) = result.asset_materializations_for_node("above")
    return {name: value.value for name, value in event.metadata.items()}


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (ScoreRun("a"), 1),
        ([ScoreRun("a"), ScoreRun("b")], 2),
        (ScoreRecord(run_uid="a", dataset_id="d", value=1), 1),
        ((ScoreRecord(run_uid="a", dataset_id="d", value=1), ScoreRun("b")), 2),
    ],
    ids=["a run", "runs", "a record", "both"],
)
def test_an_asset_returns_runs_or_records(workplace: Workplace, value: object, rows: int) -> None:
    result = workplace.make(asset_that_returns(value))

    assert workplace.rows("SELECT count(*) FROM score") == [(rows,)]
    shown = metadata_of(result)
    assert (shown["dagster/row_count"], shown["new_rows"], shown["tables"], shown["runs"]) == (
        rows,
        rows,
        "score",
        rows,
    )
    assert len(shown["files"]) == 1


def test_a_run_brings_its_rows_of_runs_with_the_job(workplace: Workplace) -> None:
    result = workplace.make(asset_that_returns(ScoreRun("a")))

    found = workplace.rows("SELECT run_uid, entity_type, entity_id, executor, job_id FROM runs")
    assert found == [("a", "dataset", "digits", "dagster", result.run_id)]


def test_making_an_asset_again_stores_nothing_and_says_so(workplace: Workplace) -> None:
    asset = asset_that_returns([ScoreRun("a"), ScoreRun("b")])
    workplace.make(asset)
    files = sorted(workplace.manager.store().backend.path.rglob("*.parquet"))  # type: ignore[attr-defined]

    again = metadata_of(workplace.make(asset))

    assert (again["dagster/row_count"], again["new_rows"], again["files"]) == (2, 0, [])
    assert sorted(workplace.manager.store().backend.path.rglob("*.parquet")) == files  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [7, "text", b"bytes", {"a": 1}, [ScoreRun("a"), 7], None])
def test_anything_else_is_refused_by_name_and_nothing_is_stored(workplace: Workplace, value: object) -> None:
    with pytest.raises(AssetOutputRefused, match="Asset above returned a"):
        workplace.make(asset_that_returns(value))

    assert workplace.store.list_tables() == []


@pytest.mark.parametrize(
    ("annotation", "kind"), [(pl.DataFrame, "DataFrame"), (pl.LazyFrame, "LazyFrame"), (Any, "DataFrame")]
)
def test_an_asset_below_gets_polars_as_it_is_annotated(workplace: Workplace, annotation: object, kind: str) -> None:
    seen: list[tuple[str, pl.DataFrame]] = []

    def below(above: Any) -> None:
        seen.append((type(above).__name__, above.lazy().collect()))

    below.__annotations__["above"] = annotation
    workplace.make(asset_that_returns([ScoreRun("a"), ScoreRun("b", value=0.7)]), dg.asset(below))

    ((name, rows),) = seen
    assert name == kind
    assert sorted(rows.select("run_uid", "value").rows()) == [("a", 0.5), ("b", 0.7)]


def test_an_input_of_another_type_is_refused(workplace: Workplace) -> None:
    @dg.asset
    def below(above: int) -> None: ...

    with pytest.raises(AssetInputRefused, match=r"int.*pl\.DataFrame or pl\.LazyFrame"):
        workplace.make(asset_that_returns(ScoreRun("a")), below)


def test_an_asset_below_gets_its_partition_alone(workplace: Workplace) -> None:
    seen: dict[str, list[str]] = {}

    @dg.asset(partitions_def=DAYS)
    def above(context: dg.AssetExecutionContext) -> Any:
        return ScoreRun(f"run of {context.partition_key}")

    @dg.asset(partitions_def=DAYS)
    def below(context: dg.AssetExecutionContext, above: pl.DataFrame) -> None:
        seen[context.partition_key] = above["run_uid"].to_list()

    for day in ("monday", "tuesday"):
        workplace.make(above, below, partition_key=day)

    assert seen == {"monday": ["run of monday"], "tuesday": ["run of tuesday"]}


def test_an_asset_below_without_partitions_gets_all_of_them(workplace: Workplace) -> None:
    seen: list[str] = []

    @dg.asset(partitions_def=DAYS)
    def above(context: dg.AssetExecutionContext) -> Any:
        return ScoreRun(context.partition_key)

    @dg.asset
    def below(above: pl.DataFrame) -> None:
        seen.extend(sorted(above["run_uid"]))

    for day in ("monday", "tuesday"):
        workplace.make(above, partition_key=day)
    workplace.make(above, below, selection=[below])

    assert seen == ["monday", "tuesday"]


def test_one_run_makes_several_partitions_from_a_mapping(workplace: Workplace) -> None:
    seen: list[str] = []
    single_run = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=DAYS, backfill_policy=single_run)
    def above(context: dg.AssetExecutionContext) -> Any:
        return {key: ScoreRun(key) for key in context.partition_keys}

    @dg.asset(partitions_def=DAYS)
    def below(above: pl.DataFrame) -> None:
        seen.extend(above["run_uid"])

    tags = {"dagster/asset_partition_range_start": "monday", "dagster/asset_partition_range_end": "tuesday"}
    workplace.make(above, tags=tags)
    workplace.make(above, below, selection=[below], partition_key="tuesday")

    assert workplace.rows("SELECT count(*) FROM score") == [(2,)]
    assert seen == ["tuesday"]


@pytest.mark.parametrize(
    ("value", "told"),
    [(ScoreRun("a"), "return a mapping"), ({"monday": ScoreRun("a")}, r"\['monday'\] where \['monday', 'tuesday'\]")],
    ids=["one run", "a partition too few"],
)
def test_several_partitions_need_a_mapping_of_all_of_them(workplace: Workplace, value: object, told: str) -> None:
    asset = asset_that_returns(value, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    tags = {"dagster/asset_partition_range_start": "monday", "dagster/asset_partition_range_end": "tuesday"}

    with pytest.raises(AssetOutputRefused, match=told):
        workplace.make(asset, tags=tags)

    assert workplace.store.list_tables() == []


def test_an_asset_holds_what_it_gave_last_and_the_store_keeps_the_rest(workplace: Workplace) -> None:
    """A run that was corrected must not come down together with the wrong one, also where the older one comes back."""
    seen: list[list[str]] = []

    @dg.asset
    def below(above: pl.DataFrame) -> None:
        seen.append(sorted(above["run_uid"]))

    for runs in ([ScoreRun("wrong")], [ScoreRun("right"), ScoreRun("more")], [], [ScoreRun("wrong")]):
        workplace.make(asset_that_returns(runs), below)

    assert seen == [["wrong"], ["more", "right"], [], ["wrong"]]
    assert workplace.rows("SELECT run_uid FROM score ORDER BY 1") == [("more",), ("right",), ("wrong",)]


def test_the_input_of_an_asset_with_several_tables_names_one(workplace: Workplace) -> None:
    seen: list[list[str]] = []
    above = asset_that_returns([ScoreRun("a"), NoteRecord(run_uid="n", text="hello")])

    @dg.asset
    def silent(above: pl.DataFrame) -> None: ...

    @dg.asset(ins={"above": dg.AssetIn(metadata={"table": "note"})})
    def clear(above: pl.DataFrame) -> None:
        seen.append(above["text"].to_list())

    workplace.make(above, clear)

    assert seen == [["hello"]]
    with pytest.raises(AssetInputRefused, match="note, score"):
        workplace.make(above, silent)


def test_without_a_place_the_rows_are_in_the_published_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))

    dg.materialize([asset_that_returns(ScoreRun("a"))], resources={"io_manager": CapabilityStoreIOManager()})

    found = open_store(tmp_path / "store").query("SELECT run_uid, value FROM capabilities.score").rows()
    assert found == [("a", 0.5)]


class RawRecord(BaseRecord, table_name="raw"):
    content: bytes
    text: str


class PlainRecord:
    """A record that is no pydantic model, and knows Python's own types alone."""

    table_name = "plain"

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "python"
        return {"run_uid": "p", "created_at": datetime(2026, 1, 1, tzinfo=UTC), "share": float("nan")}


def test_the_preview_shows_any_value_in_short(workplace: Workplace) -> None:
    """What is stored is stored: no value may make the step fail afterwards."""
    raw = RawRecord(run_uid="r", content=b"\xff\x00", text="x" * 1_000_000)

    shown = metadata_of(workplace.make(asset_that_returns([raw, PlainRecord()])))

    assert workplace.rows("SELECT content FROM raw") == [(b"\xff\x00",)]
    cells, plain = shown["preview"]
    assert (cells["content"], len(cells["text"])) == ("b'\\xff\\x00'", 202)
    assert (plain["created_at"], plain["share"]) == ("2026-01-01 00:00:00+00:00", "nan")


def test_many_records_are_asked_for_their_fields_twice_at_most(workplace: Workplace) -> None:
    """Once to be stored, once to tell their runs: what is shown comes from the first few."""
    asked: list[str] = []

    class Counted(PlainRecord):
        def model_dump(self, *, mode: str) -> dict[str, Any]:
            asked.append(mode)
            return super().model_dump(mode=mode)

    workplace.make(asset_that_returns([Counted() for _ in range(100)]))

    assert asked == ["python"] * 200


def test_an_asset_below_gets_the_columns_of_a_partition_that_is_empty_now(workplace: Workplace) -> None:
    seen: list[pl.DataFrame] = []
    given = iter([[ScoreRun("a")], []])

    @dg.asset
    def above() -> Any:
        return next(given)

    @dg.asset
    def below(above: pl.DataFrame) -> None:
        seen.append(above)

    for _ in range(2):
        workplace.make(above, below)

    assert [frame.height for frame in seen] == [1, 0]
    assert seen[1].columns == seen[0].columns


def test_a_duckdb_file_needs_a_path_and_the_home_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    manager = CapabilityStoreIOManager(backend="duckdb")

    with pytest.raises(StoreConfigInvalid, match="needs a uri"):
        dg.materialize([asset_that_returns(ScoreRun("a"))], resources={"io_manager": manager})

    assert list(tmp_path.iterdir()) == []


def test_options_of_an_object_store_are_in_no_repr() -> None:
    manager = CapabilityStoreIOManager(uri="s3://bucket/runs", storage_options={"secret": "hunter2", "anon": False})

    assert "hunter2" not in repr(manager)
    assert "hunter2" not in str(manager)


def test_an_asset_that_never_held_anything_is_named(workplace: Workplace) -> None:
    @dg.asset
    def below(above: pl.DataFrame) -> None: ...

    with pytest.raises(AssetInputRefused, match="above has never held any rows: materialize it first"):
        workplace.make(asset_that_returns(ScoreRun("unused")), below, selection=[below])
