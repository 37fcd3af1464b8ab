"""Normalisation: which name a source column has in the store.

Belongs here: the built-in maps of the shipped datasets and the rule for clashes.
Does not: types (`postgres.types`), or which columns there are (`postgres.describe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from analytics_pipeline.errors import ColumnNamesClash

VERSION = 1
"""Part of every fingerprint's context: raised when a map changes, so that published tables are rebuilt."""


class Normalization(StrEnum):
    """A built-in map of column names."""

    MONITORING = "monitoring"
    EVAL = "eval"
    HUMAN_SIGNALS = "human_signals"
    NONE = "none"


def _inverted(targets: Mapping[str, str]) -> Mapping[str, str]:
    return {key: target for target, keys in targets.items() for key in keys.split()}


_MAPS: Mapping[Normalization, Mapping[str, str]] = {
    Normalization.MONITORING: _inverted(
        {
            "dataset_id": "id record_id dataset_id",
            "timestamp": "time created_at dataset_created_at timestamp",
            "model_name": "model agent agent_name",
            "latency": "latency_ms response_time",
            "has_errors": "error",
            "query": "input prompt user_input",
            "actual_output": "output response model_output completion",
            "evaluation_name": "eval_name evaluationname experiment experiment_name",
            "environment": "env stage",
        }
    ),
    Normalization.EVAL: _inverted(
        {
            "dataset_id": "id record_id eval_id",
            "query": "input prompt question",
            "actual_output": "output response completion answer",
            "expected_output": "expected ground_truth reference",
            "evaluation_name": "experiment run_name experiment_name",
            "metric_name": "metric",
            "metric_score": "score metric_value value",
        }
    ),
    Normalization.HUMAN_SIGNALS: {},
    Normalization.NONE: {},
}


def column_key(name: str) -> str:
    """The spelling under which a column is looked up: lower-case, trimmed, spaces and hyphens to `_`."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def normalized_names(
    table: str, names: Sequence[str], normalization: Normalization, columns: Mapping[str, str]
) -> dict[str, str]:
    """The store's name of each source column.

    Where a column already has the name that another would get, it wins and the other keeps its own.

    Args:
        table: for errors only.
        names: source columns in their order.
        normalization: the built-in map.
        columns: explicit renames by exact source name; they win over the map.

    Raises:
        ColumnNamesClash: two columns would be renamed to one name; names both.
    """
    explicit = {name: columns[name] for name in names if name in columns}
    wanted = {name: explicit.get(name) or _mapped(name, normalization) for name in names}
    settled = set(explicit.values()) | {name for name, target in wanted.items() if target == name}
    renamed: dict[str, str] = {}
    claimed: dict[str, str] = {}
    for name, target in wanted.items():
        given_up = name not in explicit and target in settled
        renamed[name] = name if given_up else target
        other = claimed.setdefault(renamed[name].lower(), name)  # SQL does not tell names apart by case
        if other != name:
            raise ColumnNamesClash(table, other, name, renamed[name])
    return renamed


def _mapped(name: str, normalization: Normalization) -> str:
    key = column_key(name)
    if normalization is Normalization.HUMAN_SIGNALS:
        return key
    return _MAPS[normalization].get(key, name)
