"""`maite_evaluation`: what metrics say of a model on a dataset.

Belongs here: the outputs of that capability and their rows. Does not: predictions, or computing a metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from analytics_pipeline.capabilities.extraction.outputs import Measured, Name, Number, Outputs, RunFacts
from analytics_pipeline.capabilities.tables import MaiteEvaluationRecord
from analytics_pipeline.errors import RunRefused


class MetricValues(Measured):
    """What one metric says.

    Args:
        overall: value by output key; null where it is undefined.
        class_key: the output key that the values of single classes belong to.
        classes: value by class; null where it is undefined.
    """

    overall: Annotated[Mapping[Name, Number | None], Field(min_length=1)]
    class_key: Name | None = None
    classes: Mapping[Name, Number | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.classes and self.class_key is None:
            raise ValueError("classes needs class_key: the output key that its values belong to")
        if self.class_key is not None and self.class_key not in self.overall:
            raise ValueError(f"class_key {self.class_key!r} is not among the output keys of overall")
        return self


class MaiteEvaluationOutputs(Outputs):
    """What the metrics of a run say.

    Args:
        metrics: by the metric's id, which the run names too.
    """

    capability: ClassVar[str] = "maite_evaluation"

    metrics: Annotated[Mapping[Name, MetricValues], Field(min_length=1)]


def extract_maite_evaluation(outputs: MaiteEvaluationOutputs, run: RunFacts) -> Sequence[MaiteEvaluationRecord]:
    """One row a metric and output key, and one a metric and class.

    Raises:
        RunRefused: the run has not exactly one dataset and one model, or does not name a metric.
    """
    unnamed = sorted(set(outputs.metrics) - set(run.metrics))
    if unnamed:
        raise RunRefused(run.run_uid, f"has values of the metric {unnamed[0]!r}, which is not among its metrics")
    stamp, dataset, model = run.stamp(), run.only_dataset(), run.only_model()

    def row(metric: str, key: str, value: float | None, of_class: str | None) -> MaiteEvaluationRecord:
        return MaiteEvaluationRecord(
            **stamp,
            dataset_id=dataset,
            model_id=model,
            metric_id=metric,
            output_key=key,
            output_value=value,
            scope="overall" if of_class is None else "class",
            class_name=of_class,
        )

    rows = []
    for metric, values in outputs.metrics.items():
        rows += [row(metric, key, value, None) for key, value in values.overall.items()]
        if values.class_key is not None:
            rows += [row(metric, values.class_key, value, name) for name, value in values.classes.items()]
    return rows
