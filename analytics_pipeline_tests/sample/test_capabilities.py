"""Capability runs of the sample: what they say of the digits is true, by other people's definitions too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analytics_pipeline.capabilities import build_store
from analytics_pipeline.capabilities.extraction.bias import DataevalBiasOutputs
from analytics_pipeline.capabilities.extraction.cleaning import DataevalCleaningOutputs
from analytics_pipeline.capabilities.extraction.evaluation import MaiteEvaluationOutputs
from analytics_pipeline.sample import digits, measures
from analytics_pipeline.sample.capabilities import (
    CLASSES,
    DATASETS,
    bias_runs,
    cleaning_of,
    cleaning_runs,
    digits_runs,
    evaluation_of,
    evaluation_runs,
    read_images,
)

LABELS = arrays.arrays(np.int64, st.shared(st.integers(1, 60), key="rows"), elements=st.integers(0, 3))


# Measures, against scikit-learn


@settings(max_examples=50, deadline=None)
@given(labels=LABELS, predicted=LABELS)
@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_scores_of_classes_are_those_of_scikit_learn(
    metric: str, labels: measures.Integers, predicted: measures.Integers
) -> None:
    from sklearn import metrics  # noqa: PLC0415 - slow to import

    scores = getattr(measures, metric)(labels, predicted, 4)

    theirs = getattr(metrics, f"{metric}_score")(labels, predicted, labels=range(4), average=None, zero_division=np.nan)
    assert [np.nan if score is None else score for score in scores.classes] == pytest.approx(list(theirs), nan_ok=True)
    assert scores.overall == pytest.approx(np.nanmean(theirs))


@settings(max_examples=50, deadline=None)
@given(one=LABELS, other=LABELS)
def test_shared_information_is_normalised_as_in_scikit_learn(one: measures.Integers, other: measures.Integers) -> None:
    from sklearn.metrics import normalized_mutual_info_score  # noqa: PLC0415 - slow to import

    if len(set(one)) == len(set(other)) == 1:
        assert measures.shared_information(one, other) == 0, "two constants tell nothing of each other"
    else:
        expected = normalized_mutual_info_score(one, other)
        assert measures.shared_information(one, other) == pytest.approx(expected, abs=1e-9)


def test_uncovered_images_are_those_with_the_farthest_neighbours() -> None:
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415 - slow to import

    points = read_images("digits-test").pixels.reshape(-1, 64)

    found = measures.coverage(points, neighbours=20, share=0.01)

    reach = NearestNeighbors(n_neighbors=21).fit(points).kneighbors(points)[0][:, 20]
    assert found.uncovered == sorted(np.argsort(-reach, kind="stable")[:8].tolist())
    assert found.radius == pytest.approx(reach[found.uncovered].min())


def test_too_few_images_have_no_radius() -> None:
    assert measures.coverage(np.zeros((3, 2), dtype=np.int64), neighbours=3, share=0.5) == ([], None)


def test_looks_of_a_plain_image_a_dot_and_a_brighter_dot() -> None:
    plain = np.full((3, 4), 0.5)
    dot = np.zeros((3, 4))
    dot[1, 1] = 0.5

    brightness, contrast, sharpness = measures.looks(np.stack([plain, dot, 2 * dot]))

    assert brightness.tolist() == pytest.approx([0.5, 0.5 / 12, 1 / 12])
    assert contrast[0] == sharpness[0] == 0
    assert contrast[2] == pytest.approx(2 * contrast[1])
    assert sharpness.tolist() == pytest.approx([0, 1.25, 2.5]), "Laplacians of the two inner pixels: -2 and 0.5"


def test_equal_images_are_no_similar_ones() -> None:
    image = np.array([[0, 1, 5], [3, 2, 2]])
    images = np.stack([image, image + 1, image, image[:, ::-1], image + 2])

    assert measures.equal_groups(images) == [[0, 2]]
    assert measures.similar_groups(images) == [[0, 1, 2, 4]]
    assert measures.similar_groups(images[[0, 2]]) == []


def test_an_outlier_is_far_from_the_mean_of_any_measure() -> None:
    usual = np.tile([0.0, 1.0], 20)
    unusual = usual.copy()
    unusual[7] = 9.0

    assert measures.outliers([usual, usual]) == []
    assert measures.outliers([usual, unusual]) == [7]
    assert measures.outliers([np.zeros(5)]) == []


def test_evenness_goes_from_one_bin_to_all_bins() -> None:
    assert measures.evenness(np.zeros(9, dtype=np.int64), 3) == 0
    assert measures.evenness(np.array([0, 1, 2]), 3) == pytest.approx(1)
    assert measures.evenness(np.array([0, 1]), 3) == pytest.approx(0.5)


def test_bins_are_equally_wide_and_hold_the_ends() -> None:
    assert measures.binned(np.array([0.0, 1.0, 4.9, 5.1, 9.9, 10.0]), 2).tolist() == [0, 0, 0, 1, 1, 1]
    assert measures.binned(np.array([3.0, 3.0]), 4).tolist() in ([0, 0], [3, 3])


# Runs


def test_runs_are_the_same_whenever_they_are_made() -> None:
    first, second = digits_runs(), digits_runs()

    assert first == second
    assert len({run.run_uid for run in first}) == len(first) == 7


def test_storing_the_runs_twice_stores_them_once(tmp_path: Path) -> None:
    store = build_store({"uri": str(tmp_path)})

    store.write(digits_runs())
    store.write(digits_runs())

    counts = [store.query_sql(f"SELECT count(*) FROM {table}").item() for table in store.list_tables()]
    assert dict(zip(store.list_tables(), counts, strict=True)) == {
        "dataeval_bias": 2,
        "dataeval_cleaning": 2,
        "maite_evaluation": 3 * 4 * 11,
        "runs": 2 + 2 + 3 * (1 + 1 + 4),
    }


def test_quality_and_scores_of_a_dataset_join(tmp_path: Path) -> None:
    """The question that the capability store is there for."""
    store = build_store({"uri": str(tmp_path)})
    store.write(digits_runs())

    joined = store.query_sql(
        """
        SELECT m.model_id, m.output_value AS accuracy, c.near_duplicate_ratio
        FROM maite_evaluation m JOIN dataeval_cleaning c ON m.dataset_id = c.dataset_id
        WHERE m.output_key = 'accuracy' AND m.scope = 'overall' ORDER BY accuracy DESC
        """
    )
    assert joined["model_id"].to_list() == ["nearest-neighbours", "logistic-regression", "naive-bayes"]
    assert set(joined["near_duplicate_ratio"]) == {15 / 898}


def test_cleaning_is_about_all_images_of_each_half() -> None:
    split = pl.read_parquet(digits.IMAGES)

    for run, (dataset, half) in zip(cleaning_runs(), DATASETS.items(), strict=True):
        outputs = run.outputs
        assert isinstance(outputs, DataevalCleaningOutputs)
        assert run.facts.datasets == (dataset,)
        labels = split.filter(pl.col("split") == half)["label"]
        assert [image.labels for image in outputs.images] == [(str(label),) for label in labels]
        assert outputs.near_duplicates
        assert outputs.image_outliers


def test_a_repeated_image_is_found_again() -> None:
    images = read_images("digits-test")
    images.pixels[5] = images.pixels[11]

    assert (5, 11) in cleaning_of(images).exact_duplicates


def test_bias_knows_the_three_factors() -> None:
    for run in bias_runs():
        outputs = run.outputs
        assert isinstance(outputs, DataevalBiasOutputs)
        assert outputs.balance
        assert outputs.diversity
        assert set(outputs.balance) == set(outputs.diversity) == {"brightness", "contrast", "sharpness"}
        assert all(0 < score < 1 for score in [*outputs.balance.values(), *outputs.diversity.values()])
        assert len(outputs.uncovered) == outputs.image_count // 100


def test_evaluations_are_those_of_the_shipped_predictions() -> None:
    results = pl.read_csv(digits.RESULTS)
    right = dict(results.group_by("model").agg((pl.col("label") == pl.col("predicted")).mean().round(6)).iter_rows())

    found = {}
    for run in evaluation_runs():
        assert isinstance(run.outputs, MaiteEvaluationOutputs)
        assert run.facts.metrics == ("accuracy", "precision", "recall", "f1")
        found[run.facts.models[0]] = run.outputs.metrics["accuracy"].overall["accuracy"]
    assert found == right


def test_a_class_that_was_never_predicted_has_no_precision() -> None:
    labels = np.arange(10)

    outputs = evaluation_of(labels, np.where(labels == 3, 4, labels))

    assert outputs.metrics["precision"].classes["3"] is None
    assert outputs.metrics["precision"].classes["4"] == 0.5
    assert outputs.metrics["precision"].overall["precision"] == round(8.5 / 9, 6)
    assert outputs.metrics["recall"].classes == {name: float(name != "3") for name in CLASSES}
    assert outputs.metrics["f1"].classes["3"] == 0.0
