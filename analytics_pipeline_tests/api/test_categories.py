"""Classifications and analyses equal what Polars finds in the rows that were published."""

from __future__ import annotations

import polars as pl
import pytest

from analytics_pipeline_tests.api.analytics import ROOT, category_is
from analytics_pipeline_tests.api.conftest import Api


@pytest.mark.parametrize(
    ("source", "column"), [("explanation", "explanation"), ("nope", "actual_output"), ("metric_name", "metric_name")]
)
def test_classifications_are_counted(api: Api, frame: pl.DataFrame, source: str, column: str) -> None:
    rows = frame.filter(category_is("classification")).drop_nulls(column)

    answer = api.json(f"{ROOT}/classification-breakdown", category_source=source)

    counts = sorted(rows[column].value_counts().rows(), key=lambda row: (-row[1], row[0]))
    assert answer["metrics"] == [
        {
            "metric_name": "intent",
            "categories": [
                {"value": value, "count": count, "percentage": round(100 * count / rows.height, 1)}
                for value, count in counts
            ],
            "total_count": rows.height,
        }
    ]
    assert api.json(f"{ROOT}/classification-breakdown", metric_name="faithfulness")["metrics"] == []


@pytest.mark.parametrize(("granularity", "every"), [("hourly", "1h"), ("daily", "1d"), ("weekly", "1w")])
def test_classifications_over_time(api: Api, frame: pl.DataFrame, granularity: str, every: str) -> None:
    rows = frame.filter(category_is("classification")).drop_nulls(["explanation", "timestamp"])
    steps = rows.group_by(pl.col("timestamp").dt.truncate(every)).agg(pl.col("explanation").value_counts())

    answer = api.json(f"{ROOT}/classification-trends", metric_name="intent", granularity=granularity)

    assert answer["unique_categories"] == sorted(set(rows["explanation"]))
    assert answer["data"] == [
        {
            "timestamp": f"{row['timestamp']:%Y-%m-%d %H:%M:%S}",
            "categories": {count["explanation"]: count["count"] for count in row["explanation"]},
        }
        for row in steps.sort("timestamp").to_dicts()
    ]


def test_insights_come_newest_first_and_page_by_page(api: Api, frame: pl.DataFrame) -> None:
    rows = frame.filter(category_is("analysis")).sort("timestamp", descending=True, nulls_last=True)

    pages = [api.json(f"{ROOT}/analysis-insights", page=page, limit=100) for page in (1, 2, 3, 4)]

    listed = [record for page in pages for record in page["records"]]
    assert {page["total_count"] for page in pages} == {rows.height} == {len(listed)}
    assert pages[0]["metric_names"] == ["failure"]
    assert [record["timestamp"] for record in listed] == [
        None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}" for moment in rows["timestamp"]
    ]
    by_id = {row["dataset_id"]: row for row in rows.to_dicts()}
    for record in listed:
        row = by_id[record["dataset_id"]]
        for name in ("metric_name", "query", "actual_output", "explanation"):
            assert record[name] == row[name]
        assert record["source_info"] == {name: row[name] for name in ("environment", "source_name", "source_component")}
        is_object = (row["signals"] or "").startswith("{")
        assert record["signals"] == ({"cause": "timeout", "votes": [1, None]} if is_object else {})


def test_insights_of_one_metric_still_name_the_others(api: Api) -> None:
    answer = api.json(f"{ROOT}/analysis-insights", metric_name="no such metric")

    assert (answer["records"], answer["total_count"], answer["metric_names"]) == ([], 0, ["failure"])
