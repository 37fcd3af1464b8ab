from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.store import Change, Partition, Stage, Store, TableChange, create_store
from analytics_pipeline.sync.metadata import DatasetFigures, dataset_figures
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.summary import summarize_view
from analytics_pipeline.sync.view import joined_view
from analytics_pipeline_tests.store.scenario import day
from analytics_pipeline_tests.sync.scenario import spec_of

Row = Mapping[str, Any]
Content = dict[Half, dict[str, list[Row]]]


def schema_of(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """A schema from names and types."""
    return pa.schema(types)


RECORDS = schema_of(
    {
        "dataset_id": pa.string(),
        "timestamp": pa.timestamp("us", "UTC"),
        "environment": pa.string(),
        "latency": pa.float64(),
    }
)
RESULTS = schema_of(
    {
        "dataset_id": pa.string(),
        "metric_name": pa.string(),
        "metric_score": pa.float64(),
        "source_name": pa.string(),
    }
)
OWN_LATENCY = pa.schema([*RESULTS, pa.field("latency", pa.int32())])
SCHEMAS = {Half.DATASET: RECORDS, Half.RESULTS: RESULTS}
LISTED = ("environment", "source_name", "metric_name")
MOMENT = datetime(2026, 1, 1, 5, tzinfo=UTC)


def commit(
    store: Store, spec: SplitSyncSpec, parts: Content, schemas: Mapping[Half, pa.Schema] = SCHEMAS
) -> DatasetFigures:
    """Replace partitions of both halves and publish what was counted of them."""
    with store.stage(uuid.uuid4().hex) as stage:
        tables = [_change(stage, spec.table(half), parts[half], schemas[half]) for half in Half if half in parts]
        with store.preview(stage, Change(tables, [joined_view(spec, None)])) as preview:
            figures = dataset_figures(preview, spec, "timestamp")
        store.commit(stage, Change(tables, [figures.view], metadata=figures.metadata))
    return figures


def _change(stage: Stage, table: str, parts: Mapping[str, Sequence[Row]], schema: pa.Schema) -> TableChange:
    writer = stage.writer(table, schema)
    for key, rows in parts.items():
        writer.write(key, pa.RecordBatch.from_pylist(list(rows), schema=schema))
    files = writer.close()
    made = []
    for key in parts:
        lower, upper = day(int(key)) if key.isdigit() else (None, None)
        made.append(Partition(key, lower, upper, tuple(files.get(key, ())), None, "spec", uuid.uuid4().hex, MOMENT))
    return TableChange(table, writer.columns, made)


def frame_of(content: Content, half: Half, schema: pa.Schema) -> pl.DataFrame:
    rows = [row for part in content.get(half, {}).values() for row in part]
    frame = pl.from_arrow(pa.Table.from_pylist(rows, schema=schema))
    assert isinstance(frame, pl.DataFrame)
    return frame


def joined_of(records: pl.DataFrame, results: pl.DataFrame, how: str) -> pl.DataFrame:
    """The view in Polars; a record of several rows is its newest."""
    newest = records.sort("timestamp", descending=True, nulls_last=True).unique("dataset_id", keep="first")
    joined = results.join(newest, on="dataset_id", how="left" if how == "left" else "inner", suffix="_of_record")
    return joined.select([name for name in joined.columns if not name.endswith("_of_record")])


def expected(frame: pl.DataFrame, visible: Sequence[str] | None = None) -> dict[str, Any]:
    """The figures of a table or view, from all of its rows."""
    values = {
        name: sorted(frame[name].drop_nulls().unique().to_list())[:200] for name in LISTED if name in frame.columns
    }
    time = None
    if "timestamp" in frame.columns and frame["timestamp"].drop_nulls().len():
        times = frame["timestamp"].drop_nulls()
        time = {"min": times.min().isoformat(), "max": times.max().isoformat()}  # type: ignore[union-attr]
    stats = None
    if "metric_score" in frame.columns:
        scored = frame.filter(pl.col("metric_score").cast(pl.Float64).is_finite())
        if visible is not None and "metric_name" in frame.columns:
            scored = scored.filter(pl.col("metric_name").is_in(visible))
        scores = scored["metric_score"]
        stats = {
            "total_records": scores.len(),
            "avg_score": float(scores.cast(pl.Float64).mean()) if scores.len() else None,  # type: ignore[arg-type]
            "pass_rate": 100 * float((scores >= 0.5).mean()) if scores.len() else None,  # type: ignore[arg-type]
        }
        latencies = pl.Series([], dtype=pl.Float64)
        if "latency" in frame.columns:
            latencies = scored["latency"].cast(pl.Float64)
            latencies = latencies.filter(latencies.is_finite().fill_null(value=False))
        for name, quantile in (("p50_latency", 0.5), ("p95_latency", 0.95), ("p99_latency", 0.99)):
            stats[name] = latencies.quantile(quantile, "linear") if latencies.len() else None
    return {"row_count": frame.height, "filter_values": values, "time_range": time, "summary_stats": stats}


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(name in found and same(found[name], value) for name, value in wanted.items())
    if isinstance(wanted, float):
        return found is not None and math.isclose(found, wanted, rel_tol=1e-12, abs_tol=1e-12)
    return bool(found == wanted)


def check(store: Store, spec: SplitSyncSpec, content: Content, schemas: Mapping[Half, pa.Schema] = SCHEMAS) -> None:
    """What is published of a dataset equals what Polars makes of the same rows."""
    records, results = (frame_of(content, half, schemas[half]) for half in Half)
    frames = {
        spec.table(Half.DATASET): records,
        spec.table(Half.RESULTS): results,
        spec.view: joined_of(records, results, spec.join),
    }
    published = store.manifest().metadata
    for name, frame in frames.items():
        wanted = expected(frame, spec.visible_metrics)
        assert same(json.loads(json.dumps(published[name].value, allow_nan=False)), wanted), (name, wanted)
    known = set(records["dataset_id"].drop_nulls())
    orphans = sum(key not in known for key in results["dataset_id"])
    assert published[spec.view].value["results_without_record"] == orphans


def record(key: str | None, second: int | None, **more: Any) -> Row:
    time = None if second is None else MOMENT + timedelta(seconds=second)
    return {"dataset_id": key, "timestamp": time, "environment": None, "latency": None} | more


def result(key: str | None, score: float | None, **more: Any) -> Row:
    return {"dataset_id": key, "metric_score": score, "metric_name": "m", "source_name": None} | more


KEYS = st.sampled_from(["a", "b", "c", "d", "ü", ""]) | st.none()
NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.5, 1e300, math.nan, math.inf, -math.inf]) | st.none()
RECORD_ROWS = st.builds(
    lambda key, environment, latency: {"dataset_id": key, "environment": environment, "latency": latency},
    KEYS,
    st.sampled_from(["prod", "größe", "日本", ""]) | st.none(),
    NUMBERS,
)
RESULT_ROWS = st.builds(
    lambda key, metric, score, source, latency: {
        "dataset_id": key, "metric_name": metric, "metric_score": score, "source_name": source, "latency": latency
    },
    KEYS,
    st.sampled_from(["m", "n", "o'"]) | st.none(),
    NUMBERS,
    st.text(max_size=2).filter(lambda text: "\0" not in text),
    st.integers(-5, 5000) | st.none(),
)  # fmt: skip
PARTS = st.sampled_from(["0", "1", "2", "_rest"])


