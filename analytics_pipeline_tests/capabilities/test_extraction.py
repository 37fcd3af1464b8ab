"""Extraction: the rules by which measurements become rows, on examples reckoned by hand."""

from __future__ import annotations

import json
import math
import re
import statistics
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from analytics_pipeline.capabilities.extraction import CAPABILITIES
from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs
from analytics_pipeline.capabilities.extraction.cleaning import CleanedImage, DataevalCleaningOutputs
from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs, MetricValues
from analytics_pipeline.capabilities.extraction.explanation import (
    ExplainedDetection,
    SaliencyMap,
    XaitkExplainableOutputs,
)
from analytics_pipeline.capabilities.extraction.feasibility import BoxHealth
from analytics_pipeline.capabilities.extraction.outputs import Outputs, RunFacts
from analytics_pipeline.capabilities.extraction.robustness import in_words
from analytics_pipeline.capabilities.extraction.shift import ScoredSample
from analytics_pipeline.errors import OutputsRefused, RunRefused
from analytics_pipeline_tests.capabilities.outputs import (
    BIAS,
    CLEANING,
    EVALUATION,
    EXPLANATION,
    FEASIBILITY,
    MOMENT,
    ROBUSTNESS,
    RUNS,
    SHIFT,
    facts,
    image,
)

FINITE = st.floats(min_value=-1e9, max_value=1e9)


def extracted(outputs: Outputs, run: RunFacts | None = None) -> list[dict[str, Any]]:
    """The rows, without what they have in common."""
    rows = CAPABILITIES[outputs.capability].extract(outputs, run or RUNS[outputs.capability][1])
    return [row.model_dump(exclude={"run_uid", "created_at"}) for row in rows]


def changed(outputs: Outputs, **fields: object) -> Outputs:
    """The outputs with other fields, checked again."""
    return type(outputs).model_validate({**outputs.model_dump(), **fields})


def refusal(outputs: Outputs, **fields: object) -> str:
    with pytest.raises(ValidationError) as refused:
        changed(outputs, **fields)
    return str(refused.value)


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


# Evaluation


def test_evaluation_has_a_row_an_output_key_and_one_a_class() -> None:
    rows = extracted(EVALUATION)

    assert {(row["dataset_id"], row["model_id"]) for row in rows} == {("cifar10", "resnet50")}
    told = [tuple(row.values())[2:] for row in rows]
    assert told == [
        ("map", "map50", 0.5, "overall", None),
        ("map", "map75", 0.25, "overall", None),
        ("precision", "precision", 0.75, "overall", None),
        ("precision", "precision", 0.5, "class", "cat"),
        ("precision", "precision", 1.0, "class", "dog"),
        ("precision", "precision", None, "class", "owl"),
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"overall": {}}, "at least 1"),
        ({"overall": {"f1": 1}, "classes": {"cat": 1}}, "classes needs class_key"),
        ({"overall": {"f1": 1}, "class_key": "f2"}, "class_key 'f2' is not among the output keys"),
        ({"overall": {"f1": math.nan}}, "finite number"),
        ({"overall": {"f1": True}}, "valid number"),
    ],
)
def test_values_of_a_metric_that_say_nothing_are_refused(values: dict[str, object], reason: str) -> None:
    assert reason in refusal(EVALUATION, metrics={"f1": values})


def test_a_metric_that_the_run_does_not_name_is_refused() -> None:
    """Else its rows could never be found by joining `runs`."""
    with pytest.raises(RunRefused, match="the metric 'precision', which is not among its metrics"):
        extracted(EVALUATION, facts(models=("resnet50",), metrics=("map",)))


names = st.text(min_size=1, max_size=5)
values = st.none() | FINITE


@given(
    st.dictionaries(
        names, st.tuples(st.dictionaries(names, values, min_size=1), st.dictionaries(names, values)), min_size=1
    )
)
def test_every_value_of_an_evaluation_is_one_row(
    metrics: dict[str, tuple[dict[str, float | None], dict[str, float | None]]],
) -> None:
    outputs = MaiteEvaluationOutputs(
        metrics={
            metric: MetricValues(overall=overall, class_key=min(overall), classes=classes)
            for metric, (overall, classes) in metrics.items()
        }
    )

    rows = extracted(outputs, facts(models=("m",), metrics=tuple(metrics)))

    given_values: dict[tuple[str, str, str | None], float | None] = {}
    for metric, (overall, classes) in metrics.items():
        given_values.update({(metric, key, None): value for key, value in overall.items()})
        given_values.update({(metric, min(overall), name): value for name, value in classes.items()})
    assert {
        (row["metric_id"], row["output_key"], row["class_name"]): row["output_value"] for row in rows
    } == given_values
    assert len(rows) == len(given_values)
    assert all((row["scope"] == "class") == (row["class_name"] is not None) for row in rows)


