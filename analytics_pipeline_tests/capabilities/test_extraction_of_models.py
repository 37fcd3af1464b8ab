"""Extraction from what was measured of models: evaluation, robustness, explanation, on examples reckoned by hand."""

from __future__ import annotations

import math
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs, MetricValues
from analytics_pipeline.capabilities.extraction.explanation import (
    ExplainedDetection,
    SaliencyMap,
    XaitkExplainableOutputs,
)
from analytics_pipeline.capabilities.extraction.robustness import in_words
from analytics_pipeline.errors import RunRefused
from analytics_pipeline_tests.capabilities.outputs import (
    EVALUATION,
    EXPLANATION,
    ROBUSTNESS,
    changed,
    extracted,
    facts,
    refusal,
)

FINITE = st.floats(min_value=-1e9, max_value=1e9)


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
