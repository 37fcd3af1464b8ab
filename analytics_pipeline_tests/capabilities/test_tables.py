"""The seven tables: the columns that users of checkmaite know, and a page that says what each holds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from analytics_pipeline.capabilities import AnalyticsStore, BaseRecord, build_store, tables
from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.records import scalar_of
from analytics_pipeline_tests.capabilities.outputs import finished
from analytics_pipeline_tests.workplace import REPOSITORY

CLASSES: dict[str, type[BaseRecord]] = {
    known.table_name: known
    for known in vars(tables).values()
    if isinstance(known, type) and issubclass(known, BaseRecord) and known is not BaseRecord
}
SHARED = {"run_uid", "created_at"}
KNOWN = {
    "dataeval_bias": """
        dataset_id: str; coverage_total: int; coverage_uncovered_count: int; coverage_uncovered_ratio: float;
        coverage_radius: float; balance_num_factors: int?; balance_mean: float?; balance_max: float?;
        balance_factors_above_05: int?; diversity_num_factors: int?; diversity_mean: float?; diversity_min: float?;
        diversity_factors_below_04: int?
    """,
    "dataeval_cleaning": """
        dataset_id: str; exact_duplicate_count: int; exact_duplicate_ratio: float; near_duplicate_count: int;
        near_duplicate_ratio: float; image_outlier_count: int; image_outlier_ratio: float; class_count: int;
        label_count: int; image_count: int; target_outlier_count: int?; target_outlier_ratio: float?;
        mean_width: float; mean_height: float; std_aspect_ratio: float; mean_brightness: float;
        mean_contrast: float; mean_sharpness: float; class_imbalance_ratio: float; min_class_image_count: int;
        max_class_image_count: int; mean_labels_per_image: float
    """,
    "dataeval_feasibility": """
        dataset_id: str; ber_upper: float; ber_lower: float; num_instances: int?; num_classes: int?;
        small_object_ratio: float?; truncated_bbox_ratio: float?; overlap_image_ratio: float?;
        health_warning_count: int?
    """,
    "dataeval_shift": """
        reference_dataset_id: str; evaluation_dataset_id: str; mmd_drifted: bool; mmd_distance: float;
        mmd_p_val: float; mmd_threshold: float; cvm_drifted: bool; cvm_distance: float; cvm_p_val: float;
        cvm_threshold: float; cvm_feature_drift_count: int; ks_drifted: bool; ks_distance: float; ks_p_val: float;
        ks_threshold: float; ks_feature_drift_count: int; ood_count: int; ood_total: int; ood_ratio: float;
        ood_mean_instance_score: float; ood_std_instance_score: float; ood_max_instance_score: float
    """,
    "maite_evaluation": """
        dataset_id: str; model_id: str; metric_id: str; output_key: str; output_value: float; scope: str;
        class_name: str?
    """,
    "nrtk_robustness": """
        dataset_id: str; model_id: str; metric_id: str; perturber_class: str; perturber_type: str; theta_key: str;
        theta_index: int; theta_value: float; metric_key: str; metric_value: float; is_primary: bool
    """,
    "xaitk_explainable": """
        dataset_id: str; model_id: str; saliency_generator_type: str; image_index: int; gt_label: str?;
        image_id: str?; detection_index: int?; predicted_label: str?; confidence: float?; mean_saliency: float;
        max_saliency: float; std_saliency: float; positive_saliency_ratio: float
    """,
}
"""Columns and types of checkmaite 0.6, in its order; a question mark where it stores NULL."""
NO_NUMBER = {
    "dataeval_bias": {"coverage_radius"},
    "dataeval_cleaning": {
        "mean_width",
        "mean_height",
        "std_aspect_ratio",
        "mean_brightness",
        "mean_contrast",
        "mean_sharpness",
        "class_imbalance_ratio",
    },
    "dataeval_shift": {"ood_mean_instance_score", "ood_std_instance_score", "ood_max_instance_score"},
    "maite_evaluation": {"output_value"},
    "nrtk_robustness": {"metric_value"},
}
"""Columns that may be NULL here and are NaN, infinite or 0 there."""
POLARS = {"str": "String", "int": "Int64", "float": "Float64", "bool": "Boolean"}
PAGE = REPOSITORY / "docs" / "capability-tables.md"


def own_columns(table: str) -> Iterator[tuple[str, str, bool]]:
    """Name, type and whether it can be NULL of what is the table's own."""
    for name, field in CLASSES[table].model_fields.items():
        if name not in SHARED:
            scalar = scalar_of(field.annotation)
            assert scalar
            yield name, scalar.__name__, type(None) in get_args(field.annotation)


