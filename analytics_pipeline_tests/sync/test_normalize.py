"""Normalisation: every rule of the built-in maps, clashes, and the incremental column that gets another name."""

from __future__ import annotations

import pytest

from analytics_pipeline.errors import ColumnMissing, ColumnNamesClash
from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import Selection
from analytics_pipeline.sync.normalize import Normalization, column_key, normalized_names
from analytics_pipeline_tests.sync.postgres_reading import execute
from analytics_pipeline_tests.sync.scenario import NOW, fill, job_of, published, spec_of

MONITORING = {
    "dataset_id": ("id", "record_id", "dataset_id"),
    "timestamp": ("time", "created_at", "dataset_created_at", "timestamp"),
    "model_name": ("model", "agent", "agent_name"),
    "latency": ("latency_ms", "response_time"),
    "has_errors": ("error",),
    "query": ("input", "prompt", "user_input"),
    "actual_output": ("output", "response", "model_output", "completion"),
    "evaluation_name": ("eval_name", "evaluationname", "experiment", "experiment_name"),
    "environment": ("env", "stage"),
}
EVAL = {
    "dataset_id": ("id", "record_id", "eval_id"),
    "query": ("input", "prompt", "question"),
    "actual_output": ("output", "response", "completion", "answer"),
    "expected_output": ("expected", "ground_truth", "reference"),
    "evaluation_name": ("experiment", "run_name", "experiment_name"),
    "metric_name": ("metric",),
    "metric_score": ("score", "metric_value", "value"),
}
RULES = [
    (normalization, source, target)
    for normalization, targets in ((Normalization.MONITORING, MONITORING), (Normalization.EVAL, EVAL))
    for target, sources in targets.items()
    for source in sources
]


def names(normalization: Normalization, *columns: str, **explicit: str) -> dict[str, str]:
    return normalized_names("demo_dataset", columns, normalization, explicit)


@pytest.mark.parametrize(("normalization", "source", "target"), RULES)
def test_a_known_column_gets_the_stores_name(normalization: Normalization, source: str, target: str) -> None:
    """Otherwise the halves are not joined, or a dashboard looks for a column that is not there."""
    assert names(normalization, source) == {source: target}
    assert names(normalization, target) == {target: target}
    assert names(normalization, f" {source.upper().replace('_', '-')} ").popitem()[1] == target


@pytest.mark.parametrize(("normalization", "column"), [("monitoring", "Score"), ("eval", "created_at"), ("none", "ID")])
def test_any_other_column_keeps_its_spelling(normalization: str, column: str) -> None:
    """Otherwise a user's own query stops working after a sync."""
    assert names(Normalization(normalization), column) == {column: column}


def test_human_signals_columns_become_their_keys() -> None:
    """Otherwise the columns of the forms have to be quoted for ever."""
    assert names(Normalization.HUMAN_SIGNALS, " Team-Name ", "Signal Score", "id") == {
        " Team-Name ": "team_name",
        "Signal Score": "signal_score",
        "id": "id",
    }
    assert column_key(" A b-C ") == "a_b_c"


def test_a_column_that_has_the_name_already_keeps_it() -> None:
    """Otherwise the column that a query names itself is replaced by a guess."""
    found = names(Normalization.MONITORING, "id", "dataset_id", "model", "model_name")
    assert found == {"id": "id", "dataset_id": "dataset_id", "model": "model", "model_name": "model_name"}


@pytest.mark.parametrize(
    ("normalization", "columns", "explicit", "named"),
    [
        ("monitoring", ("id", "record_id"), {}, ("'id'", "'record_id'", "'dataset_id'")),
        ("human_signals", ("A b", "a-b"), {}, ("'A b'", "'a-b'", "'a_b'")),
        ("human_signals", ("Id", "id"), {}, ("'Id'", "'id'")),
        ("none", ("Id", "id"), {}, ("'Id'", "'id'")),
        ("none", ("a", "b"), {"a": "c", "b": "c"}, ("'a'", "'b'", "'c'")),
        ("none", ("a", "b"), {"a": "b"}, ("'a'", "'b'")),
    ],
)
def test_two_columns_for_one_name_are_an_error_that_names_both(
    normalization: str, columns: tuple[str, ...], explicit: dict[str, str], named: tuple[str, ...]
) -> None:
    """Otherwise one of them overwrites the other without a word."""
    with pytest.raises(ColumnNamesClash) as caught:
        names(Normalization(normalization), *columns, **explicit)
    assert all(each in str(caught.value) for each in named)


def test_an_explicit_name_wins_over_the_map() -> None:
    """Otherwise `columns` could not repair what the map guesses wrong."""
    assert names(Normalization.MONITORING, "id", "key", key="dataset_id") == {"id": "id", "key": "dataset_id"}
    assert names(Normalization.MONITORING, "time", time="clock") == {"time": "clock"}


def test_an_unknown_column_under_columns_is_an_error(postgres_url: str, store: Store) -> None:
    """Otherwise a typing error renames nothing, and the wrong name is published."""
    fill(postgres_url)
    spec = spec_of(columns={"modle": "model_name"})
    with pytest.raises(ColumnMissing, match=r"no column 'modle' .*renamed under `columns`.* id, created_at, model"):
        job_of(store, postgres_url, spec).refresh(now=NOW)
    with pytest.raises(ValueError, match="columns gives model an empty name"):
        spec_of(columns={"model": " "})


def test_a_half_without_dataset_id_is_an_error(postgres_url: str, store: Store) -> None:
    """Otherwise the halves cannot be joined, which shows days later in an empty view."""
    fill(postgres_url)
    spec = spec_of(results_query="SELECT created_at, score FROM scores")
    with pytest.raises(ColumnMissing, match=r"demo_results: the query gives no column 'dataset_id' .* joined by it"):
        job_of(store, postgres_url, spec).refresh(now=NOW)


def test_A6_a_renamed_incremental_column_works_on_every_run(  # noqa: N802 - a finding's id
    postgres_url: str, store: Store
) -> None:
    """Otherwise the second run looks for a column by the name that the first one took away."""
    fill(postgres_url)
    job = job_of(store, postgres_url, spec_of(incremental_column="created_at", normalize="monitoring"))
    job.refresh(now=NOW)
    execute(postgres_url, "INSERT INTO records VALUES (9, '2024-01-07', 'late'), (1, '2024-01-08', 'twice')")
    outcome = job.refresh(now=NOW)
    assert [list(half.partitions) for half in outcome.halves.values()] == [["2024-01-07", "2024-01-08"]]
    job.replace(Selection(partitions=frozenset({"2024-01-07"})), now=NOW)
    assert not job.refresh(now=NOW).halves
    rows = published(store, 'SELECT DISTINCT dataset_id, model_name, "dataset_timestamp"::DATE::VARCHAR FROM demo_data')
    assert ("1", "twice", "2024-01-08") in {(str(key), model, day) for key, model, day in rows}