@settings(max_examples=15, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.dictionaries(PARTS, st.lists(RECORD_ROWS, max_size=5), max_size=2),
            st.dictionaries(PARTS, st.lists(RESULT_ROWS, max_size=8), max_size=2),
        ),
        min_size=1,
        max_size=5,
    ),
    join=st.sampled_from(["inner", "left"]),
    visible=st.sampled_from([None, ("m", "o'"), ("no such",)]),
    own_latency=st.booleans(),
)
def test_figures_equal_those_of_all_rows_whatever_was_kept(
    changes: list[tuple[dict[str, list[Row]], dict[str, list[Row]]]],
    join: str,
    visible: tuple[str, ...] | None,
    own_latency: bool,  # noqa: FBT001
) -> None:
    """Otherwise a refresh of one day leaves numbers on the page that no query gives."""
    spec = spec_of(join=join, visible_metrics=visible, filter_columns=["environment"])
    schemas = {Half.DATASET: RECORDS, Half.RESULTS: OWN_LATENCY if own_latency else RESULTS}
    content: Content = {Half.DATASET: {"0": []}, Half.RESULTS: {"0": []}}
    seconds = iter(range(10_000))
    with TemporaryDirectory() as folder:
        store = create_store(Path(folder) / "store")
        commit(store, spec, content, schemas)
        for records, results in changes:
            parts: Content = {
                Half.DATASET: {key: [record(second=next(seconds), **_named(row)) for row in rows]
                               for key, rows in records.items()},
                Half.RESULTS: results,
            }  # fmt: skip
            for half in Half:
                content[half] |= parts[half]
            commit(store, spec, {half: part for half, part in parts.items() if part}, schemas)
            check(store, spec, content, schemas)
        store.close()