# Robustness


def test_robustness_has_a_row_a_step_and_metric_key() -> None:
    rows = extracted(ROBUSTNESS)

    assert {tuple(row.values())[:6] for row in rows} == {
        ("cifar10", "resnet50", "accuracy", "BrightnessPerturber", "Brightness Perturber", "factor")
    }
    assert [tuple(row.values())[6:] for row in rows] == [
        (0, 1.0, "accuracy", 0.9, True),
        (0, 1.0, "f1", 0.8, False),
        (1, 0.5, "accuracy", 0.4, True),
        (1, 0.5, "f1", None, False),
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"thetas": [1.0]}, "there are 1 thetas and 2 scores"),
        ({"scores": [{"accuracy": 1.0}]}, "there are 2 thetas and 1 scores"),
        ({"return_key": "f1", "scores": [{"f1": 1.0}, {"accuracy": 1.0}]}, "'f1' is not among the scores of step 1"),
        ({"thetas": [], "scores": []}, "at least 1"),
        ({"perturber": "nrtk."}, "pattern"),
    ],
)
def test_a_curve_with_holes_is_refused(fields: dict[str, object], reason: str) -> None:
    assert reason in refusal(ROBUSTNESS, **fields)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BrightnessPerturber", "Brightness Perturber"),
        ("GaussianBlurPerturber", "Gaussian Blur Perturber"),
        ("JPEGCompressionPerturber", "JPEG Compression Perturber"),
        ("PyBSMPerturber", "Py BSM Perturber"),
        ("NOPPerturber", "NOP Perturber"),
        ("Rotation3DPerturber", "Rotation 3D Perturber"),
        ("JPEG2000Perturber", "JPEG2000 Perturber"),
        ("ImageDCT", "Image DCT"),
        ("Blur", "Blur"),
        ("my_perturber", "my_perturber"),
    ],
)
def test_a_class_name_is_split_at_capitals_and_acronyms_stay_whole(name: str, words: str) -> None:
    assert in_words(name) == words


@given(st.from_regex(re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z"), fullmatch=True))
def test_no_letter_of_a_class_name_is_lost(name: str) -> None:
    words = in_words(name)

    assert words.replace(" ", "") == name
    assert all(words.split(" ")), "no two spaces, none outside"


@given(st.lists(st.from_regex(re.compile(r"[A-Z][a-z]+"), fullmatch=True), min_size=1))
def test_capitalised_words_come_apart_again(words: list[str]) -> None:
    assert in_words("".join(words)).split(" ") == words


# Explanation


def test_a_saliency_map_of_an_image_is_one_row() -> None:
    assert extracted(EXPLANATION) == [
        {
            "dataset_id": "cifar10",
            "model_id": "resnet50",
            "saliency_generator_type": "RISEStack",
            "image_index": 0,
            "gt_label": "cat",
            "image_id": None,
            "detection_index": None,
            "predicted_label": None,
            "confidence": None,
            "mean_saliency": 0.25,
            "max_saliency": 1.0,
            "std_saliency": pytest.approx(statistics.pstdev([0.0, 0.5, -0.5, 1.0])),
            "positive_saliency_ratio": 0.5,  # 0.0 itself is not above 0
        }
    ]


def test_detections_of_one_image_are_a_row_each() -> None:
    maps = tuple(
        SaliencyMap(
            image_index=7,
            detection=ExplainedDetection(image_id="i7", index=place, predicted_label="dog", confidence=0.5),
            pixels=((-1.0, -0.5),),
        )
        for place in range(2)
    )

    rows = extracted(XaitkExplainableOutputs(saliency_generator="DRISEStack", maps=maps))

    assert [(row["image_index"], row["image_id"], row["detection_index"]) for row in rows] == [
        (7, "i7", 0),
        (7, "i7", 1),
    ]
    assert {(row["gt_label"], row["predicted_label"], row["confidence"]) for row in rows} == {(None, "dog", 0.5)}
    assert {(row["max_saliency"], row["positive_saliency_ratio"]) for row in rows} == {(-0.5, 0.0)}


def test_a_run_that_detected_nothing_has_no_rows() -> None:
    assert extracted(changed(EXPLANATION, maps=())) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pixels": []}, "at least 1"),
        ({"pixels": [[]]}, "at least 1"),
        ({"pixels": [[0.5, 0.5], [0.5]]}, "the rows differ in length"),
        ({"pixels": [[math.inf]]}, "finite number"),
        (
            {
                "pixels": [[1]],
                "gt_label": "cat",
                "detection": {"image_id": "a", "index": 0, "predicted_label": "cat", "confidence": 0.5},
            },
            "not both",
        ),
    ],
)
def test_a_map_that_is_none_is_refused(fields: dict[str, object], reason: str) -> None:
    assert reason in refusal(EXPLANATION, maps=[{"image_index": 0, **fields}])


