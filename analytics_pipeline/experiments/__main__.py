"""`python -m analytics_pipeline.experiments build | export | import PATH`.

Belongs here: arguments, what is printed. Does not: the work (`build`, `exports`, `importing`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analytics_pipeline.boundary import command
from analytics_pipeline.experiments.build import build
from analytics_pipeline.experiments.exports import TOP_RUNS, TREND_METRICS, export
from analytics_pipeline.experiments.importing import import_lakehouse
from analytics_pipeline.experiments.ranking import Best
from analytics_pipeline.experiments.writing import lakehouse


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; gives the exit code."""
    asked = _parser().parse_args(arguments)
    print(_COMMANDS[asked.command](asked))  # noqa: T201 - what a command is for
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analytics_pipeline.experiments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="make analytics.duckdb anew")
    building.add_argument(
        "--best",
        action="append",
        metavar="COLUMN=max:METRIC",
        help="what the leaderboard ranks by from now on, the first one first; or COLUMN=min:METRIC",
    )
    exporting = commands.add_parser("export", help="write leaderboard.json, metric_trends.json and index.html")
    exporting.add_argument("--to", type=Path, help="folder for them; `exports` in the home, or beside the root")
    exporting.add_argument("--metric", action="append", help=f"of the trends: {', '.join(TREND_METRICS)}")
    exporting.add_argument("--top", type=int, default=TOP_RUNS, help="so many runs have trends")
    importing = commands.add_parser("import", help="take in runs.parquet, metrics.parquet, … of a folder")
    importing.add_argument("path", type=Path)
    for each in (building, exporting, importing):
        each.add_argument("--root", type=Path, help="of the lakehouse; that of the home by default")
    return parser


def _build(asked: argparse.Namespace) -> str:
    ranking = [Best.parsed(text) for text in asked.best] if asked.best else None
    return f"Built {build(lakehouse(asked.root), ranking)}"


def _export(asked: argparse.Namespace) -> str:
    done = export(asked.root, asked.to, metrics=asked.metric or TREND_METRICS, top=asked.top)
    return f"Exported {done.runs} runs and {done.points} points of trends to {done.folder}"


def _import(asked: argparse.Namespace) -> str:
    counts = import_lakehouse(asked.path, asked.root)
    return f"Imported {', '.join(f'{rows} rows of {table}' for table, rows in counts.items()) or 'no rows'}"


_COMMANDS = {"build": _build, "export": _export, "import": _import}

if __name__ == "__main__":
    sys.exit(main())