def _named(row: Row) -> dict[str, Any]:
    return {"key": row["dataset_id"], "environment": row["environment"], "latency": row["latency"]}


def test_only_partitions_that_changed_are_read(store: Store) -> None:
    """Otherwise each refresh of a day costs a scan and a join of the whole history."""
    spec = spec_of()
    content: Content = {
        Half.DATASET: {str(n): [record(f"{n}", n)] for n in range(5)},
        Half.RESULTS: {str(n): [result(f"{n}", n / 5)] for n in range(5)},
    }
    commit(store, spec, content)
    _claim_a_thousand_rows_more(store, part=0)
    new = {"4": [record("4", 4), record("new", 5)]}, {"4": [result("4", 1), result("new", 0)]}
    commit(store, spec, {Half.DATASET: new[0], Half.RESULTS: new[1]})
    assert store.manifest().metadata["demo_results"].value["row_count"] == 1006


def _claim_a_thousand_rows_more(store: Store, part: int) -> None:
    """Put a wrong number into what is kept of a part: it comes back where the part is not counted again."""
    kept = json.loads(json.dumps(store.manifest().metadata["demo_parts"].value))
    list(kept["results"]["counts"].values())[part]["table"]["rows"] += 1000
    with store.stage("claim") as stage:
        store.commit(stage, Change(metadata={"demo_parts": kept}))


def test_a_changed_record_changes_the_figures_of_old_results(store: Store) -> None:
    """Otherwise the view's latencies and values are those of records that are gone."""
    spec = spec_of()
    content: Content = {
        Half.DATASET: {"0": [record("a", 1, environment="old", latency=1.0)], "1": [record("b", 2)]},
        Half.RESULTS: {"0": [result("a", 0.5), result("b", 1)], "1": [result("b", 0.1)], "2": [result("late", 1)]},
    }
    commit(store, spec, content)
    for rows in ([record("a", 1, environment="new", latency=9.0)], [], [record("late", 3, environment="x")]):
        content[Half.DATASET]["0"] = list(rows)
        commit(store, spec, {Half.DATASET: {"0": list(rows)}})
        check(store, spec, content)


