"""The views of the lakehouse: what counts of the rows that were logged, and the leaderboard.

Belongs here: their SQL, the columns that tables have before anything is logged. Does not: where the views are created
(`store.append.published`, `database`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analytics_pipeline.experiments.ranking import Best, Goal
from analytics_pipeline.store.schema import Column, Columns, identifier, literal

RAW = "experiments_raw"
"""Schema of the tables themselves: every row that was ever logged."""

LEADERBOARD = "leaderboard"

_MOMENT = Column("logged_at", "TIMESTAMP WITH TIME ZONE")
_RUN = Column("run_id", "VARCHAR")

TABLES: Mapping[str, Columns] = {
    "runs": (
        _RUN,
        Column("status", "VARCHAR"),
        _MOMENT,
        Column("experiment_id", "VARCHAR"),
        Column("fields", "VARCHAR"),
    ),
    "metrics": (_RUN, Column("epoch", "BIGINT"), Column("metric", "VARCHAR"), Column("value", "DOUBLE"), _MOMENT),
    "configs": (_RUN, _MOMENT),
    "datasets": (
        Column("dataset_id", "VARCHAR"),
        Column("name", "VARCHAR"),
        Column("num_samples", "BIGINT"),
        Column("path", "VARCHAR"),
        _MOMENT,
    ),
    "artifacts": (_RUN, Column("path", "VARCHAR"), Column("type", "VARCHAR"), Column("size", "BIGINT"), _MOMENT),
}
"""Columns of each table; `runs` and `configs` have one more for each hyper-parameter."""

_KEYS = {"configs": "run_id", "datasets": "dataset_id", "artifacts": "run_id, path"}

_LATEST_ROW = """\
SELECT * FROM {raw}.{table}
QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY logged_at DESC) = 1"""

# A row that says nothing but a status hides nothing else: `concat_ws` leaves out what is NULL, and then has the run
# alone.
_RUNS = f"""\
WITH latest AS (
    SELECT run_id, arg_max_null(status, logged_at) AS status, max(logged_at) AS logged_at,
        arg_max(experiment_id, logged_at) AS experiment_id, arg_max(fields, logged_at) AS fields
    FROM {RAW}.runs GROUP BY run_id
), told AS (
    SELECT * EXCLUDE (status, logged_at, experiment_id, fields) FROM {RAW}.runs
    WHERE concat_ws('|', *COLUMNS(* EXCLUDE (status, logged_at, experiment_id, fields))) <> run_id
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY logged_at DESC) = 1
)
SELECT l.*, t.* EXCLUDE (run_id)
FROM latest AS l LEFT JOIN told AS t ON t.run_id = l.run_id"""

# An aggregate takes two thirds of the time of a window, and a condition on the run still reaches the files.
_METRICS = f"""\
SELECT run_id, epoch, metric, arg_max_null("value", logged_at) AS "value", max(logged_at) AS logged_at
FROM {RAW}.metrics
GROUP BY run_id, epoch, metric"""

# One pass over the metrics, grouped by two columns, takes half the time of a group for each metric.
_LEADERBOARD_SQL = """\
WITH latest AS (
    SELECT run_id, epoch, {latest} FROM {raw}.metrics GROUP BY run_id, epoch
), bests AS (
    SELECT run_id, {bests}, max(epoch) AS epochs_completed FROM latest GROUP BY run_id
), hyperparameters AS (
    SELECT COLUMNS(lambda c: lower(c) NOT IN ({taken})) FROM configs
)
SELECT r.run_id, r.status, h.* EXCLUDE (run_id), {columns}, b.epochs_completed
FROM (SELECT run_id, arg_max_null(status, logged_at) AS status FROM {raw}.runs GROUP BY run_id) AS r
LEFT JOIN hyperparameters AS h ON h.run_id = r.run_id
LEFT JOIN bests AS b ON b.run_id = r.run_id
ORDER BY b.{first} {direction} NULLS LAST, r.run_id"""


def views_sql(ranking: Sequence[Best]) -> Mapping[str, str]:
    """The SELECT of each view, in an order in which each finds those that it reads."""
    latest = {name: _LATEST_ROW.format(raw=RAW, table=name, key=key) for name, key in _KEYS.items()}
    return {"runs": _RUNS, **latest, "metrics": _METRICS, LEADERBOARD: leaderboard_sql(ranking)}


def leaderboard_sql(ranking: Sequence[Best]) -> str:
    """One row a run, the best first; a hyper-parameter that has the name of another column is left out."""
    taken = ["status", "logged_at", "epochs_completed", *(best.column.lower() for best in ranking)]
    return _LEADERBOARD_SQL.format(
        raw=RAW,
        latest=", ".join(_latest_sql(number, best) for number, best in enumerate(ranking)),
        bests=", ".join(_best_sql(number, best) for number, best in enumerate(ranking)),
        taken=", ".join(map(literal, taken)),
        columns=", ".join(f"b.{identifier(best.column)}" for best in ranking),
        first=identifier(ranking[0].column),
        direction=_direction(ranking[0]),
    )


def _latest_sql(number: int, best: Best) -> str:
    return f'arg_max_null("value", logged_at) FILTER (metric = {literal(best.metric)}) AS latest_{number}'


def _best_sql(number: int, best: Best) -> str:
    value = f"latest_{number}"
    return f"{best.goal.value}({value}) FILTER (NOT isnan({value})) AS {identifier(best.column)}"


def _direction(best: Best) -> str:
    return "DESC" if best.goal is Goal.MAX else "ASC"