@pytest.fixture
def store(tmp_path: Path) -> AnalyticsStore:
    return build_store({"uri": str(tmp_path)})


def test_every_known_capability_has_its_table() -> None:
    assert set(CLASSES) == set(KNOWN) == set(CAPABILITIES)


@pytest.mark.parametrize("table", KNOWN)
def test_columns_are_those_that_users_of_checkmaite_know(table: str) -> None:
    known = [column.strip().partition(": ") for column in KNOWN[table].split(";")]
    expected = [
        (name, kind.rstrip("?"), kind.endswith("?") or name in NO_NUMBER.get(table, ())) for name, _, kind in known
    ]

    assert list(own_columns(table)) == expected


@pytest.mark.parametrize("table", KNOWN)
def test_a_stored_table_has_the_types_of_its_class(table: str, store: AnalyticsStore) -> None:
    store.write([finished(table)])

    described = store.describe_table(table)
    assert {name: described[name] for name, *_ in own_columns(table)} == {
        name: POLARS[kind] for name, kind, _ in own_columns(table)
    }
    assert described.keys() == SHARED | {name for name, *_ in own_columns(table)}


@pytest.mark.parametrize("table", KNOWN)
def test_what_was_extracted_is_what_is_stored(table: str, store: AnalyticsStore) -> None:
    run = finished(table)
    store.write([run])

    stored = store.query_sql(f"SELECT * FROM {table}").to_dicts()
    extracted = [row.model_dump() for row in run.extract()]
    assert len(stored) == len(extracted)
    assert [row for row in stored if row not in extracted] == []


@pytest.mark.parametrize("table", KNOWN)
def test_a_column_nobody_knows_or_a_missing_one_is_refused(table: str) -> None:
    row = finished(table).extract()[0].model_dump()

    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CLASSES[table].model_validate({**row, "more": 1})
    for name, field in CLASSES[table].model_fields.items():
        if field.is_required():
            with pytest.raises(ValidationError, match=name):
                CLASSES[table].model_validate({key: value for key, value in row.items() if key != name})


def test_an_average_over_runs_leaves_out_what_has_no_number(store: AnalyticsStore) -> None:
    """One dataset with an empty class must not make the mean imbalance of all datasets infinite."""
    row = finished("dataeval_cleaning").extract()[0].model_dump()
    ratios = {"a": 2.0, "b": 4.0, "infinite": math.inf, "nan": math.nan, "null": None}

    store.backend.write(
        [
            CLASSES["dataeval_cleaning"](**{**row, "run_uid": uid, "class_imbalance_ratio": x})
            for uid, x in ratios.items()
        ]
    )

    averages = store.query_sql("SELECT avg(class_imbalance_ratio), count(class_imbalance_ratio) FROM dataeval_cleaning")
    assert averages.rows() == [(3.0, 2)]


@pytest.mark.parametrize("table", KNOWN)
def test_a_class_says_what_a_row_is(table: str) -> None:
    assert (CLASSES[table].__doc__ or "").startswith("One row a ")


def test_the_page_has_every_table_and_column() -> None:
    """Names, order, types and NULLs are the classes'; each column has a meaning."""
    written = {
        section.partition("\n")[0]: re.findall(
            r"^\| `(\w+)` \| (\w+)( \\\| None)? \| (\S.*) \|$", section, re.MULTILINE
        )
        for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    }

    assert {table: [(name, kind, bool(null)) for name, kind, null, _ in rows] for table, rows in written.items()} == {
        table: list(own_columns(table)) for table in CLASSES
    }


def test_the_page_says_of_every_table_what_a_row_is() -> None:
    sections = re.findall(r"^## \w+\n\n(.*)", PAGE.read_text(), re.MULTILINE)

    assert len(sections) == len(CLASSES)
    assert all(section.startswith("One row a ") for section in sections)
