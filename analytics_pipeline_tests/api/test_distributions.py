"""Distributions and correlations equal what NumPy and Polars compute from the rows that were published."""

from __future__ import annotations

import math
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from analytics_pipeline.api.questions.pearson import coefficients
from analytics_pipeline.store import Store
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.analytics import FILTERED, ROOT, close, or_zero, quantile
from analytics_pipeline_tests.api.conftest import Api, Serve


@pytest.mark.parametrize("bins", [5, 20, 100])
@pytest.mark.parametrize("group_by", [None, "model_name"])
@FILTERED
def test_latencies_fall_into_equal_steps(
    api: Api, frame: pl.DataFrame, asked: dict[str, str], rule: pl.Expr, bins: int, group_by: str | None
) -> None:
    rows = frame.filter(rule & pl.col("latency").is_not_null())
    latencies = rows["latency"].to_numpy()
    low, high = (min(latencies), max(latencies)) if len(latencies) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)

    answer = api.json(
        f"{ROOT}/latency-distribution", bins=bins, **asked, **({"group_by": group_by} if group_by else {})
    )

    def percentiles(of: pl.DataFrame) -> dict[str, Any]:
        return {f"p{share}": or_zero(quantile(of["latency"], share / 100)) for share in (50, 95, 99)}

    assert answer["histogram"]["edges"] == pytest.approx(list(edges))
    assert answer["histogram"]["counts"] == list(np.histogram(latencies, edges)[0])
    assert answer["percentiles"] == percentiles(rows)
    if group_by is None:
        assert answer["by_group"] is None
        return
    groups = rows.with_columns(pl.col(group_by).fill_null("unknown")).group_by([group_by])
    assert answer["by_group"] == {
        place: {
            "counts": list(np.histogram(part["latency"].to_numpy(), edges)[0]),
            "percentiles": percentiles(part),
            "count": part.height,
        }
        for (place,), part in groups
    }


@pytest.mark.parametrize(
    ("metric", "column"), [("metric_score", None), ("latency", None), ("COST", "cost"), ("has_errors", None)]
)
@pytest.mark.parametrize("group_by", [None, "environment"])
def test_values_of_a_column_in_groups(
    api: Api, frame: pl.DataFrame, metric: str, column: str | None, group_by: str | None
) -> None:
    rows = frame.with_columns(pl.col(column or metric).cast(pl.Float64).alias("v")).drop_nulls("v")

    asked = {"group_by": group_by} if group_by else {}
    answer = api.json(f"{ROOT}/class-distribution", metric=metric, **asked)

    assert (answer["metric"], answer["group_by"]) == (metric, group_by)
    expected = {}
    for (place,), part in rows.with_columns(pl.col(group_by) if group_by else pl.lit("all").alias("place")).group_by(
        [group_by or "place"]
    ):
        values: Any = part["v"]
        expected[place] = {
            "group": place,
            "values": [close(value) for value in values.sort()],
            "stats": {
                "mean": close(values.mean()),
                "std": close(values.std(ddof=1)),
                "min": close(values.min()),
                "max": close(values.max()),
                "median": close(values.median()),
                "count": len(values),
            },
        }
    assert answer["data"] == [expected[place] for place in sorted(expected)]


def pearson(left: pl.Series, right: pl.Series) -> float:
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    if len(pairs) < 2 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return 0.0
    return float(np.corrcoef(np.array(pairs).T)[0, 1])


def test_correlation_of_columns_is_of_rows(api: Api, frame: pl.DataFrame) -> None:
    rows = frame.with_columns(pl.col("cost").cast(pl.Float64))

    answer = api.json(f"{ROOT}/correlation", metrics="latency, cost ,metric_score,latency")

    names = ["latency", "cost", "metric_score"]
    assert answer["metrics"] == names
    for row, left in zip(answer["matrix"], names, strict=True):
        assert row == [pytest.approx(pearson(rows[left], rows[right]), abs=1e-9) for right in names]