def test_a_record_that_moves_is_joined_by_its_newest_row(store: Store) -> None:
    """Otherwise results are doubled until the partition that it left is replaced."""
    spec = spec_of()
    content: Content = {
        Half.DATASET: {"0": [record("a", 1, environment="x")], "1": [record("b", 2)]},
        Half.RESULTS: {"0": [result("a", 1)], "1": [result("b", 0)]},
    }
    assert not commit(store, spec, content).doubled_keys
    content[Half.DATASET]["1"] = [record("b", 2), record("a", 3, environment="y")]
    figures = commit(store, spec, {Half.DATASET: {"1": content[Half.DATASET]["1"]}})
    assert figures.doubled_keys
    assert figures.view.newest_by == "timestamp"
    check(store, spec, content)
    content[Half.DATASET]["0"] = []
    figures = commit(store, spec, {Half.DATASET: {"0": []}})
    assert not figures.doubled_keys
    assert figures.view.newest_by is None
    check(store, spec, content)


def test_percentiles_stay_exact_while_latencies_drift(store: Store) -> None:
    """Otherwise they are exact only for the rows of the first sync."""
    spec = spec_of()
    schemas = {Half.DATASET: RECORDS, Half.RESULTS: OWN_LATENCY}
    content: Content = {Half.DATASET: {"0": [record("a", 1)]}, Half.RESULTS: {}}
    for number in range(6):
        rows = [result("a", 1, latency=(step * 7919) % 5000 + 900 * number) for step in range(3000)]
        content[Half.RESULTS][str(number)] = rows
        commit(store, spec, content if number == 0 else {Half.RESULTS: {str(number): rows}}, schemas)
        check(store, spec, content, schemas)


def test_many_partitions_are_kept_as_few_parts(store: Store) -> None:
    """Otherwise the manifest of an hourly dataset grows to megabytes."""
    spec = spec_of()
    content: Content = {
        Half.DATASET: {str(n): [record(f"{n}", n)] for n in range(3)},
        Half.RESULTS: {str(n): [result(f"{n % 3}", n / 200)] for n in range(150)},
    }
    commit(store, spec, content)
    check(store, spec, content)
    parts = store.manifest().metadata["demo_parts"].value
    assert len(parts["results"]["counts"]) == 38  # type: ignore[index, call-overload, arg-type]
    content[Half.RESULTS]["77"] = [result("2", 1)]
    commit(store, spec, {Half.RESULTS: {"77": content[Half.RESULTS]["77"]}})
    check(store, spec, content)


def test_the_first_200_values_in_order_are_listed(store: Store) -> None:
    rows = [result("a", 1, source_name=f"s{number:04}") for number in reversed(range(700))]
    content: Content = {Half.DATASET: {"0": [record("a", 1)]}, Half.RESULTS: {"0": rows[:300], "1": rows[300:]}}
    commit(store, spec_of(), content)
    check(store, spec_of(), content)
    values = store.manifest().metadata["demo_data"].value["filter_values"]
    assert values["source_name"] == [f"s{number:04}" for number in range(200)]  # type: ignore[index, call-overload]


def test_a_filter_with_another_value_in_each_row_is_listed_like_others(store: Store) -> None:
    """Otherwise it is wrong, or its groups take as much memory as the rows."""
    big = [result("a", 1, source_name=f"s{number:05}", metric_name=f"m{number % 3}") for number in range(11_000)]
    small = [result(f"lost{number}", 0, source_name=f"{number:05}") for number in range(10)]
    small += [result("a", 0, source_name=f"r{number:05}", metric_name="only here") for number in range(300)]
    content: Content = {Half.DATASET: {"0": [record("a", 1)]}, Half.RESULTS: {"0": small, "1": big, "2": big[:50]}}
    commit(store, spec_of(), content)
    check(store, spec_of(), content)
    content[Half.RESULTS]["0"] = []
    commit(store, spec_of(), {Half.RESULTS: {"0": []}})
    check(store, spec_of(), content)


