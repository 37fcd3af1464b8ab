"""An asset of your own on top of the published store: a leaderboard of models, with its figures in Dagster's UI.

Copy it to `analytics_pipeline/defs/leaderboard.py` (any name; not into a folder that holds a `defs.yaml`) and it is
part of the code location. `published` is a resource of that location: a DuckDB connection that can only read.
"""

import dagster as dg
from dagster_duckdb import DuckDBResource

LEADERBOARD = """
SELECT model_name, count(*) AS results, round(avg(metric_score), 4) AS mean_score
FROM monitoring_data
GROUP BY model_name
ORDER BY mean_score DESC, model_name
"""


@dg.asset(
    deps=["monitoring_data"],
    group_name="monitoring",
    kinds={"duckdb"},
    description="Models by their mean score over all of `monitoring`.",
)
def model_leaderboard(published: dg.ResourceParam[DuckDBResource]) -> dg.MaterializeResult[None]:
    """Rank the models of the newest version of the store."""
    with published.get_connection() as connection:
        rows = connection.execute(LEADERBOARD).fetchall()
    lines = ["| model | results | mean score |", "|---|---:|---:|"]
    lines += [f"| {model} | {results} | {score} |" for model, results, score in rows]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "best_model": rows[0][0] if rows else "none yet",
            "leaderboard": dg.MetadataValue.md("\n".join(lines)),
        }
    )
