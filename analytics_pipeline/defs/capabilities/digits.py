"""The sample's capability runs as assets: what cleaning, bias and evaluation say of the handwritten digits.

Belongs here: one asset a capability, and their job. Does not: the computation (`sample.capabilities`), which needs no
Dagster.
"""
# No `from __future__ import annotations`: Dagster reads the annotations of assets.

from typing import Any

import dagster as dg

_GROUP = "capabilities"


@dg.asset(
    io_manager_key="capability_store",
    group_name=_GROUP,
    kinds={"parquet"},
    description="Duplicates, outliers and class balance of both halves of the digits: rows of `dataeval_cleaning`.",
)
def digits_cleaning() -> Any:
    """Cleaning."""
    from analytics_pipeline.sample.capabilities import cleaning_runs  # noqa: PLC0415 - few commands compute anything

    return cleaning_runs()


@dg.asset(
    io_manager_key="capability_store",
    group_name=_GROUP,
    kinds={"parquet"},
    description="How both halves of the digits cover what there is to see: rows of `dataeval_bias`.",
)
def digits_bias() -> Any:
    """Bias."""
    from analytics_pipeline.sample.capabilities import bias_runs  # noqa: PLC0415 - as above

    return bias_runs()


@dg.asset(
    io_manager_key="capability_store",
    group_name=_GROUP,
    kinds={"parquet"},
    description="What four metrics say of three classifiers of the digits: rows of `maite_evaluation`.",
)
def digits_evaluation() -> Any:
    """Evaluation."""
    from analytics_pipeline.sample.capabilities import evaluation_runs  # noqa: PLC0415 - as above

    return evaluation_runs()


digits_capabilities_job = dg.define_asset_job(
    "digits_capabilities_job",
    selection=dg.AssetSelection.assets(digits_cleaning, digits_bias, digits_evaluation),
    description="Measures the handwritten digits and their classifiers, and stores what came out as capability runs.",
)