@pytest.mark.parametrize(
    ("type_", "value", "listed"),
    [
        (pa.int16(), 7, [7]),
        (pa.bool_(), True, [True]),
        (pa.decimal128(6, 2), Decimal("1.50"), ["1.50"]),
        (pa.date32(), date(2026, 1, 2), ["2026-01-02"]),
        (pa.float64(), math.nan, []),
        (pa.float64(), 0.5, [0.5]),
        (pa.string(), None, []),
        (pa.list_(pa.string()), ["x"], None),
        (pa.binary(), b"x", None),
    ],
)
def test_values_of_any_type_are_json_or_left_out(
    store: Store,
    type_: pa.DataType,
    value: Any,
    listed: Any,
) -> None:
    """Otherwise the commit fails on a value that JSON does not know."""
    schemas = {Half.DATASET: pa.schema([*RECORDS, pa.field("kind", type_)]), Half.RESULTS: RESULTS}
    content: Content = {Half.DATASET: {"0": [record("a", 1, kind=value)]}, Half.RESULTS: {"0": [result("a", 1)]}}
    commit(store, spec_of(filter_columns=["kind", "nowhere"]), content, schemas)
    for name in ("demo_dataset", "demo_data"):
        values = store.manifest().metadata[name].value["filter_values"]
        assert isinstance(values, Mapping)
        assert values.get("kind") == listed
        assert "nowhere" not in values


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (pa.timestamp("us", "UTC"), MOMENT, "2026-01-01T05:00:00+00:00"),
        (pa.timestamp("us"), datetime(2026, 1, 1, 5, 0, 0, 7), "2026-01-01T05:00:00.000007"),  # noqa: DTZ001
        (pa.date32(), date(2026, 1, 2), "2026-01-02"),
        (pa.int64(), 7, None),
        (pa.string(), "2026-01-01", None),
        (pa.timestamp("us", "UTC"), None, None),
    ],
)
def test_the_time_range_is_that_of_real_times(store: Store, type_: pa.DataType, value: Any, text: str | None) -> None:
    schemas = {Half.DATASET: schema_of({"dataset_id": pa.string(), "timestamp": type_}), Half.RESULTS: RESULTS}
    content: Content = {
        Half.DATASET: {"0": [{"dataset_id": "a", "timestamp": value}]},
        Half.RESULTS: {"0": [result("a", 1)]},
    }
    commit(store, spec_of(), content, schemas)
    wanted = text and {"min": text, "max": text}
    assert store.manifest().metadata["demo_data"].value["time_range"] == wanted


def test_years_that_python_does_not_know_are_told(store: Store) -> None:
    """Otherwise one wrong date in the source stops every sync."""
    far = pa.array([253402300800000000 + 1], pa.timestamp("us", "UTC"))
    schema = schema_of({"dataset_id": pa.string(), "timestamp": pa.timestamp("us", "UTC")})
    with store.stage("far") as stage:
        writer = stage.writer("demo_dataset", schema)
        writer.write("0", pa.RecordBatch.from_arrays([pa.array(["a"]), far], schema=schema))
        part = Partition("0", *day(0), tuple(writer.close()["0"]), None, "spec", "far", MOMENT)
        change = TableChange("demo_dataset", writer.columns, [part])
        with store.preview(stage, Change([change], [joined_view(spec_of(), None)])) as preview:
            figures = dataset_figures(preview, spec_of(), "timestamp")
    assert figures.metadata["demo_dataset"]["time_range"] == {
        "min": "10000-01-01 00:00:00.000001",
        "max": "10000-01-01 00:00:00.000001",
    }


def test_scores_may_be_decimals_or_no_numbers(store: Store) -> None:
    content: Content = {Half.DATASET: {"0": [record("a", 1)]}, Half.RESULTS: {"0": [result("a", None)]}}
    content[Half.RESULTS]["0"] = [result("a", Decimal("0.50")), result("a", Decimal("0.49")), result("a", None)]  # type: ignore[arg-type]
    schema = schema_of({"dataset_id": pa.string(), "metric_score": pa.decimal128(4, 2)})
    commit(store, spec_of(), content, {**SCHEMAS, Half.RESULTS: schema})
    stats = store.manifest().metadata["demo_data"].value["summary_stats"]
    assert stats == {
        "total_records": 2,
        "avg_score": pytest.approx(0.495),
        "pass_rate": 50.0,
        "p50_latency": None,
        "p95_latency": None,
        "p99_latency": None,
    }
    text = schema_of({"dataset_id": pa.string(), "metric_score": pa.string()})
    commit(
        store,
        spec_of(name="texts"),
        {Half.DATASET: {"0": []}, Half.RESULTS: {"0": []}},
        {**SCHEMAS, Half.RESULTS: text},
    )
    assert store.manifest().metadata["texts_data"].value["summary_stats"] is None


