"""The command `python -m analytics_pipeline.housekeeping prune`, for who runs without the maintenance job.

Belongs here: arguments, finding the instance as Dagster's commands do, words on the terminal. Does not: pruning itself.
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
from dagster._core.instance.config import is_dagster_home_set

from analytics_pipeline.boundary import command
from analytics_pipeline.housekeeping.prune import AT_MOST, DEFAULT_AGE, prune
from analytics_pipeline.settings import environment_value

_MOST = 100_000
"""More days than computers have a past, more runs than one night removes."""


@command
def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analytics_pipeline.housekeeping", description="Dagster's storage.")
    commands = parser.add_subparsers(dest="command", required=True)
    pruning = commands.add_parser("prune", help="remove old runs and events that no status is computed from")
    pruning.add_argument(
        "--days", type=_positive, default=DEFAULT_AGE.days, help="age from which runs go (%(default)s)"
    )
    pruning.add_argument("--at-most", type=_positive, default=AT_MOST, help="runs to remove (%(default)s)")
    chosen = parser.parse_args(arguments)
    home = environment_value("DAGSTER_HOME") or ""
    if is_dagster_home_set() and not Path(home).is_dir():
        sys.stderr.write(f"DAGSTER_HOME={home} is not a folder. Set it to Dagster's home, or unset it.\n")
        return 1
    if not is_dagster_home_set() and not Path("dagster.yaml").is_file():
        sys.stderr.write("There is no dagster.yaml here: go to the project's folder, or set DAGSTER_HOME.\n")
        return 1
    with dg.DagsterInstance.get() if is_dagster_home_set() else dg.DagsterInstance.from_config(".") as instance:
        pruned = prune(instance, timedelta(days=chosen.days), at_most=chosen.at_most)
    sys.stdout.write(
        f"Removed {pruned.runs} runs older than {chosen.days} days; {pruned.kept} stay, because a status is computed "
        f"from them.\n"
    )
    return 0


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"is a number from 1 to {_MOST:,}")
    return number


if __name__ == "__main__":
    sys.exit(main())
