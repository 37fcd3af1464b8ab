"""The sample by hand: `python -m analytics_pipeline.sample start|stop|status|urls|add|late|update|delete`.

Belongs here: arguments, one line of outcome a command, exit codes.
Does not: doing it (`sources`, `changes`, `lease`).

`start` leaves the server running, by a file `postgres.keep-running` in the sample's folder, until `stop` removes it.
The other commands start it for as long as they take. A server in use elsewhere outlives `stop` until that use ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import psycopg

from analytics_pipeline.boundary import command
from analytics_pipeline.sample import changes, sources
from analytics_pipeline.sample.data import Changed, Source
from analytics_pipeline.sample.lease import keep_running, keeps_running, let_stop, stop_if_unused
from analytics_pipeline.settings import SOURCE_URL_VARIABLES, Home, find_home, source_url

Change = Callable[[psycopg.Connection, Source, int, int], Changed]
CHANGES: dict[str, tuple[str, Change]] = {
    "add": ("add rows of today", changes.add_rows),
    "late": ("add rows of past days", changes.add_late_rows),
    "update": ("change rows in place", changes.update_rows),
    "delete": ("delete rows", changes.delete_rows),
}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code, 1 with one sentence on standard error for a refusal of ours."""
    options = _parser().parse_args(arguments)
    try:
        home = find_home()
        if options.command == "start":
            lines = start(home, options.scale)
        elif options.command == "stop":
            lines = stop(home)
        elif options.command == "status":
            lines = status(home)
        elif options.command == "urls":
            lines = urls(home)
        else:
            lines = change(home, options.command, options.dataset, options.rows, options.seed)
    finally:
        sources.release()
    print("\n".join(lines))  # noqa: T201
    return 0


def start(home: Home, scale: float | None) -> list[str]:
    """Start the server, fill what is missing, and leave it running until `stop`."""
    sources.ensure_sample(home, scale)
    keep_running(sources.server_of(home))
    return [f"The sample in {home} runs until `python -m analytics_pipeline.sample stop`.", *urls(home)]


def stop(home: Home) -> list[str]:
    """Stop the server, or let it stop when its present users end."""
    server = sources.server_of(home)
    let_stop(server)
    if stop_if_unused(server):
        return [f"The sample in {home} is stopped."]
    return [f"The sample in {home} is in use; it stops when its last user ends."]


def status(home: Home) -> list[str]:
    """Say whether the server runs and until when."""
    server = sources.server_of(home)
    if not server.is_running():
        return [f"The sample in {home} is stopped."]
    until = "until `stop`" if keeps_running(server) else "while somebody uses it"
    return [f"The sample in {home} runs {until}, as process {server.pid()}."]


def urls(home: Home) -> list[str]:
    """The connection strings, which work while the server runs, and whether anything else uses them."""
    lines = [f"{name}: {url.get_secret_value()}" for name, url in sources.ensure_sample(home).items()]
    return [*lines, *_unused()]


def change(home: Home, command: str, dataset: str | None, rows: int, seed: int) -> list[str]:
    """Change rows of one sample source, or of each."""
    found = sources.ensure_sample(home)
    lines = []
    for name in [dataset] if dataset else list(sources.SOURCES):
        source = sources.SOURCES[name]
        with psycopg.connect(found[name].get_secret_value()) as connection:
            changed = CHANGES[command][1](connection, source, rows, seed)
        lines.append(
            f"{name}: {command} touched {changed.dataset_rows} rows of {source.dataset.table} "
            f"and {changed.results_rows} of {source.results.table} ({home})."
        )
    return [*lines, *_unused()]


def _unused() -> list[str]:
    present = [variable for variable in SOURCE_URL_VARIABLES if source_url(variable)]
    return [f"No dataset reads the sample: {', '.join(present)} is set."] if present else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analytics_pipeline.sample", description="The embedded sample sources."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    starting = commands.add_parser("start", help="start the server, fill it, and keep it running until stop")
    starting.add_argument(
        "--scale", type=float, help="size, 1 for about 20,000 traces; another size than the present makes it anew"
    )
    commands.add_parser("stop", help="stop the server; the data stays")
    commands.add_parser("status", help="say whether the server runs")
    commands.add_parser("urls", help="print the connection strings, for psql and the like")
    for name, (words, _) in CHANGES.items():
        changing = commands.add_parser(name, help=words)
        changing.add_argument("--dataset", choices=list(sources.SOURCES), help="one source only; all by default")
        changing.add_argument("--rows", type=_positive, default=10, help="cases to touch, each with its results")
        changing.add_argument("--seed", type=int, default=0, help="draws other cases")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
