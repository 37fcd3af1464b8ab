"""Extraction from what was measured of datasets: cleaning, bias, feasibility, shift, on examples reckoned by hand."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs
from analytics_pipeline.capabilities.extraction.cleaning import CleanedImage, DataevalCleaningOutputs
from analytics_pipeline.capabilities.extraction.feasibility import BoxHealth
from analytics_pipeline.capabilities.extraction.shift import ScoredSample
from analytics_pipeline_tests.capabilities.outputs import (
    BIAS,
    CLEANING,
    FEASIBILITY,
    SHIFT,
    changed,
    extracted,
    image,
    refusal,
)

FINITE = st.floats(min_value=-1e9, max_value=1e9)


# Cleaning


def test_a_dataset_is_one_cleaning_row() -> None:
    assert extracted(CLEANING) == [
        {
            "dataset_id": "cifar10",
            "exact_duplicate_count": 2,
            "exact_duplicate_ratio": 0.5,
            "near_duplicate_count": 3,
            "near_duplicate_ratio": 0.75,
            "image_outlier_count": 1,
            "image_outlier_ratio": 0.25,
            "class_count": 2,
            "label_count": 4,
            "image_count": 4,
            "target_outlier_count": None,
            "target_outlier_ratio": None,
            "mean_width": 25.0,
            "mean_height": 20.0,
            "std_aspect_ratio": pytest.approx(math.sqrt(0.3125)),
            "mean_brightness": 0.5,
            "mean_contrast": 0.25,
            "mean_sharpness": 2.0,
            "class_imbalance_ratio": 3.0,
            "min_class_image_count": 1,
            "max_class_image_count": 3,
            "mean_labels_per_image": 1.0,
        }
    ]


def test_ratios_of_a_dataset_without_images_are_zero_and_its_means_are_null() -> None:
    (row,) = extracted(DataevalCleaningOutputs(classes=("cat",), images=(), target_outliers=()))

    assert {name: value for name, value in row.items() if value is None} == dict.fromkeys(
        [
            "mean_width",
            "mean_height",
            "std_aspect_ratio",
            "mean_brightness",
            "mean_contrast",
            "mean_sharpness",
            "class_imbalance_ratio",
        ]
    )
    ratios = {name: value for name, value in row.items() if name.endswith("_ratio") and value is not None}
    assert ratios == dict.fromkeys(
        ["exact_duplicate_ratio", "near_duplicate_ratio", "image_outlier_ratio", "target_outlier_ratio"], 0.0
    )
    assert row["mean_labels_per_image"] == 0.0


def test_a_class_without_images_makes_the_imbalance_null_and_the_smallest_class_zero() -> None:
    (row,) = extracted(changed(CLEANING, classes=("cat", "dog", "owl")))

    assert row["class_imbalance_ratio"] is None
    assert (row["class_count"], row["min_class_image_count"], row["max_class_image_count"]) == (3, 0, 3)


def test_a_dataset_without_classes_has_no_imbalance() -> None:
    (row,) = extracted(DataevalCleaningOutputs(classes=(), images=(image(),)))

    assert row["class_imbalance_ratio"] is None
    assert (row["class_count"], row["min_class_image_count"], row["max_class_image_count"]) == (0, 0, 0)


def test_classes_are_counted_by_image_and_labels_by_label() -> None:
    """Three dogs on one image are three labels, and one image that shows a dog."""
    outputs = DataevalCleaningOutputs(
        classes=("cat", "dog"),
        images=(image("dog", "dog", "dog"), image("dog", "cat"), image()),
        target_outliers=(4, 0),
    )

    (row,) = extracted(outputs)

    assert (row["label_count"], row["mean_labels_per_image"]) == (5, pytest.approx(5 / 3))
    assert (row["min_class_image_count"], row["max_class_image_count"], row["class_imbalance_ratio"]) == (1, 2, 2.0)
    assert (row["target_outlier_count"], row["target_outlier_ratio"]) == (2, 0.4)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"exact_duplicates": [[0, 4]]}, "place 4 is beyond the 4 images"),
        ({"near_duplicates": [[0, 1], [1, 2]]}, "an image stands in two groups"),
        ({"near_duplicates": [[0]]}, "at least 2"),
        ({"exact_duplicates": [[1, 1]]}, "names a place twice"),
        ({"image_outliers": [4]}, "place 4 is beyond the 4 images"),
        ({"image_outliers": [-1]}, "greater than or equal to 0"),
        ({"target_outliers": [4]}, "place 4 is beyond the 4 labels"),
        ({"classes": ["cat"]}, "the label 'dog' is not among the classes"),
        ({"classes": ["cat", "dog", "dog"]}, "a class is named twice"),
    ],
)
def test_cleaning_outputs_that_contradict_themselves_are_refused(fields: dict[str, object], reason: str) -> None:
    assert reason in refusal(CLEANING, **fields)


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000), FINITE), min_size=1, max_size=40))
def test_means_are_means_and_deviations_those_of_a_population(sizes: list[tuple[int, int, float]]) -> None:
    images = tuple(
        CleanedImage(width=width, height=height, brightness=light, contrast=-light, sharpness=0.0, labels=())
        for width, height, light in sizes
    )

    (row,) = extracted(DataevalCleaningOutputs(classes=(), images=images))

    aspects = [width / height for width, height, _ in sizes]
    assert row["std_aspect_ratio"] == pytest.approx(statistics.pstdev(aspects), rel=1e-6, abs=1e-6)
    assert row["mean_brightness"] == pytest.approx(statistics.fmean(light for *_, light in sizes), rel=1e-6, abs=1e-3)
    assert row["mean_contrast"] == pytest.approx(-row["mean_brightness"], rel=1e-6, abs=1e-3)


# Bias


def test_a_dataset_is_one_bias_row_and_the_limits_are_half_open() -> None:
    assert extracted(BIAS) == [
        {
            "dataset_id": "cifar10",
            "coverage_total": 4,
            "coverage_uncovered_count": 1,
            "coverage_uncovered_ratio": 0.25,
            "coverage_radius": 0.5,
            "balance_num_factors": 3,
            "balance_mean": 0.5,
            "balance_max": 0.75,
            "balance_factors_above_05": 2,  # 0.5 itself is one
            "diversity_num_factors": 3,
            "diversity_mean": 0.5,
            "diversity_min": 0.2,
            "diversity_factors_below_04": 1,  # 0.4 itself is none
        }
    ]


@pytest.mark.parametrize("factors", [None, {}])
def test_without_metadata_factors_balance_and_diversity_are_null(factors: dict[str, float] | None) -> None:
    (row,) = extracted(changed(BIAS, balance=factors, diversity=factors))

    told = {name: value for name, value in row.items() if name.startswith(("balance_", "diversity_"))}
    assert len(told) == 8
    assert set(told.values()) == {None}


def test_no_factor_in_question_is_zero_and_not_null() -> None:
    (row,) = extracted(changed(BIAS, balance={"hour": 0.0}, diversity={"hour": 1.0}))

    assert (row["balance_factors_above_05"], row["diversity_factors_below_04"]) == (0, 0)
    assert (row["balance_max"], row["balance_mean"]) == (0.0, 0.0)


def test_coverage_of_nothing_is_zero() -> None:
    (row,) = extracted(DataevalBiasOutputs(image_count=0, uncovered=(), coverage_radius=None))

    assert (row["coverage_uncovered_ratio"], row["coverage_radius"]) == (0.0, None)


def test_an_uncovered_image_is_one_of_the_dataset() -> None:
    assert "place 4 is beyond the 4 images" in refusal(BIAS, uncovered=[4])


# Feasibility


def test_feasibility_of_image_classification_has_no_boxes() -> None:
    (row,) = extracted(FEASIBILITY)

    assert (row.pop("dataset_id"), row.pop("ber_upper"), row.pop("ber_lower")) == ("cifar10", 0.3, 0.2)
    assert len(row) == 6
    assert set(row.values()) == {None}


def test_feasibility_of_object_detection_tells_of_its_boxes() -> None:
    boxes = BoxHealth(
        num_instances=0,
        num_classes=0,
        small_object_ratio=0.0,
        truncated_bbox_ratio=0.5,
        overlap_image_ratio=1.0,
        warnings=("few boxes", "small boxes"),
    )

    (row,) = extracted(changed(FEASIBILITY, boxes=boxes))

    assert (row["num_instances"], row["num_classes"], row["small_object_ratio"]) == (0, 0, 0.0)
    assert (row["truncated_bbox_ratio"], row["overlap_image_ratio"], row["health_warning_count"]) == (0.5, 1.0, 2)


def test_a_lower_bound_above_the_upper_one_is_refused() -> None:
    assert "ber_lower 0.4 is above ber_upper 0.3" in refusal(FEASIBILITY, ber_lower=0.4)


# Shift


def test_a_comparison_is_one_shift_row() -> None:
    assert extracted(SHIFT) == [
        {
            "reference_dataset_id": "cifar10",
            "evaluation_dataset_id": "cifar10-night",
            "mmd_drifted": True,
            "mmd_distance": 0.5,
            "mmd_p_val": 0.01,
            "mmd_threshold": 0.05,
            "cvm_drifted": True,
            "cvm_distance": 0.25,
            "cvm_p_val": 0.02,
            "cvm_threshold": 0.05,
            "cvm_feature_drift_count": 2,
            "ks_drifted": False,
            "ks_distance": 0.125,
            "ks_p_val": 0.5,
            "ks_threshold": 0.05,
            "ks_feature_drift_count": 0,
            "ood_count": 1,
            "ood_total": 4,
            "ood_ratio": 0.25,
            "ood_mean_instance_score": 2.0,
            "ood_std_instance_score": pytest.approx(math.sqrt(1.5)),
            "ood_max_instance_score": 4.0,
        }
    ]


def test_without_samples_the_share_is_zero_and_the_scores_are_null() -> None:
    (row,) = extracted(changed(SHIFT, samples=()))

    assert (row["ood_count"], row["ood_total"], row["ood_ratio"]) == (0, 0, 0.0)
    assert {row[f"ood_{figure}_instance_score"] for figure in ("mean", "std", "max")} == {None}


def test_a_score_below_zero_can_be_the_largest() -> None:
    (row,) = extracted(changed(SHIFT, samples=(ScoredSample(is_ood=False, instance_score=-3.0),)))

    assert (row["ood_max_instance_score"], row["ood_std_instance_score"]) == (-3.0, 0.0)
