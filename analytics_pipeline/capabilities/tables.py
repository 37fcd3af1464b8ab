"""The records of the seven known capabilities: one class a table, fields as the analytics store of checkmaite has them.

Belongs here: names, types and NULLs of their columns. Does not: computing them (`extraction`), or your own records,
which are subclasses of `BaseRecord` wherever you like.

A field is Optional for one of two reasons: the capability does not measure it here (a field of object detection in
image classification, metadata factors of a dataset without any), or there is no number to store (an infinite ratio, the
mean of nothing, an undefined metric). NULL then keeps an AVG over many runs usable.
"""

from __future__ import annotations

from analytics_pipeline.capabilities.records import BaseRecord


class DataevalCleaningRecord(BaseRecord, table_name="dataeval_cleaning"):
    """One row a dataset: duplicates, outliers, looks of the images and balance of the classes.

    Args:
        exact_duplicate_count: images that stand in some group of equal ones, all of the group.
        near_duplicate_count: the same for groups of similar ones.
        target_outlier_count: outliers among bounding boxes; NULL for image classification.
        target_outlier_ratio: their share of all labels; NULL for image classification.
        mean_width: NULL where there is no image, like all means and deviations over images.
        class_imbalance_ratio: images of the largest class over those of the smallest; NULL where a class has none.
    """

    dataset_id: str
    exact_duplicate_count: int
    exact_duplicate_ratio: float
    near_duplicate_count: int
    near_duplicate_ratio: float
    image_outlier_count: int
    image_outlier_ratio: float
    class_count: int
    label_count: int
    image_count: int
    target_outlier_count: int | None = None
    target_outlier_ratio: float | None = None
    mean_width: float | None
    mean_height: float | None
    std_aspect_ratio: float | None
    mean_brightness: float | None
    mean_contrast: float | None
    mean_sharpness: float | None
    class_imbalance_ratio: float | None
    min_class_image_count: int
    max_class_image_count: int
    mean_labels_per_image: float


class DataevalBiasRecord(BaseRecord, table_name="dataeval_bias"):
    """One row a dataset: coverage, and balance and diversity over its metadata factors; NULL where it has none.

    Args:
        coverage_uncovered_count: images with few others near them.
        coverage_radius: the distance beyond which an image counts as uncovered; NULL where there was none to find.
        balance_mean: over factors, of the mutual information of factor and class.
        balance_factors_above_05: factors with 0.5 or more.
        diversity_mean: over factors, of how evenly each fills its range.
        diversity_factors_below_04: factors with less than 0.4.
    """

    dataset_id: str
    coverage_total: int
    coverage_uncovered_count: int
    coverage_uncovered_ratio: float
    coverage_radius: float | None
    balance_num_factors: int | None = None
    balance_mean: float | None = None
    balance_max: float | None = None
    balance_factors_above_05: int | None = None
    diversity_num_factors: int | None = None
    diversity_mean: float | None = None
    diversity_min: float | None = None
    diversity_factors_below_04: int | None = None


class DataevalFeasibilityRecord(BaseRecord, table_name="dataeval_feasibility"):
    """One row a dataset: bounds of the Bayes error rate, and the health of its boxes; NULL for image classification."""

    dataset_id: str
    ber_upper: float
    ber_lower: float
    num_instances: int | None = None
    num_classes: int | None = None
    small_object_ratio: float | None = None
    truncated_bbox_ratio: float | None = None
    overlap_image_ratio: float | None = None
    health_warning_count: int | None = None


class DataevalShiftRecord(BaseRecord, table_name="dataeval_shift"):
    """One row a run, which compares two datasets: three drift tests, and samples out of distribution.

    Args:
        mmd_drifted: maximum mean discrepancy; `cvm` is Cramér-von Mises, `ks` Kolmogorov-Smirnov.
        cvm_feature_drift_count: features that drifted by themselves.
        ood_total: samples of the evaluation dataset.
        ood_mean_instance_score: NULL where there is no sample, like the deviation and the maximum.
    """

    reference_dataset_id: str
    evaluation_dataset_id: str
    mmd_drifted: bool
    mmd_distance: float
    mmd_p_val: float
    mmd_threshold: float
    cvm_drifted: bool
    cvm_distance: float
    cvm_p_val: float
    cvm_threshold: float
    cvm_feature_drift_count: int
    ks_drifted: bool
    ks_distance: float
    ks_p_val: float
    ks_threshold: float
    ks_feature_drift_count: int
    ood_count: int
    ood_total: int
    ood_ratio: float
    ood_mean_instance_score: float | None
    ood_std_instance_score: float | None
    ood_max_instance_score: float | None


class MaiteEvaluationRecord(BaseRecord, table_name="maite_evaluation"):
    """One row a metric and output key over all data, with scope `overall`; and one a class, with scope `class`.

    Args:
        output_value: NULL where the metric is undefined, such as the precision of a class that was never predicted.
        class_name: NULL with scope `overall`.
    """

    dataset_id: str
    model_id: str
    metric_id: str
    output_key: str
    output_value: float | None
    scope: str = "overall"
    class_name: str | None = None


class NrtkRobustnessRecord(BaseRecord, table_name="nrtk_robustness"):
    """One row a step of a perturbation and metric key: together the curve of a score over growing perturbation.

    Args:
        perturber_class: such as `BrightnessPerturber`.
        perturber_type: the same in words: `Brightness Perturber`.
        theta_key: the parameter that grows, such as `factor`.
        theta_index: the step, from 0.
        theta_value: of the parameter at this step.
        metric_value: NULL where the metric is undefined.
        is_primary: whether `metric_key` is the one that the capability is about.
    """

    dataset_id: str
    model_id: str
    metric_id: str
    perturber_class: str
    perturber_type: str
    theta_key: str
    theta_index: int
    theta_value: float
    metric_key: str
    metric_value: float | None
    is_primary: bool


class XaitkExplainableRecord(BaseRecord, table_name="xaitk_explainable"):
    """One row a saliency map: of an image in image classification, of a detection in object detection.

    Args:
        saliency_generator_type: class of the generator, such as `RISEStack`.
        image_index: the image's place in the dataset, from 0.
        gt_label: what the image shows in truth; NULL for object detection.
        image_id: of the image in its dataset; NULL for image classification, like the three below.
        detection_index: the detection's place in the image, from 0.
        predicted_label: of the detection.
        confidence: of the detection.
        positive_saliency_ratio: share of the map's pixels above 0.
    """

    dataset_id: str
    model_id: str
    saliency_generator_type: str
    image_index: int
    gt_label: str | None = None
    image_id: str | None = None
    detection_index: int | None = None
    predicted_label: str | None = None
    confidence: float | None = None
    mean_saliency: float
    max_saliency: float
    std_saliency: float
    positive_saliency_ratio: float