def test_a_half_alone_has_its_metadata(store: Store) -> None:
    figures = commit(store, spec_of(), {Half.RESULTS: {"0": [result("a", 1)], "_rest": [result("b", 1)]}})
    assert set(figures.metadata) == {"demo_results"}
    assert figures.metadata["demo_results"]["row_count"] == 2
    assert figures.metadata["demo_results"]["rows_in_rest"] == 1
    commit(store, spec_of(), {Half.DATASET: {"0": [record("a", 1)]}})
    assert store.manifest().metadata["demo_data"].value["row_count"] == 1
    assert store.manifest().metadata["demo_data"].value["results_without_record"] == 1


def test_other_visible_metrics_are_counted_anew(store: Store) -> None:
    """Otherwise the summary keeps the metrics of the spec before."""
    content: Content = {
        Half.DATASET: {"0": [record("a", 1)]},
        Half.RESULTS: {"0": [result("a", 1), result("a", 0, metric_name="n")]},
    }
    for visible in (None, ("n",), ("nowhere",)):
        spec = spec_of(visible_metrics=visible)
        commit(store, spec, content if visible is None else {})
        check(store, spec, content)


def test_a_lost_file_of_replaced_records_is_no_failure(store: Store) -> None:
    """Otherwise the refresh that heals a damaged store cannot count."""
    spec = spec_of()
    content: Content = {
        Half.DATASET: {"0": [record("a", 1)], "1": [record("b", 1)]},
        Half.RESULTS: {"0": [result("a", 1)]},
    }
    commit(store, spec, content)
    (file,) = store.manifest().tables["demo_dataset"].partitions["0"].files
    (store.root / file.path).unlink()
    commit(store, spec, {Half.DATASET: {"0": content[Half.DATASET]["0"]}})
    check(store, spec, content)


def test_the_summary_of_a_view_is_what_was_counted_at_its_commit(store: Store) -> None:
    """Otherwise each sync joins the whole history once more to show two numbers."""
    spec = spec_of()
    content: Content = {Half.DATASET: {"0": [record("a", 1)]}, Half.RESULTS: {"0": [result("a", 1), result("b", 1)]}}
    commit(store, spec, content)
    counted = summarize_view(store, spec)
    assert (counted.rows, counted.orphans) == (1, 1)
    with store.stage("without") as stage:
        change = _change(stage, "demo_results", {"0": [result("a", 1)] * 3}, RESULTS)
        store.commit(stage, Change([change]))
    asked = summarize_view(store, spec)
    assert (asked.rows, asked.orphans) == (3, 0)
    assert asked.columns == counted.columns


def test_results_without_a_record_are_no_part_of_the_view(store: Store) -> None:
    """Otherwise the summary of the view tells of rows that it does not show."""
    schemas = {Half.DATASET: RECORDS, Half.RESULTS: OWN_LATENCY}
    content: Content = {
        Half.DATASET: {"0": [record("a", 1)]},
        Half.RESULTS: {"0": [result("a", 1, latency=latency) for latency in range(100)]},
    }
    commit(store, spec_of(), content, schemas)
    content[Half.RESULTS]["1"] = [result("a", 1, latency=5), result("lost", 0, latency=50)]
    commit(store, spec_of(), {Half.RESULTS: {"1": content[Half.RESULTS]["1"]}}, schemas)
    check(store, spec_of(), content, schemas)