def test_correlation_of_metrics_is_of_records(api: Api, frame: pl.DataFrame) -> None:
    """Each metric is a row of its own: without the pivot, nothing would ever have a pair."""
    wide = frame.filter(pl.col("metric_score").is_not_null()).pivot(
        "metric_name", index="dataset_id", values="metric_score", aggregate_function="mean"
    )
    names = ["faithfulness", "relevancy", "failure"]  # the last one has no scores

    answer = api.json(f"{ROOT}/correlation", metrics=",".join(names))

    matrix = np.array(answer["matrix"])
    assert matrix[0, 1] == pytest.approx(pearson(wide["faithfulness"], wide["relevancy"]), abs=1e-9) != 0
    assert (matrix == matrix.T).all()
    assert matrix.diagonal().tolist() == [pytest.approx(1), pytest.approx(1), 0]
    assert matrix[2].tolist() == [0, 0, 0]


def test_correlation_refuses_metrics_that_do_not_exist(api: Api) -> None:
    """Thirty names of nothing cost as much as thirty metrics."""
    answer = api.get(f"{ROOT}/correlation", metrics="faithfulness,no such metric,latency,query")

    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert "no such metric, query" in answer.json()["detail"]


@pytest.mark.parametrize("scale", [1.0, 1e149, 1e-150])
def test_coefficients_of_all_pairs_are_those_that_duckdb_computes(scale: float) -> None:
    """With missing values, constants, and offsets that would cancel every digit in plain sums."""
    drawn = np.random.default_rng(5)
    rows = drawn.normal(size=(3000, 9))
    rows[:, 1] += 2 * rows[:, 0]
    rows[:, 2] = 7.0
    rows[:, 3] = 1e3 + rows[:, 0] + rows[:, 3]
    rows[:, 4] = np.where(np.arange(3000) % 2, 0.1, rows[:, 4])
    rows[drawn.random((3000, 9)) < 0.3] = np.nan
    rows[::2, 5] = np.nan  # where there is a value, column 4 is constant
    rows[:, 6] = np.nan
    rows[1:, 7] = np.nan
    rows[:, 8] = np.where(np.arange(3000) % 2, 1e3 + 1e-2 * rows[:, 8], rows[:, 8])
    rows *= scale
    frame = pl.DataFrame(rows, schema=[f"m{number}" for number in range(9)]).fill_nan(None)

    found = coefficients(rows)

    for left in range(9):
        for right in range(9):
            sql = f"SELECT corr(m{left}, m{right}) FROM frame"
            with duckdb.connect() as connection:
                connection.register("frame", frame.with_columns(pl.all() / scale).to_arrow())
                value = connection.execute(sql).fetchall()[0][0]
            expected = value if value is not None and math.isfinite(value) else 0.0
            assert found[left, right] == pytest.approx(expected, abs=1e-9), (left, right)


def test_a_correlation_of_no_rows_is_nothing() -> None:
    assert coefficients(np.empty((0, 2))).tolist() == [[0, 0], [0, 0]]


def test_correlation_without_metrics_is_of_all_of_them(api: Api, frame: pl.DataFrame) -> None:
    assert api.json(f"{ROOT}/correlation")["metrics"] == sorted(set(frame["metric_name"]))


@pytest.mark.parametrize("metrics", ["", "latency", "metric_score", "latency,latency", ","])
def test_fewer_than_two_metrics_have_no_correlation(api: Api, metrics: str) -> None:
    answer = api.json(f"{ROOT}/correlation", metrics=metrics)

    assert (answer["matrix"], answer["metrics"]) == ([], [])


@pytest.mark.parametrize("metric", ["x", "query", ""])
def test_a_metric_that_is_no_column_of_numbers_is_refused(api: Api, metric: str) -> None:
    answer = api.get(f"{ROOT}/class-distribution", metric=metric)

    assert (answer.status_code, answer.json()["detail"]) == (400, f"Missing metric column: {metric}")


def test_too_many_metrics_are_refused(api: Api) -> None:
    answer = api.get(f"{ROOT}/correlation", metrics=",".join(f"m{number}" for number in range(31)))

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Too many metrics: 31.")


def test_one_latency_alone_has_a_range_of_one(serve: Serve, store: Store) -> None:
    dataset = [scenario.records(1)[0] | {"latency": 250.0}]
    scenario.publish(store, scenario.spec_of(), dataset, scenario.results(dataset))

    histogram = serve(store.root).json(f"{ROOT}/latency-distribution", bins=5)["histogram"]

    assert (histogram["edges"][0], histogram["edges"][-1]) == (250, 251)
    assert histogram["counts"][1:] == [0, 0, 0, 0]
    assert histogram["counts"][0] > 0