# All of them


@pytest.mark.parametrize("table", RUNS)
def test_rows_belong_to_their_table_and_run(table: str) -> None:
    outputs, run = RUNS[table]

    rows = CAPABILITIES[table].extract(outputs, run)

    assert {(row.table_name, row.run_uid, row.created_at) for row in rows} == {(table, "a1b2", MOMENT)}


@pytest.mark.parametrize("table", RUNS)
def test_extracting_twice_gives_the_same_rows(table: str) -> None:
    outputs, run = RUNS[table]

    assert CAPABILITIES[table].extract(outputs, run) == CAPABILITIES[table].extract(outputs, run)


def test_all_rows_of_an_extraction_have_one_moment() -> None:
    before = datetime.now(UTC)
    run = RunFacts("a1b2", "c", ("d",), ("m",), ("map", "precision"))

    (moment,) = {row.created_at for row in CAPABILITIES["maite_evaluation"].extract(EVALUATION, run)}
    assert before <= moment <= datetime.now(UTC)


@pytest.mark.parametrize("table", RUNS)
def test_outputs_survive_json(table: str) -> None:
    outputs, run = RUNS[table]
    model = CAPABILITIES[table].outputs

    again = model.model_validate_json(outputs.model_dump_json())

    assert again == outputs
    assert model.model_validate(json.loads(outputs.model_dump_json())) == outputs, "so does a document read by json"
    assert CAPABILITIES[table].extract(again, run) == CAPABILITIES[table].extract(outputs, run)


@pytest.mark.parametrize("table", RUNS)
def test_outputs_with_a_field_nobody_knows_are_refused(table: str) -> None:
    assert "more\n  Extra inputs are not permitted" in refusal(RUNS[table][0], more=1)


def broken(document: Any, value: object) -> list[Any]:
    """The document once for each of its numbers, with that one replaced."""
    if isinstance(document, dict):
        return [{**document, key: other} for key, item in document.items() for other in broken(item, value)]
    if isinstance(document, list):
        return [
            [*document[:place], other, *document[place + 1 :]]
            for place, item in enumerate(document)
            for other in broken(item, value)
        ]
    return [value] if isinstance(document, (int, float)) and not isinstance(document, bool) else []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", True, [1]])
@pytest.mark.parametrize("table", RUNS)
def test_no_number_of_any_outputs_may_be_something_else(table: str, value: object) -> None:
    documents = broken(json.loads(RUNS[table][0].model_dump_json()), value)

    assert documents
    for document in documents:
        with pytest.raises(ValidationError):
            CAPABILITIES[table].outputs.model_validate_json(json.dumps(document))


@pytest.mark.parametrize("table", RUNS)
def test_a_run_on_no_dataset_or_too_many_is_refused(table: str) -> None:
    outputs, run = RUNS[table]
    for datasets in ((), ("a", "b", "c")):
        with pytest.raises(RunRefused, match=rf"Run 'a1b2' has {len(datasets)} datasets .* exactly (one|two)"):
            CAPABILITIES[table].extract(outputs, facts(datasets=datasets, models=run.models, metrics=run.metrics))


@pytest.mark.parametrize("table", ["maite_evaluation", "nrtk_robustness", "xaitk_explainable"])
def test_a_run_of_two_models_is_refused_where_rows_name_one(table: str) -> None:
    outputs, run = RUNS[table]
    with pytest.raises(RunRefused, match="has 2 models where its capability takes exactly one"):
        CAPABILITIES[table].extract(outputs, facts(models=("a", "b"), metrics=run.metrics))


def test_a_robustness_run_has_one_metric() -> None:
    with pytest.raises(RunRefused, match="has 2 metrics"):
        extracted(ROBUSTNESS, facts(models=("m",), metrics=("a", "b")))


def test_outputs_of_another_capability_are_refused() -> None:
    with pytest.raises(OutputsRefused, match="dataeval_bias extracts records from DataevalBiasOutputs, not from Datae"):
        CAPABILITIES["dataeval_bias"].extract(CLEANING, facts())


def test_capabilities_are_found_by_the_name_that_their_outputs_carry() -> None:
    assert {table: known.outputs.capability for table, known in CAPABILITIES.items()} == {
        table: table for table in RUNS
    }
